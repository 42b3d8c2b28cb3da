"""What the page is made of: pictures, and the gallery against a slow form."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from novelseg.data.index import read_index
from novelseg.data.store import ImageStore
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.regions import REGIONS
from novelseg.ops.drawing import BORDER, FOREGROUND, UNKNOWN
from novelseg.report import pictures
from novelseg.report.gallery import Gallery
from stages.provenance.code import ROOTS, closure, code_digest, forget
from tests.makers import Project

SHARDS = range(2)


def decoded(uri: str) -> Image.Image:
    """A picture from its data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


# Pictures


def test_a_layer_is_clear_but_for_the_values_it_names() -> None:
    values = np.array([[0, 1], [2, 1]], np.uint8)
    picture = decoded(pictures.layer(values, {1: (9, 8, 7, 255), 2: (1, 2, 3, 40)}, side=2)).convert("RGBA")
    expected = [[[0, 0, 0, 0], [9, 8, 7, 255]], [[1, 2, 3, 40], [9, 8, 7, 255]]]
    assert np.array(picture).tolist() == expected


def test_a_mask_is_drawn_where_it_is() -> None:
    mask = np.zeros((240, 120), np.uint8)
    mask[100:140, 40:80] = 1
    mask[:10] = 255
    drawn = np.array(decoded(pictures.mask_layer(mask)).convert("RGBA"))
    assert drawn.shape == (240, 120, 4)
    assert tuple(drawn[120, 60]) == (*FOREGROUND, 115)
    assert tuple(drawn[100, 60]) == (*BORDER, 255)
    assert tuple(drawn[5, 5]) == (*UNKNOWN, 150)
    assert drawn[60, 60, 3] == 0


def test_borders_of_regions_survive_shrinking() -> None:
    labels = np.zeros((500, 500), np.int32)
    labels[:, 251:] = 1
    alpha = np.array(decoded(pictures.borders_layer(labels)).convert("RGBA"))[:, :, 3]
    assert (alpha > 0).any(axis=1).all()
    assert (alpha > 0).sum() <= 2 * 240


def test_cells_are_spread_over_the_picture() -> None:
    cells = np.array([[0, 1], [2, 0]], np.uint8)
    drawn = np.array(decoded(pictures.cells_layer(cells, (240, 240))).convert("RGBA"))
    assert tuple(drawn[10, 10]) == pictures.CELL_COLOURS[0]
    assert tuple(drawn[10, 230]) == pictures.CELL_COLOURS[1]
    assert tuple(drawn[230, 10]) == pictures.CELL_COLOURS[2]


# Gallery


def shards(project: Project, name: str) -> list[Path]:
    return [project.path(f"{name}/{shard}.h5") for shard in SHARDS]


def slow_areas(project: Project, side: str, most: int) -> tuple[np.ndarray[Any, Any], list[list[float]]]:
    """Pixels by class of each finest prototype's members, and their distances: pixel by pixel."""
    index = read_index(project.path("index/index.h5"))
    with hdf5.opened(project.path("prototypes/fold0.h5"), PROTOTYPES) as file:
        centres = file[f"{side}/level1/centres"][:]
    area = np.zeros((len(centres), len(index.classes) + 1), np.int64)
    distances: list[list[float]] = [[] for _ in centres]
    seen: set[str] = set()
    with ImageStore([Path(path) for path in project.images()], index) as store:
        for features, regions in zip(shards(project, "features/fold0"), shards(project, "regions"), strict=True):
            with hdf5.opened(features, FEATURES) as file, hdf5.opened(regions, REGIONS) as cuts:
                both = [*hdf5.texts(file, "bg/image"), *hdf5.texts(file, "fg/image")]
                chosen = [name for name in index.ids if name in both][: most - len(seen)]
                seen |= set(chosen)
                ids = list(hdf5.texts(cuts, "id"))
                for row, name in enumerate(hdf5.texts(file, f"{side}/image")):
                    if name not in chosen:
                        continue
                    vector = file[f"{side}/vectors"][row]
                    squares = [((vector / np.linalg.norm(vector) - centre) ** 2).sum() for centre in centres]
                    nearest = int(np.argmin(squares))
                    distances[nearest].append(float(squares[nearest]))
                    number = index.ids.index(name)
                    mask = store.mask(number)
                    if side == "bg":
                        cut = hdf5.Ragged.get(cuts, "labels", ids.index(name)).reshape(mask.shape)
                        where = cut == file["bg/region"][row]
                    else:
                        where = mask == file["fg/class"][row]
                    for label in mask[where].tolist():
                        if label != 255 and (side == "fg" or label not in index.base(0)):
                            area[nearest, label] += 1
    return area, distances


@pytest.mark.parametrize("most", [3, 1000])
@pytest.mark.parametrize("side", ["bg", "fg"])
def test_the_gallery_is_what_counting_pixel_by_pixel_gives(project: Project, side: str, most: int) -> None:
    index = read_index(project.path("index/index.h5"))
    with ImageStore([Path(path) for path in project.images()], index) as store:
        gallery = Gallery(project.path("prototypes/fold0.h5"), index, store, crops=2)
        gallery.gather(shards(project, "features/fold0"), shards(project, "regions"), most)
        found = [entry for entry in gallery.prototypes(shards(project, "regions")) if entry["side"] == side]
        tally = gallery._tallies[side]
    area, distances = slow_areas(project, side, most)
    np.testing.assert_array_equal(tally.area, area)
    for kept, expected in zip(tally.nearest, distances, strict=True):
        nearest = sorted(-member.nearness for member in kept)
        np.testing.assert_allclose(nearest, sorted(expected)[:2], atol=1e-5)
    finest = [entry for entry in found if entry["level"] == 1]
    if most == 1000:  # all images: the members are those of the clustering
        assert [entry["members"] for entry in finest] == [len(kept) for kept in distances]
    for entry, row in zip(finest, area, strict=True):
        labelled = row[1:].sum()
        assert entry["annotated"] == (pytest.approx(labelled / row.sum(), abs=1e-4) if row.sum() else None)
        assert sum(share for _, share, _ in entry["classes"]) == pytest.approx(entry["annotated"] or 0, abs=1e-3)
        for name, _, part in entry["classes"]:
            label = index.classes.index(name) + 1
            assert part == pytest.approx(row[label] / area[:, label].sum(), abs=1e-4)
        assert entry["purity"] == (pytest.approx(row[1:].max() / labelled, abs=1e-4) if labelled else None)
    for entry in found:
        kin = [other for other in found if other["level"] == entry["level"] - 1 and other["parent"] == entry["number"]]
        assert entry["children"] == [other["number"] for other in kin]
        if kin:
            assert entry["members"] == sum(other["members"] for other in kin)


