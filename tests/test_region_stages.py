"""The stages `hierarchies` and `regions`: methods, odd images, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.segmentation import felzenszwalb, slic

from novelseg.core.files import digest
from novelseg.core.labels import TRAIN
from novelseg.data.encoded import decode_rgb
from novelseg.formats import hdf5
from novelseg.formats.hierarchies import HIERARCHIES
from novelseg.formats.images import IMAGES
from novelseg.formats.regions import REGIONS
from novelseg.regions import hierarchy
from tests.makers import REGION_WEIGHTS, Project, tiny_values, write_values


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two label maps differ by names alone."""
    pairs = np.unique(np.stack([a.reshape(-1), b.reshape(-1)]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(a)) == len(np.unique(b)))


def regions_of(path: Path) -> dict[str, np.ndarray]:
    """Label maps by image id."""
    with hdf5.opened(path, REGIONS) as file:
        shapes = zip(file["height"][:], file["width"][:], strict=True)
        return {
            name: hdf5.Ragged.get(file, "labels", row).reshape(shape)
            for row, (name, shape) in enumerate(zip(hdf5.texts(file, "id"), shapes, strict=True))
        }


def training_images(path: Path) -> dict[str, np.ndarray]:
    """Training images of a shard by id."""
    with hdf5.opened(path, IMAGES) as file:
        rows = np.flatnonzero(file["split"][:] == TRAIN)
        names = hdf5.texts(file, "id")
        return {names[row]: decode_rgb(hdf5.Ragged.get(file, "image", int(row))) for row in rows}


def with_method(project: Project, **changes: Any) -> None:
    """Write the project's parameters anew."""
    write_values(project.params, tiny_values(hierarchies=changes))


def segmented(project: Project, *words: object, tau: float = 0.45) -> dict[str, np.ndarray]:
    """Run both stages on the first shard."""
    tree, cut = project.path("hierarchies/0.h5"), project.path("regions/0.h5")
    assert project.run("hierarchies", "--images", project.images()[0], "--out", tree, *words) == 0
    assert project.run("regions", "--hierarchies", tree, "--out", cut) == 0
    return regions_of(cut)


def test_ucm_is_the_default_and_names_its_weights(images_only: Project) -> None:
    found = segmented(images_only, "--weights", REGION_WEIGHTS)
    assert set(found) == set(training_images(Path(images_only.images()[0])))
    with hdf5.opened(images_only.path("hierarchies/0.h5"), HIERARCHIES) as file:
        assert hdf5.attribute(file, "method") == "ucm"
        assert hdf5.attribute(file, "settings") == {"weights": digest(REGION_WEIGHTS), "longest_side": 96}


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({"method": "felzenszwalb", "scale": 50.0}, lambda image: felzenszwalb(image, scale=50.0)),
        ({"method": "slic", "segments": 12}, lambda image: slic(image, n_segments=12)),
    ],
)
def test_other_methods_are_the_librarys(images_only: Project, changes: dict[str, Any], plain: Any) -> None:
    with_method(images_only, **changes)
    found = segmented(images_only)
    for name, image in training_images(Path(images_only.images()[0])).items():
        assert same_partition(found[name], plain(image))


def test_maps_of_your_own_come_through_unchanged(images_only: Project, tmp_path: Path) -> None:
    with_method(images_only, method="precomputed", maps="maps", longest_side=16)
    folder = tmp_path / "maps"
    folder.mkdir()
    made = {}
    for number, (name, image) in enumerate(training_images(Path(images_only.images()[0])).items()):
        made[name] = slic(image, n_segments=9)
        if number % 3 == 0:
            np.save(folder / f"{name}.npy", made[name] * 70000)
        elif number % 3 == 1:
            Image.fromarray((made[name] * 1000).astype(np.uint16)).save(folder / f"{name}.png")
        else:
            Image.fromarray(made[name].astype(np.uint8)).save(folder / f"{name}.png")
    found = segmented(images_only, "--maps", folder)
    assert all(same_partition(found[name], labels) for name, labels in made.items())


def save_archive(path: Path, labels: np.ndarray) -> None:
    """An .npz file under the name of an .npy."""
    with path.open("wb") as file:
        np.savez(file, labels)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path, labels: None, "no such file, nor"),
        (lambda path, labels: np.save(path, labels[:-1]), "make them equal"),
        (lambda path, labels: np.save(path, labels / 3), "expected one integer per pixel"),
        (lambda path, labels: np.save(path, labels[None]), "expected one integer per pixel"),
        (lambda path, labels: path.write_bytes(b"no"), "not a readable label map"),
        (lambda path, labels: path.write_bytes(b"PK\x03\x04 and more"), "not a readable label map"),
        (lambda path, labels: save_archive(path, labels), "not a readable label map"),
        (
            lambda path, labels: Image.fromarray(labels.astype(np.uint8)).save(path.with_suffix(".png"), format="JPEG"),
            "a JPEG file; expected a PNG, which keeps exact labels",
        ),
        (
            lambda path, labels: Image.fromarray(np.stack([labels] * 3, -1).astype(np.uint8)).save(
                path.with_suffix(".png")
            ),
            "the mask is 8-bit RGB; expected one number per pixel (palette or grey)",
        ),
    ],
)
def test_bad_maps_are_named_and_counted(
    images_only: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, told: str
) -> None:
    with_method(images_only, method="precomputed", maps="maps")
    folder = tmp_path / "maps"
    folder.mkdir()
    images = training_images(Path(images_only.images()[0]))
    for number, (name, image) in enumerate(images.items()):
        labels = np.zeros(image.shape[:2], np.int64)
        if number in (1, 2):
            spoil(folder / f"{name}.npy", labels)
        else:
            np.save(folder / f"{name}.npy", labels)
    out = images_only.path("hierarchies/0.h5")
    assert images_only.run("hierarchies", "--images", images_only.images()[0], "--maps", folder, "--out", out) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert told in last
    assert list(images)[1] in last
    assert f"(1 more of the shard's {len(images)} training images have faults too)" in last
    assert not out.exists()


