"""The report's page in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from novelseg.methods.variants import REFINED
from tests.browser import browsed
from tests.makers import Project

pytestmark = pytest.mark.processes


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