def of_fold(path: Path, fold: int, folder: Path) -> Path:
    """A copy that says it is of another fold."""
    copy = folder / f"{path.parent.parent.name}-{path.name}"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["fold"] = json.dumps(fold)
    return copy


def test_every_fold_is_shown(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = read_index(project.path("index/index.h5"))
    words: list[object] = [*project.data(), "--regions", *shards(project, "regions")]
    words += ["--trainings", project.path("baseline/fold0/1shot"), "--out", tmp_path / "report"]
    words += ["--evaluations", project.path("evaluate/fold0/1shot")]
    first = {name: shards(project, f"{name}/fold0") for name in ("features", "pseudolabels")}
    first["prototypes"] = [project.path("prototypes/fold0.h5")]
    second = {name: [of_fold(path, 1, tmp_path) for path in paths] for name, paths in first.items()}
    shown = [(f"--{name}", *first[name], *second[name]) for name in first]
    assert project.run("report", *words, *(word for option in shown for word in option)) == 0
    page = (tmp_path / "report/index.html").read_text(encoding="utf8")
    for name in ("pseudo-labels", "prototypes"):
        _, _, section = page.partition(f'data-browser="{name}"')
        cards = json.loads(section.partition("data-items>")[2].partition("</script>")[0])
        half = len(cards) // 2
        assert [card["facts"]["fold"] for card in cards] == [[0]] * half + [[1]] * half
        assert [card["title"].replace("fold 1", "fold 0") for card in cards[half:]] == [
            card["title"] for card in cards[:half]
        ]
    novel = [{name for card in part for name in card["facts"]["novel class"]} for part in (cards[:half], cards[half:])]
    assert novel[0] <= set(index.names(index.novel(0)))
    assert novel[1] <= set(index.names(index.novel(1)))
    assert novel[0] != novel[1]
    capsys.readouterr()
    shown[0] = ("--features", *first["features"])
    assert project.run("report", *words, *(word for option in shown for word in option)) == 2
    assert "2 files of prototypes, 2 shards of regions, 2 of features, 4 of pseudo labels" in capsys.readouterr().err
    shown[0] = ("--features", *second["features"], *reversed(first["features"]))
    assert project.run("report", *words, *(word for option in shown for word in option)) == 0
    assert (tmp_path / "report/index.html").read_text(encoding="utf8") == page
    shown[0] = ("--features", *first["features"], *first["features"])
    assert project.run("report", *words, *(word for option in shown for word in option)) == 2
    assert "is shard 0 of features, as is" in capsys.readouterr().err


def test_without_crops_there_is_no_gallery(project: Project, tmp_path: Path) -> None:
    values = project.params.read_text(encoding="utf8")
    params = tmp_path / "params.yaml"
    params.write_text(re.sub(r"crops: \d+", "crops: 0", values), encoding="utf8")
    words = [*project.data(), *project.shown_words(), "--trainings", project.path("baseline/fold0/1shot")]
    words += ["--evaluations", project.path("evaluate/fold0/1shot"), "--out", tmp_path / "report", "--params", params]
    assert project.run("report", *words) == 0
    page = (tmp_path / "report/index.html").read_text(encoding="utf8")
    assert 'data-browser="episodes"' in page
    assert 'data-browser="prototypes"' not in page


def test_studies_are_shown_and_an_empty_folder_is_told(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*project.data(), *project.shown_words(), "--trainings", project.path("baseline/fold0/1shot")]
    words += ["--evaluations", project.path("evaluate/fold0/1shot"), "--out", tmp_path / "report"]
    (tmp_path / "studies/thresholds").mkdir(parents=True)
    assert project.run("report", *words, "--studies", tmp_path / "studies") == 2
    assert "contains no study (NAME/curve.svg); run `python -m workflow study`" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
    (tmp_path / "studies/thresholds/curve.svg").write_text("<svg/>", encoding="utf8")
    assert project.run("report", *words, "--studies", tmp_path / "studies") == 0
    assert "Study: thresholds" in (tmp_path / "report/index.html").read_text(encoding="utf8")


def test_templates_are_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {path.name for path in closure("report")}
    assert {"page.html", "table.html", "page.css", "page.js"} <= names
    assert not any(path.suffix == ".js" for path in closure("evaluate"))
    before = code_digest("report")
    for package in ROOTS:
        shutil.copytree(ROOTS[package] / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setitem(ROOTS, package, tmp_path)
    forget()
    try:
        assert code_digest("report") == before
        with (tmp_path / "novelseg/report/templates/page.css").open("a") as sheet:
            sheet.write("/* another */\n")
        forget()
        assert code_digest("report") != before
    finally:
        monkeypatch.undo()
        forget()