@pytest.mark.parametrize(
    ("method", "words", "told"),
    [
        ("ucm", [], "--weights is missing"),
        ("ucm", ["--weights", "absent.safetensors"], "absent.safetensors: no such file"),
        ("precomputed", [], "--maps is missing; give the path of hierarchies.maps"),
        ("precomputed", ["--maps", "absent"], "absent: no such folder; expected one with a label map for each image"),
    ],
)
def test_what_a_method_needs_is_asked_for(
    images_only: Project, capsys: pytest.CaptureFixture[str], method: str, words: list[str], told: str
) -> None:
    with_method(images_only, method=method)
    out = images_only.path("hierarchies/0.h5")
    assert images_only.run("hierarchies", "--images", images_only.images()[0], "--out", out, *words) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_too_many_regions_are_refused_by_image(
    images_only: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hierarchy, "MAX_REGIONS", 50)
    out = images_only.path("hierarchies/0.h5")
    words = ["--images", images_only.images()[0], "--out", out]
    assert images_only.run("hierarchies", *words, "--weights", REGION_WEIGHTS) == 2
    assert "regions, expected at most 50; lower hierarchies.longest_side" in capsys.readouterr().err
    with_method(images_only, method="precomputed", maps="maps")
    for name, image in training_images(Path(images_only.images()[0])).items():
        np.save(tmp_path / f"{name}.npy", np.arange(image[..., 0].size).reshape(image.shape[:2]))
    assert images_only.run("hierarchies", *words, "--maps", tmp_path) == 2
    assert "regions, expected at most 50; make its label map coarser" in capsys.readouterr().err
    assert not out.exists()


PHOTO = data.astronaut()[:60, :90]
# Image, and the sentence that refuses it ("" if it is taken).
ODD: dict[str, tuple[Image.Image, dict[str, Any], str]] = {
    "one-pixel": (Image.fromarray(PHOTO[:1, :1]), {}, ""),
    "constant": (Image.new("RGB", (50, 40), (9, 99, 199)), {}, ""),
    "grey": (Image.fromarray(PHOTO).convert("L"), {}, ""),
    "cmyk": (Image.fromarray(PHOTO).convert("CMYK"), {}, ""),
    "palette": (Image.fromarray(PHOTO).quantize(16), {"format": "PNG"}, ""),
    "wide": (Image.fromarray(np.tile(PHOTO, (1, 223, 1))[:, :20000]), {}, ""),
    "line": (Image.fromarray(np.tile(PHOTO[:1], (1, 223, 1))[:, :20000]), {}, ""),
    "sixteen": (
        Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60)),
        {"format": "PNG"},
        "is 16-bit grey; ",
    ),
    "alpha": (Image.fromarray(PHOTO).convert("RGBA"), {"format": "PNG"}, "is 8-bit RGB with alpha; "),
    "truncated": (Image.fromarray(PHOTO), {}, "does not decode (image file is truncated"),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_images_are_segmented_or_refused_in_one_sentence(
    odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, saving, refused = ODD[odd]
    root = tmp_path / "raw"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name in ("odd", "other"):
        path = root / f"JPEGImages/{name}.jpg"
        picture.save(path, **{"format": "JPEG", **saving})
        Image.new("L", picture.size, 1).save(root / f"SegmentationClass/{name}.png")
    if odd == "truncated":
        path = root / "JPEGImages/odd.jpg"
        path.write_bytes(path.read_bytes()[:-200])
    (root / "ImageSets/Segmentation/train.txt").write_text("odd\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("other\n")
    values = tiny_values(images={"source": "voc", "root": str(root), "shards": 1}, hierarchies={"longest_side": 500})
    project = Project(write_values(tmp_path / "params.yaml", values).parent, tmp_path)
    code = project.run("images", "--root", root, "--shard", 0, "--out", project.images()[0])
    if refused:
        lines = capsys.readouterr().err.strip().splitlines()
        assert code == 2
        assert lines[-1].startswith("error: ")
        assert str(root / "JPEGImages/odd.jpg") in lines[-1]
        assert refused in lines[-1]
        return
    assert code == 0
    found = segmented(project, "--weights", REGION_WEIGHTS)["odd"]
    assert found.shape == (picture.height, picture.width)
    assert len(np.unique(found)) == found.max() + 1
    if odd in ("one-pixel", "constant"):
        assert found.max() == 0
