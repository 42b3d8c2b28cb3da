"""The local page in a real browser: the whole loop, and each tool by mouse, touch and keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.browser import CHROMIUM, launched
from benchmarks.page import serving
from benchmarks.pagedriver import PageDriver, mean_iou, save_picture
from novelseg import Segmenter
from novelseg.exchange.record import LabelledPicture, class_instances
from novelseg.exchange.registry import export
from novelseg.inference import session
from novelseg.inference.findings import Calibration, least_logits, winners
from tests.browser import browsed
from tests.conftest import WEIGHTS
from tests.pictures import disc

pytestmark = pytest.mark.processes

RED, BLUE = (230, 40, 30), (30, 60, 230)


def two_discs(first: tuple[int, int], second: tuple[int, int], side: int = 120) -> tuple[Any, Any]:
    """A red disc, class 1, and a blue one, class 2, on noise; and their mask."""
    image, mask = disc(side, first, RED)
    other = disc(side, second, BLUE)[1] == 1
    image[other] = BLUE
    return image, np.where(other, 2, mask).astype(np.uint8)


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(Segmenter.load(weights=WEIGHTS, side=120, presence=0.0)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all these tests; each has a context of its own."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here; NOVELSEG_CHROMIUM names one")
    with launched() as started:
        yield started


def complaints(page: Any, address: str) -> list[str]:
    return [note for note in page.noted if not note.startswith((address, "data:", "blob:"))]


def share(page: Any) -> float:
    """Share of the picture on the stage that is painted, %."""
    return float(page.locator("#painted").inner_text().split()[0])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_the_whole_loop(served: str, browser: Any, tmp_path: Path) -> None:
    """Paint two classes, segment, correct, take as an example, segment again, move the threshold, reload, export."""
    truth, paths = {}, []
    for number in range(5):
        name = f"{number} ü.png"
        image, truth[name] = two_discs((40 + 8 * number, 36), (70, 88 - 6 * number))
        paths.append(save_picture(tmp_path / name, image))
    names = [path.name for path in paths]
    with browsed(served, browser=browser) as page:
        driver = PageDriver(page)
        assert page.locator("#go").is_disabled()
        driver.add("supports", paths[:1])
        page.locator("#add-class").click()
        driver.name_class(1, "red")
        driver.name_class(2, "blue")
        mask = truth[names[0]]
        driver.choose_class(1)
        assert driver.regions(np.array(Image.open(paths[0])), mask == 1, 4) >= 1
        assert share(page) == pytest.approx(100 * (mask == 1).mean(), rel=0.1)
        driver.choose_class(1)
        driver.brush(mask == 1, 5)
        assert share(page) == pytest.approx(100 * (mask == 1).mean(), rel=0.1)
        driver.choose_class(2)
        assert driver.polygon(mask == 2) > 5
        assert share(page) == pytest.approx(100 * (mask > 0).mean(), rel=0.1)
        painted = page.locator("#painted").inner_text()
        page.locator("#clear").click()
        assert page.locator("#painted").inner_text() == "0.0 % painted"
        page.keyboard.press("Control+z")
        assert page.locator("#painted").inner_text() == painted
        page.keyboard.press("Control+Shift+z")
        page.locator("#undo").click()
        assert page.locator("#painted").inner_text() == painted
        driver.add("queries", paths[1:])
        assert driver.segment() == "4 of 4 done"
        shares = [text.split()[0] for text in page.locator("#results .meter").all_inner_texts()]
        assert shares == sorted(shares, key=int)
        worst, found = driver.order()[0], driver.masks()
        assert set(found) == set(names)
        assert mean_iou(found, truth, names[:1]) > 0.9
        driver.open(worst)
        page.locator("#clear").click()
        for label in (1, 2):
            driver.choose_class(label)
            driver.polygon(truth[worst] == label)
        page.locator("#results figure.current .badge", has_text="corrected").wait_for()
        assert driver.order()[-1] == worst
        page.locator("#take").click()
        page.locator("#examples figure", has_text=worst).wait_for()
        assert driver.segment() == "3 of 3 done"
        again = driver.masks()
        assert mean_iou(again, truth, [worst]) > 0.9
        requests = len(page.noted)
        driver.set_slider("threshold", 0.9)
        driver.open(driver.order()[0])
        strict = driver.masks()
        assert all((strict[name] > 0).sum() < (again[name] > 0).sum() for name in driver.order())
        assert not [note for note in page.noted[requests:] if note.endswith(("/segment", "/fit"))]
        page.reload()
        page.locator("#results figure").nth(2).wait_for()
        kept = driver.masks()
        assert [page.get_by_label(f"name of class {label}").input_value() for label in (1, 2)] == ["red", "blue"]
        for name in names:
            np.testing.assert_array_equal(kept[name], strict[name])
        assert complaints(page, served) == []


def test_tools_by_keys_and_what_is_refused(served: str, browser: Any, tmp_path: Path) -> None:
    image, mask = disc(side=100, middle=(50, 50))
    paths = [save_picture(tmp_path / name, image) for name in ("a.png", "b.png")]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.fromarray(mask).save(tmp_path / "ones.png")
    Image.fromarray(mask[:50]).save(tmp_path / "small.png")
    Image.fromarray(image).save(tmp_path / "tiff.tiff")  # which browsers do not show
    with browsed(served, browser=browser) as page:
        driver = PageDriver(page)
        driver.add("supports", paths[:1])
        page.locator("#mask").set_input_files(tmp_path / "small.png")
        page.locator("#errors", has_text="small.png: the mask is 100×50 px, its picture 100×100").wait_for()
        page.locator("#mask").set_input_files(tmp_path / "ones.png")
        page.locator("#state", has_text="ones.png is the mask of a.png").wait_for()
        assert page.locator("#painted").inner_text() == f"{100 * mask.mean():.1f} % painted"
        page.locator("#clear").click()
        page.locator("#stage").focus()
        page.keyboard.press("x")
        page.keyboard.press("Enter")  # a corner in the middle
        for _ in range(10):
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        scale = driver.place(1, 0, (100, 100))[0] - driver.place(0, 0, (100, 100))[0]
        expected = 100 * (120 / scale / 100) ** 2
        assert share(page) == pytest.approx(expected, abs=1)
        page.keyboard.press("p")
        for key in ("ArrowLeft", "ArrowUp", "ArrowRight"):
            for _ in range(20):
                page.keyboard.press(key)
            page.keyboard.press("Enter")
        page.keyboard.press("Backspace")
        page.keyboard.press("Enter")
        page.keyboard.press("Shift+Enter")
        assert share(page) > 1.5 * expected
        page.keyboard.press("?")
        page.locator("#help").wait_for()
        page.keyboard.press("Escape")
        page.locator("#queries").set_input_files([tmp_path / "broken.png", tmp_path / "tiff.tiff", paths[1]])
        page.locator("#results figure", has_text="b.png").wait_for()
        assert driver.segment() == "2 of 3 done, 1 refused"
        page.locator("#results figure", has_text="broken.png: not a picture").wait_for()
        driver.open("tiff.tiff")
        assert page.locator("#results .meter").count() == 2
        assert [note for note in complaints(page, served) if "422" not in note] == []


def test_touch_phone_and_cancel(served: str, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = disc(side=100, middle=(50, 50))[0]
    paths = [save_picture(tmp_path / f"{number}.png", image) for number in range(3)]
    with browsed(served, browser=browser, width=390, has_touch=True) as page:
        driver = PageDriver(page)
        driver.add("supports", paths[:1])
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        touches = page.context.new_cdp_session(page)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            sent = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
            touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": sent})

        left, right = driver.place(30, 50, (100, 100)), driver.place(70, 50, (100, 100))
        touch("touchStart", left)
        touch("touchMove", right)
        touch("touchEnd")
        painted = share(page)
        assert painted > 2
        before = page.screenshot()
        touch("touchStart", left)
        touch("touchStart", left, right)
        touch("touchMove", (left[0] - 40, left[1]), (right[0] + 40, right[1]))
        touch("touchEnd")
        assert page.screenshot() != before  # zoomed
        assert share(page) == painted  # and not painted
        driver.add("queries", paths[1:])
        real = session.Session.segment

        def slow(self: session.Session, *arguments: Any) -> Any:
            page_waits.wait(10)
            return real(self, *arguments)

        page_waits = threading.Event()
        monkeypatch.setattr(session.Session, "segment", slow)
        page.locator("#go").click()
        page.locator("#cancel").click()
        page_waits.set()
        assert driver.wait_for_end() == "cancelled; what was done is kept"
        monkeypatch.undo()
        assert driver.segment() == "2 of 2 done"
        page.locator("#format").select_option("yolo")
        with page.expect_download() as event:
            page.locator("#export").click()
        assert event.value.suggested_filename == "yolo.zip"
        assert complaints(page, served) == []


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_annotations_become_examples(served: str, browser: Any, tmp_path: Path) -> None:
    """Pictures and annotations, chosen together; classes join those of the page, and masks can be painted on."""
    truth, pictures = {}, []
    for number, name in enumerate(["a.png", "b.png", "c.png"]):
        image, truth[name] = two_discs((40 + 8 * number, 36), (70, 88 - 6 * number))
        path = save_picture(tmp_path / name, image)
        pictures.append(LabelledPicture(name, 120, 120, class_instances(truth[name]), path=path))
    export("coco", tmp_path / "both", ["red", "unused", "blue"], [relabelled(one) for one in pictures[:2]])
    export("cvat-xml", tmp_path / "blue", ["blue"], [relabelled(pictures[2], {2: 1})])
    paths = [one.path for one in pictures if one.path]
    with browsed(served, browser=browser) as page:
        driver = PageDriver(page)
        page.locator("#supports").set_input_files([*paths[:1], tmp_path / "both/annotations.json"])
        told = "annotations.json: image b.png: no picture b.png in the chosen files; put it there"
        page.locator("#errors", has_text=told).wait_for()
        assert page.get_by_label("name of class 1").input_value() == "object"
        page.locator("#errors button").click()
        driver.open("a.png")
        driver.choose_class(1)
        driver.tool("box")
        page.mouse.move(*driver.place(5, 5, (120, 120)))
        page.mouse.down()
        page.mouse.move(*driver.place(90, 60, (120, 120)), steps=3)
        page.mouse.up()
        driver.name_class(1, "mine")
        painted = page.locator("#painted").inner_text()
        page.locator("#queries").set_input_files([paths[1], tmp_path / "both/annotations.json"])
        page.locator("#state", has_text="2 examples of red, blue from annotations.json").wait_for()
        assert share(page) == pytest.approx(100 * (truth["a.png"] > 0).mean(), abs=0.06)
        page.keyboard.press("Control+z")
        assert page.locator("#painted").inner_text() == painted
        page.keyboard.press("Control+Shift+z")
        page.locator("#queries").set_input_files(paths[2])
        page.locator("#results figure", has_text="c.png").wait_for()
        page.locator("#supports").set_input_files(tmp_path / "blue/annotations.xml")
        page.locator("#state", has_text="1 example of blue from annotations.xml").wait_for()
        page.locator("#examples figure").nth(2).wait_for()  # the panel is drawn after the message
        assert page.locator("#examples figure").count() == 3
        page.reload()
        page.locator("#examples figure").nth(2).wait_for()
        assert [page.get_by_label(f"name of class {n}").input_value() for n in (1, 2, 3)] == ["mine", "red", "blue"]
        found = driver.masks()
        for name in ("a.png", "b.png"):
            np.testing.assert_array_equal(found[name], np.array([0, 2, 3])[truth[name]])
        np.testing.assert_array_equal(found["c.png"], 3 * (truth["c.png"] == 2))
        assert [note for note in complaints(page, served) if "422" not in note] == []


def relabelled(picture: LabelledPicture, table: dict[int, int] | None = None) -> LabelledPicture:
    """A picture whose classes have other numbers; those without one are left out."""
    table = {1: 1, 2: 3} if table is None else table
    return replace(
        picture, instances=[replace(one, label=table[one.label]) for one in picture.instances if one.label in table]
    )


SLOW_REFERENCE = """
async () => {
  const { Labels } = await import("/static/labels.js");
  const random = (least, most) => least + Math.random() * (most - least);
  let wrong = 0;
  for (let trial = 0; trial < 60; trial++) {
    const [width, height] = [31, 23], a = [random(-3, 34), random(-3, 26)], b = [random(-3, 34), random(-3, 26)];
    const radius = random(.3, 7), stroke = new Labels(width, height), shape = new Labels(width, height);
    const corners = Array.from({ length: 5 }, () => [random(-3, 34), random(-3, 26)]);
    const columns = 6, rows = 4, field = Float32Array.from({ length: columns * rows }, () => random(-1, 1));
    const filled = new Labels(width, height);
    stroke.stroke(a, b, radius, 1);
    shape.polygon(corners, 1);
    filled.field(field, columns, rows, [0, 0, columns, rows], 1);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const [px, py] = [x + .5, y + .5], [dx, dy] = [b[0] - a[0], b[1] - a[1]];
        const u = Math.max(0, Math.min(1, ((px - a[0]) * dx + (py - a[1]) * dy) / (dx * dx + dy * dy)));
        const distance = Math.hypot(px - a[0] - u * dx, py - a[1] - u * dy);
        wrong += Math.abs(distance - radius) > 1e-6 && (distance < radius) !== (stroke.data[y * width + x] === 1);
        let inside = false;
        corners.forEach(([x0, y0], number) => {
          const [x1, y1] = corners[(number + 1) % 5];
          if ((y0 <= py) !== (y1 <= py) && x0 + (py - y0) / (y1 - y0) * (x1 - x0) <= px) inside = !inside;
        });
        wrong += inside !== (shape.data[y * width + x] === 1);
        const clamp = (value, most) => Math.max(0, Math.min(most, value));
        const fx = clamp(px * columns / width - .5, columns - 1), fy = clamp(py * rows / height - .5, rows - 1);
        const [i, j] = [Math.min(columns - 2, Math.floor(fx)), Math.min(rows - 2, Math.floor(fy))];
        const [s, t] = [fx - i, fy - j], start = j * columns + i;
        const along = place => (1 - s) * field[place] + s * field[place + 1];
        const value = (1 - t) * along(start) + t * along(start + columns);
        wrong += Math.abs(value) > 1e-5 && (value > 0) !== (filled.data[y * width + x] === 1);
      }
  }
  const mask = new Labels(600, 300);
  const before = mask.data.slice();
  mask.begin(); mask.stroke([10, 10], [500, 200], 30, 1); mask.commit();
  const painted = mask.data.slice();
  mask.begin(); mask.flood(0, 0, 2); mask.commit();
  mask.undo();
  const same = (one, other) => one.every((value, place) => value === other[place]);
  const undone = same(mask.data, painted) && mask.undo() && same(mask.data, before);
  const back = undone && mask.redo() && same(mask.data, painted);
  mask.begin(); mask.stroke([10, 10], [500, 200], 90, 0); mask.cancel();
  return { wrong, back: back && same(mask.data, painted), steps: mask.past.length };
}
"""


MASK_AT = """
async ([logits, presence, threshold, least, slope, offset]) => {
  const { maskAt } = await import("/static/results.js");
  const map = { width: 20, height: 20, step: 1, slope, offset, logits: Float32Array.from(logits) };
  const result = { expected_iou: [0, 0, 0], presence, map };
  return [...maskAt(result, { threshold, presence: least }, 20, 20).data];
}
"""


def test_painting_and_thresholds_agree_with_slow_references(served: str, browser: Any) -> None:
    rng, calibration = np.random.default_rng(0), Calibration(0.9, -0.27)
    with browsed(served, browser=browser) as page:
        assert page.evaluate(SLOW_REFERENCE) == {"wrong": 0, "back": True, "steps": 1}
        for threshold, least in ((0.5, 0.15), (0.7, 0.15), (0.2, 0.0), (0.6, 0.4), (0.3, 1.0)):
            logits = rng.normal(0, 2, (3, 20, 20)).astype(np.float32)
            presence = rng.uniform(0.1, 1, 3).astype(np.float32)
            lowest = np.array(least_logits(float(np.log(threshold / (1 - threshold))), least, presence, calibration))
            expected = winners(logits, np.where(presence >= least, lowest, np.inf).tolist())
            values = [logits.ravel().tolist(), presence.tolist(), threshold, least, *calibration]
            assert page.evaluate(MASK_AT, values) == expected.ravel().tolist()
