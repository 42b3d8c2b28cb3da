"""The report's page in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from novelseg.formats import tables
from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.results import SCORES
from novelseg.methods.variants import REFINED
from novelseg.report.answers import NO_DIFFERENCE, verdict
from novelseg.report.page import render
from tests.browser import browsed
from tests.makers import Project

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def page(project: Project) -> Iterator[Any]:
    """The tiny experiment's page in Chromium; every message and request is noted."""
    with browsed((project.root / "report/index.html").as_uri(), width=390) as phone:
        yield phone


def column(page: Any, table: str, number: int) -> list[str]:
    cells = page.query_selector_all(f"#{table} tbody tr:not([hidden]) td:nth-child({number})")
    return [cell.inner_text() for cell in cells]


def test_nothing_is_fetched_and_nothing_complains(page: Any) -> None:
    assert [note for note in page.noted if not note.startswith(("data:", "file:"))] == []
    assert sum(note.startswith("file:") for note in page.noted) == 1


def test_a_phone_shows_the_page_without_scrolling_sideways(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_phone_shows_the_scores_without_scrolling_the_table(page: Any) -> None:
    boxes = [cell.bounding_box() for cell in page.query_selector_all("#scores td:nth-child(2)")]
    assert boxes
    assert all(box["x"] + box["width"] <= 390 for box in boxes)
    heads = page.locator("#scores thead th").all_inner_texts()
    assert "protocol" not in heads  # which is the same in every row, and said once


def test_heads_look_sortable(page: Any) -> None:
    after = "getComputedStyle(document.querySelector('#scores thead button'), '::after').content"
    assert "↕" in page.evaluate(after)


def test_the_first_screen_answers(page: Any) -> None:
    questions = page.locator("#answers dt").all_inner_texts()[:4]
    assert questions == [
        "What was asked?",
        "What came out?",
        "Where to look?",
        "What are the numbers worth?",
    ]
    told = page.locator("#answers").inner_text()
    assert "To segment 2 classes of which training has seen no mask" in told
    assert re.search(r"With 1 support, \S+ is highest: \d+\.\d % mIoU \[", told)
    assert "Worst class: " in told
    assert "not comparable with published numbers" in told
    assert page.locator("#answers").bounding_box()["y"] < 200


def test_a_question_mark_opens_the_glossary(page: Any) -> None:
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    glossary = page.locator("#glossary")
    assert glossary.is_visible()
    names = glossary.locator("dt").all_inner_texts()
    assert {"spfl+srofb", "mIoU %", "verdict"} <= set(names)
    assert all(text.endswith(".") for text in glossary.locator("dd").all_inner_texts())
    page.keyboard.press("Escape")
    page.locator("[data-glossary]").click()
    assert glossary.is_visible()
    page.keyboard.press("Escape")
    hints = [cell.get_attribute("title") for cell in page.query_selector_all("#scores td[title]")]
    assert any("three levels" in hint for hint in hints)


def test_tables_sort_by_mouse_and_by_keyboard(page: Any) -> None:
    head = page.locator("#scores thead th", has_text="mIoU %")
    head.locator("button").click()
    values = [float(text) for text in column(page, "scores", 2)]
    assert values == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert [float(text) for text in column(page, "scores", 2)] == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#scores thead th", has_text="variant").locator("button").click()
    names = column(page, "scores", 1)
    assert names[0] == "baseline"
    assert names[-1].startswith("spfl")


def test_tables_are_filtered(page: Any) -> None:
    select = page.locator('form[data-for="scores"] select[data-filter="variant"]')
    every = column(page, "scores", 1)
    select.select_option(REFINED)
    assert column(page, "scores", 1) == [REFINED]
    select.select_option("")
    assert column(page, "scores", 1) == every
    assert len(every) > 1


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
    dialog = page.locator("#picture")
    assert dialog.is_visible()
    assert dialog.locator("img").count() == 2  # a query and its prediction
    assert dialog.locator("p").inner_text().startswith(REFINED)
    before = dialog.locator("p").inner_text()
    page.keyboard.press("ArrowRight")
    assert dialog.locator("p").inner_text() != before
    dialog.locator("[data-step='-1']").click()
    assert dialog.locator("p").inner_text() == before
    box, inner = dialog.bounding_box(), dialog.locator("img").first.bounding_box()
    assert inner["width"] > 240
    assert inner["y"] + inner["height"] <= box["y"] + box["height"] <= 844
    assert page.evaluate("(d => d.scrollHeight <= d.clientHeight)(document.querySelector('#picture'))")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
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
    assert "invert(1)" in page.evaluate("getComputedStyle(document.querySelector('.curves img')).filter")
    page.emulate_media(color_scheme="light")


def test_an_iou_has_one_value_everywhere(page: Any) -> None:
    card = page.locator("#episodes .card").first
    line = card.locator("p").first.inner_text().removeprefix("IoU %: ")
    listed = dict(entry.rsplit(" ", 1) for entry in line.split(", "))
    captions = dict(text.split(": ") for text in card.locator("figcaption").all_inner_texts() if ": " in text[-8:])
    assert listed
    assert listed == {name: captions[name] for name in listed}


@pytest.fixture(scope="module")
def two_shots(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page without cards whose tables hold the tiny experiment twice, the second time as if with five supports."""
    folder = project.root / "report"
    once = {
        "table": tables.read(folder / "results.tsv", SCORES),
        "classes": tables.read(folder / "classes.tsv", CLASS_SCORES),
        "comparisons": tables.read(folder / "comparisons.tsv", COMPARISONS),
    }
    twice = {name: pd.concat([frame, frame.assign(shot=5)], ignore_index=True) for name, frame in once.items()}
    twice["table"].loc[twice["table"]["shot"] == 5, "miou"] += 1
    path = tmp_path_factory.mktemp("two") / "index.html"
    text = render(protocol="two shots", note=[("folds", "4")], curves=[], browsers=[], **twice)
    path.write_text(text, encoding="utf8")
    return path


@contextmanager
def opened(browser: Any, address: str) -> Iterator[Any]:
    """A further page of the browser."""
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function("document.documentElement.dataset.ready")
    yield page
    page.close()


def test_sorting_keeps_the_shots_apart_and_filters_are_in_the_address(page: Any, two_shots: Path) -> None:
    browser = page.context.browser
    with opened(browser, two_shots.as_uri()) as page:
        page.locator("#scores thead th", has_text="mIoU %").locator("button").click()
        rows = page.locator("#scores tbody tr").all()
        kinds = ["1" if row.get_attribute("class") == "group" else row.get_attribute("data-shot") for row in rows]
        half = len(rows) // 2
        assert rows[0].inner_text() == "1 support"
        assert rows[half].inner_text() == "5 supports"
        assert set(kinds[1:half]) == {"1"}
        assert set(kinds[half + 1 :]) == {"5"}
        values = [float(text) for text in column(page, "scores", 2)]
        half = len(values) // 2
        assert values[:half] == sorted(values[:half], reverse=True)
        assert values[half:] == sorted(values[half:], reverse=True)
        page.locator('form[data-for="gains"] [data-filter="shot"]').select_option("5")
        page.locator('form[data-for="gains"] [data-filter="variant"]').select_option(REFINED)
        address = page.url
        assert "gains.shot=5" in address
        left = page.locator("#gains tbody tr:not([hidden]):not(.group)").count()
        shown = column(page, "scores", 1)
    with opened(browser, address) as page:  # a colleague opens it
        assert page.locator('form[data-for="gains"] [data-filter="shot"]').input_value() == "5"
        assert page.locator("#gains tbody tr:not([hidden]):not(.group)").count() == left > 0
        assert page.locator("#gains tbody tr.group:not([hidden])").all_inner_texts() == ["5 supports"]
        assert column(page, "scores", 1) == shown
        assert page.locator("#scores th[aria-sort=descending]").get_attribute("data-column") == "mIoU %"


def test_rows_whose_interval_holds_zero_are_marked(two_shots: Path, project: Project) -> None:
    frame = tables.read(project.root / "report/comparisons.tsv", COMPARISONS)
    page = two_shots.read_text(encoding="utf8")
    held = sum(verdict(row["gain_low"], row["gain_high"]) == NO_DIFFERENCE for row in frame.to_dict("records"))
    assert page.count('<tr class="undecided"') == 2 * held
    assert page.count(f'class="text">{NO_DIFFERENCE}</td>') == 2 * held
    assert not re.search(r"[>\[ ]-0\.0[,<\]]", page)
