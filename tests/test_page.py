"""The report's page: the gallery against a slow form, and the page in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from stages.artifacts import hdf5
from stages.artifacts.formats.features import FEATURES
from stages.artifacts.formats.prototypes import PROTOTYPES
from stages.artifacts.formats.regions import REGIONS
from stages.core.code import closure, forget
from stages.data.index import read_index
from stages.data.store import ImageStore
from stages.evaluation.predictor import REFINED
from stages.ops.drawing import BORDER, FOREGROUND, UNKNOWN
from stages.reporting import pictures
from stages.reporting.gallery import Gallery
from tests.browser import browsed
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
    shown[0] = ("--features", *second["features"], *first["features"])
    assert project.run("report", *words, *(word for option in shown for word in option)) == 2
    assert "made with fold 1, not 0" in capsys.readouterr().err


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
    assert "holds no study (NAME/curve.svg); run `python -m workflow study`" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
    (tmp_path / "studies/thresholds/curve.svg").write_text("<svg/>", encoding="utf8")
    assert project.run("report", *words, "--studies", tmp_path / "studies") == 0
    assert "Study: thresholds" in (tmp_path / "report/index.html").read_text(encoding="utf8")


def test_templates_are_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {path.name for path in closure("report")}
    assert {"page.html", "table.html", "page.css", "page.js"} <= names
    assert not any(path.suffix == ".js" for path in closure("evaluate"))
    from stages.core.code import code_digest

    before = code_digest("report")
    shutil.copytree("stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    forget()
    try:
        assert code_digest("report") == before
        with Path("stages/reporting/templates/page.css").open("a") as sheet:
            sheet.write("/* another */\n")
        forget()
        assert code_digest("report") != before
    finally:
        forget()


# In a browser


@pytest.fixture(scope="module")
def page(project: Project) -> Iterator[Any]:
    """The tiny experiment's page in Chromium; every message and request is noted."""
    with browsed((project.root / "report/index.html").as_uri(), width=390) as opened:
        yield opened


def column(page: Any, table: str, number: int) -> list[str]:
    cells = page.query_selector_all(f"#{table} tbody tr:not([hidden]) td:nth-child({number})")
    return [cell.inner_text() for cell in cells]


def test_nothing_is_fetched_and_nothing_complains(page: Any) -> None:
    assert [note for note in page.noted if not note.startswith(("data:", "file:"))] == []
    assert sum(note.startswith("file:") for note in page.noted) == 1


