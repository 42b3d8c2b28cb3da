"""Region hierarchies of a picture from the library alone, and the one home of their learned weights."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import yaml
from skimage import data

import novelseg.regions
from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN
from novelseg.data.store import read_rgb
from novelseg.formats import hdf5
from novelseg.formats.hierarchies import HIERARCHIES
from novelseg.formats.images import IMAGES
from novelseg.regions import build_hierarchy, cut, hierarchy, learned, segment_regions
from novelseg.regions.builders import METHODS, HierarchySettings, new_builder
from novelseg.regions.weights import BSDS500
from stages.params.hierarchies import Params
from tests.makers import Project, tiny_values
from workflow.config import FORMER_REGION_WEIGHTS, check
from workflow.plan import REGION_WEIGHTS

ROOT = Path(__file__).parent.parent
PHOTO = data.astronaut()[:120, :180]


def test_a_picture_is_divided_into_regions() -> None:
    labels = segment_regions(PHOTO, tau=0.45)
    assert labels.shape == PHOTO.shape[:2]
    assert labels.dtype == np.uint16
    numbers = np.unique(labels)
    assert numbers.tolist() == list(range(len(numbers)))
    assert 2 <= len(numbers) < len(np.unique(segment_regions(PHOTO, tau=0.1)))
    assert segment_regions(PHOTO, tau=1).max() == 0


def test_large_pictures_are_reduced_and_labels_have_the_picture_s_size() -> None:
    tree = build_hierarchy(PHOTO, longest_side=90)
    assert tree.basins.shape == (60, 90)
    assert np.array_equal(segment_regions(PHOTO, 0.3, longest_side=90), cut(tree, 0.3, (120, 180)))


def test_the_library_builds_the_hierarchy_of_the_stage(images_only: Project) -> None:
    shard, tree = images_only.images()[0], images_only.path("hierarchies/0.h5")
    assert images_only.run("hierarchies", "--images", shard, "--weights", BSDS500, "--out", tree) == 0
    with hdf5.opened(Path(shard), IMAGES) as file:
        row = int(np.flatnonzero(file["split"][:] == TRAIN)[0])
        own = build_hierarchy(read_rgb(file, row), tiny_values()["hierarchies"]["longest_side"])
    with hdf5.opened(tree, HIERARCHIES) as file:
        for name in ("basins", "parents", "heights"):
            stored = hdf5.Ragged.get(file, name, 0)
            assert stored.tobytes() == getattr(own, name).tobytes()


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (PHOTO[..., 0], {}, "the image is uint8 of shape (120, 180); expected uint8 of shape (height, width, 3)"),
        (PHOTO / 255, {}, "the image is float64 of shape (120, 180, 3); expected uint8"),
        ("photo.jpg", {}, "the image is str of shape (); expected uint8"),
        (PHOTO, {"tau": 45}, "tau is 45; expected a contour strength from 0 to 1"),
        (PHOTO, {"longest_side": 0}, "longest_side is 0; expected at least 1 px"),
    ],
)
def test_arguments_that_do_not_fit(image: np.ndarray, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError) as caught:
        segment_regions(image, **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_too_many_regions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierarchy, "MAX_REGIONS", 5)
    with pytest.raises(InputError, match="regions, expected at most 5; lower longest_side, which is 500 px"):
        build_hierarchy(PHOTO)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="method is 'mcg'; expected one of ucm, felzenszwalb, slic, precomputed"):
        new_builder(HierarchySettings(method="mcg"))


def test_names_that_the_package_does_not_have() -> None:
    with pytest.raises(AttributeError, match=r"module 'novelseg.regions' has no attribute 'segment'"):
        _ = novelseg.regions.segment


def test_methods_and_defaults_are_those_of_the_section() -> None:
    assert set(get_args(get_type_hints(Params)["method"])) == set(METHODS)
    base = yaml.safe_load((ROOT / "workflow/presets/base.yaml").read_text(encoding="utf8"))
    assert Params(**base["hierarchies"]).to(HierarchySettings) == HierarchySettings()
    assert base["regions"]["tau"] == learned.TAU


# --- the weights


def test_the_weights_have_one_home() -> None:
    base = yaml.safe_load((ROOT / "workflow/presets/base.yaml").read_text(encoding="utf8"))
    assert base["hierarchies"]["weights"] == REGION_WEIGHTS
    assert ROOT / REGION_WEIGHTS == BSDS500
    deps = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf8"))["stages"]["hierarchies"]["deps"]
    assert REGION_WEIGHTS in deps
    assert "weights" not in deps


def test_parameter_files_of_earlier_versions_find_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = tiny_values(hierarchies={"weights": FORMER_REGION_WEIGHTS})
    config = check(values, Path("params.yaml"))
    assert config.region_weights == REGION_WEIGHTS
    assert config.values("hierarchies")["weights"] == FORMER_REGION_WEIGHTS  # as the records of then have it
    own = tmp_path / FORMER_REGION_WEIGHTS
    own.parent.mkdir()
    own.touch()
    assert config.region_weights == FORMER_REGION_WEIGHTS
    values["hierarchies"]["method"] = "slic"
    assert check(values, Path("params.yaml")).region_weights == ""