def test_a_phone_shows_the_page_without_scrolling_sideways(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_tables_sort_by_mouse_and_by_keyboard(page: Any) -> None:
    head = page.locator("#scores thead th", has_text="mIoU %")
    head.locator("button").click()
    values = [float(text) for text in column(page, "scores", 4)]
    assert values == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert [float(text) for text in column(page, "scores", 4)] == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#scores thead th", has_text="variant").locator("button").click()
    names = column(page, "scores", 1)
    assert names[0] == "baseline"
    assert names[-1].startswith("spfl")


def test_tables_are_filtered(page: Any) -> None:
    select = page.locator('form[data-for="scores"] select[data-filter="variant"]')
    select.select_option(REFINED)
    assert column(page, "scores", 1) == [REFINED]
    select.select_option("")
    assert len(column(page, "scores", 1)) == 7


def test_episodes_are_sorted_and_the_worst_is_first(page: Any) -> None:
    section = page.locator("#episodes")
    items = json.loads(section.locator("[data-items]").text_content())
    section.locator("[data-worst]").click()
    scores = [item["scores"][REFINED] for item in items]
    least = min(score for score in scores if score is not None)
    titles = [item["title"] for item, score in zip(items, scores, strict=True) if score == least]
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") in titles
    section.locator("[data-descending]").check()
    most = max(score for score in scores if score is not None)
    titles = [item["title"] for item, score in zip(items, scores, strict=True) if score == most]
    assert section.locator(".card h3").first.inner_text() in titles
    section.locator("[data-descending]").uncheck()
    section.locator("[data-order]").select_option("")


def test_cards_are_filtered_by_class(page: Any) -> None:
    section = page.locator("#episodes")
    items = json.loads(section.locator("[data-items]").text_content())
    name = items[0]["facts"]["class"][0]
    section.locator('[data-filter="class"]').select_option(name)
    expected = sum(item["facts"]["class"] == [name] for item in items)
    assert section.locator(".card").count() == expected
    assert section.locator("[data-count]").inner_text() == f"{expected} of {len(items)}"
    section.locator('[data-filter="class"]').select_option("")


def test_keys_walk_and_enlarge(page: Any) -> None:
    cards = page.locator("#episodes .card")
    cards.first.focus()
    page.keyboard.press("j")
    second = cards.nth(1).get_attribute("aria-label")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == second
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible()
    assert page.locator("dialog img").count() == 2  # a support and its mask
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    cards.first.locator(".stack").first.click()  # with the mouse, which leaves the focus on a picture
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == second
    page.evaluate("document.activeElement.blur(); document.querySelector('#episodes').scrollIntoView()")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.classList.contains('card')")


def test_no_title_hides_under_the_header_on_the_way_back(page: Any) -> None:
    cards = page.locator("#prototypes .card")
    cards.nth(7).focus()
    for number in reversed(range(7)):
        page.keyboard.press("k")
        hidden = page.evaluate(
            "document.querySelector('header').getBoundingClientRect().bottom"
            " - document.activeElement.getBoundingClientRect().top"
        )
        assert hidden <= 0, number


def test_prototypes_lead_to_their_kin(page: Any) -> None:
    section = page.locator("#prototypes")
    items = json.loads(section.locator("[data-items]").text_content())
    assert section.locator("[data-count]").inner_text() == f"{len(items)} of {len(items)}"
    section.locator('[data-filter="level"]').select_option("1")
    section.locator(".card .kin button").first.click()
    assert section.locator(".card").count() == 1
    first = next(item for item in items if item["level"] == 1)
    assert f"level 2, #{first['parent']}" in section.locator(".card h3").inner_text()
    assert section.locator(".card .stack").count() == len(
        next(item for item in items if item["level"] == 2 and item["number"] == first["parent"])["children"]
    )  # a crop of each child
    section.locator("[data-order]").select_option("members")  # no reason to lose it
    assert section.locator(".card").count() == 1
    section.locator("[data-order]").select_option("")
    section.locator(".card .kin button", has_text="level 1").first.click()
    assert "level 1" in section.locator(".card h3").inner_text()
    section.locator("[data-back]").click()
    finest = sum(item["level"] == 1 for item in items)
    assert section.locator("[data-count]").inner_text() == f"{finest} of {len(items)}"  # the filter has stayed
    assert section.locator("[data-back]").is_hidden()
    section.locator('[data-filter="level"]').select_option("")


def test_what_a_bar_shows_is_said_too(page: Any) -> None:
    items = json.loads(page.locator("#prototypes [data-items]").text_content())
    held = next(item for item in items if len(item["classes"]) > 1)
    card = page.locator(f'#prototypes .card[aria-label="{held["title"]}"]')
    while not card.count():
        page.locator("#prototypes [data-more]").click()
    said = [f"{name} {100 * share:.0f} %" for name, share, _ in held["classes"][:2]]
    assert ", ".join(said) in card.locator("p").first.inner_text()
    assert ", ".join(said) in card.locator(".bar").get_attribute("aria-label")


def test_more_cards_come_when_asked(page: Any) -> None:
    section = page.locator("#prototypes")
    section.locator("[data-order]").select_option("members")
    shown, total = section.locator(".card").count(), len(json.loads(section.locator("[data-items]").text_content()))
    assert shown == 12 < total
    section.locator("[data-more]").click()
    assert section.locator(".card").count() == min(24, total)
    members = [int(text.split()[0]) for text in section.locator(".card p:first-of-type").all_inner_texts()]
    assert members == sorted(members)
    section.locator("[data-order]").select_option("")


def test_every_picture_decodes_and_has_words(page: Any) -> None:
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
    assert page.evaluate("[...document.images].filter(image => !image.hasAttribute('alt')).length") == 0


def test_dark_mode_is_dark(page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    colour = page.evaluate("getComputedStyle(document.querySelector('header')).backgroundColor")
    assert max(map(int, re.findall(r"\d+", colour)[:3])) < 60
    page.emulate_media(color_scheme="light")
