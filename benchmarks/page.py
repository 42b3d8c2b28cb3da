"""The local page in a real browser: the whole loop on a VOC folder, its times, and pictures of it.

    python -m benchmarks.page --voc DIR --weights PATH --stem msra [--pictures DIR] [--out docs/results/page.md]

For each pair of classes: one example of each is painted with brush, region brush and polygon, and ten pictures of the
list ``val`` are segmented; the least certain one is corrected, taken as a further example, and the others are segmented
again. The mean IoU is that of the masks that the page exports, read by pycocotools. Nothing is chosen: pictures are the
first ones of their list that show a class of the pair on at least ``MIN_SHARE`` of their pixels.

Times are those of a 6000 × 4000 picture, from the browser's own time of the event to the end of the frame that follows.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.browser import opened
from benchmarks.pagedriver import PageDriver, class_ious, mean_iou
from novelseg.data.classes import VOC
from novelseg.inference.photos import read_class_mask, read_photo
from novelseg.inference.segmenter import Segmenter
from novelseg.inference.web import PageServer, new_app

PAIRS = (("cat", "dog"), ("bird", "aeroplane"), ("bus", "car"), ("sheep", "cow"), ("horse", "person"))
QUERIES, MIN_SHARE = 10, 0.05
SLIDERS = (("threshold", 0.7), ("threshold", 0.4), ("presence", 0.3))  # settings that are tried one after another
LARGE = (6000, 4000)
TIMES = ("regions ready", "click median", "click 95 %", "stroke median", "stroke 95 %")
# Of each event: its kind, the ms from its own time to the end of the next frame, and those of the page's handlers.
TOLD = """
window.told = [];
for (const kind of ["pointerdown", "pointermove"]) {
  let begun = 0, script = 0;
  addEventListener(kind, () => { begun = performance.now(); }, true);
  addEventListener(kind, event => {
    script = performance.now() - begun;
    const mine = script;
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.told.push([kind, performance.now() - event.timeStamp, mine]);
      channel.port2.postMessage(0);
    });
  });
}
"""


@contextmanager
def serving(segmenter: Segmenter) -> Iterator[str]:
    """Serve the page until the block ends, and yield its address."""
    server = PageServer("127.0.0.1", 0, new_app(segmenter, "127.0.0.1"))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Pair:
    """Examples and queries of two classes: files by name, and masks of 1, 2 and 255."""

    names: tuple[str, str]
    examples: list[Path]
    queries: list[Path]
    truth: dict[str, NDArray[np.uint8]]


def choose(voc: Path, names: tuple[str, str]) -> Pair:
    """Choose the examples of the list ``train``, and the queries of ``val``, half of each class."""
    numbers = [VOC.index(name) + 1 for name in names]
    table = np.zeros(256, np.uint8)
    table[255] = 255
    table[numbers] = 1, 2
    truth: dict[str, NDArray[np.uint8]] = {}

    def first(list_name: str, label: int, count: int) -> list[Path]:
        found = []
        for name in (voc / f"ImageSets/Segmentation/{list_name}.txt").read_text(encoding="utf8").split():
            mask = table[read_class_mask(voc / "SegmentationClass" / f"{name}.png", len(VOC))]
            if (mask == label).mean() >= MIN_SHARE and f"{name}.jpg" not in truth:
                truth[f"{name}.jpg"] = mask
                found.append(voc / "JPEGImages" / f"{name}.jpg")
            if len(found) == count:
                break
        return found

    examples = [path for label in (1, 2) for path in first("train", label, 1)]
    queries = [path for label in (1, 2) for path in first("val", label, QUERIES // 2)]
    return Pair(names, examples, queries, truth)


def run_loop(driver: PageDriver, pair: Pair, pictures: Path | None) -> dict[str, Any]:
    """Work through the page as a person would, and return what came of it."""
    page = driver.page
    row: dict[str, Any] = {"classes": " and ".join(pair.names)}
    begun = time.monotonic()
    driver.add("supports", pair.examples)
    driver.name_class(1, pair.names[0])
    page.locator("#add-class").click()
    driver.name_class(2, pair.names[1])
    first, second = pair.examples
    driver.open(first.name)
    driver.choose_class(1)
    mask = pair.truth[first.name]
    row["regions"] = driver.regions(read_photo(first), mask == 1, 8)
    driver.choose_class(1)
    driver.brush(mask == 1, 8)
    if (mask == 2).any():
        driver.choose_class(2)
        driver.polygon(mask == 2)
    driver.open(second.name)
    mask = pair.truth[second.name]
    driver.choose_class(2)
    row["corners"] = driver.polygon(mask == 2)
    before = page.locator("#painted").inner_text()
    driver.tool("box")
    page.mouse.move(*driver.place(5, 5, mask.shape[::-1]))
    page.mouse.down()
    page.mouse.move(*driver.place(90, 60, mask.shape[::-1]), steps=3)
    page.mouse.up()
    page.keyboard.press("Control+z")
    assert page.locator("#painted").inner_text() == before, "undo did not restore the mask"
    if (mask == 1).any():
        driver.choose_class(1)
        driver.polygon(mask == 1)
    row["paint s"] = round(time.monotonic() - begun, 1)
    driver.add("queries", pair.queries)
    begun = time.monotonic()
    row["said"] = driver.segment()
    row["segment s"] = round(time.monotonic() - begun, 1)
    if pictures:
        save_views(page, pictures)
    names = driver.order()
    found = driver.masks()
    worst = names[0]
    others = [name for name in names if name != worst]
    row |= {"corrected": worst, "before": mean_iou(found, pair.truth, others)}
    row["before, all"] = mean_iou(found, pair.truth, names)
    driver.open(worst)
    page.locator("#clear").click()
    mask = pair.truth[worst]
    for label in (1, 2):
        if (mask == label).any():
            driver.choose_class(label)
            driver.polygon(mask == label)
    page.locator("#take").click()
    page.locator("#examples figure", has_text=worst).wait_for()
    row["said again"] = driver.segment()
    again = driver.masks()
    row["after"] = mean_iou(again, pair.truth, others)
    row["after, all"] = mean_iou(again, pair.truth, names)
    row["shown"] = [pair.names[label - 1] for label in (1, 2) if (mask == label).any()]
    ious = [class_ious(masks, pair.truth, others) for masks in (found, again)]
    row["of classes"] = [[one[label] for one in ious] for label in (1, 2)]
    return row


def check_threshold_and_reload(driver: PageDriver, segmenter: Segmenter, pair: Pair) -> dict[str, float]:
    """Move the sliders, compare with the segmenter at these settings, reload, and compare with before."""
    page = driver.page
    requests = len(page.noted)
    own, ious = segmenter.get_params(), []
    for name, value in SLIDERS:
        driver.set_slider(name, value)
        page.wait_for_timeout(300)
        segmenter.set_params(**{name: value})
        masks, names = driver.masks(), driver.order()
        paths = [path for path in pair.queries if path.name in names]
        expected = segmenter.predict(paths)
        ious += [agreement(masks[path.name], mask) for path, mask in zip(paths, expected, strict=True)]
    segmenter.set_params(threshold=own["threshold"], presence=own["presence"])
    assert not [note for note in page.noted[requests:] if "segment" in note or "fit" in note], "the server was asked"
    page.reload()
    page.locator("#name").wait_for()
    page.locator("#results figure").first.wait_for()
    again = driver.masks()
    kept = float(all(np.array_equal(masks[one], again[one]) for one in masks) and set(masks) == set(again))
    return {"kept": kept, "least agreement": min(ious), "mean agreement": float(np.mean(ious))}


def agreement(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the share of the pixels of either mask, of any class, at which both are equal; 1 for empty masks."""
    marked = (one > 0) | (other > 0)
    return float((one == other)[marked].mean()) if marked.any() else 1.0


def save_views(page: Any, folder: Path) -> None:
    """Save pictures of the page: wide, dark, and of a phone's size."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, width, height, scheme in (
        ("wide", 1280, 800, "light"),
        ("dark", 1280, 800, "dark"),
        ("phone", 390, 844, "light"),
    ):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(400)
        page.screenshot(path=str(folder / f"{name}.png"), full_page=name == "phone")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_timeout(400)


def measure_times(page: Any, photo: Path, scratch: Path) -> dict[str, float]:
    """Measure a picture of 6000 × 4000 px: regions, clicks and strokes, in ms."""
    path = scratch / "large.jpg"
    Image.open(photo).convert("RGB").resize(LARGE, Image.Resampling.BICUBIC).save(path, "JPEG", quality=90)
    driver = PageDriver(page)
    driver.tool("region")
    begun = page.evaluate("performance.now()")
    page.locator("#supports").set_input_files(str(path))
    while not page.evaluate("performance.getEntriesByName('regions').length"):
        page.wait_for_timeout(20)
    ready = page.evaluate("performance.getEntriesByName('regions').at(-1).startTime") - begun
    page.locator("#add-class").click()
    page.evaluate(TOLD)
    rng = np.random.default_rng(0)
    for level in (0.2, 0.45, 0.8, 1.0):
        page.locator("#level").fill(str(level))
        for number, (x, y) in enumerate(rng.uniform((100, 100), (LARGE[0] - 100, LARGE[1] - 100), (10, 2))):
            driver.choose_class(1 + number % 2)  # so that each click changes pixels
            page.mouse.move(*driver.place(x, y, LARGE))
            page.wait_for_timeout(40)
            page.mouse.down()
            page.mouse.up()
            page.wait_for_timeout(80)
    clicks = [one[1:] for one in page.evaluate("window.told") if one[0] == "pointerdown"]
    driver.tool("brush")
    page.evaluate("window.told = []")
    moves = []
    for radius in (5, 20, 60):
        page.locator("#size").fill(str(radius))
        for start in rng.uniform((500, 500), (LARGE[0] - 500, LARGE[1] - 500), (4, 2)):
            page.mouse.move(*driver.place(float(start[0]), float(start[1]), LARGE))
            page.mouse.down()
            page.evaluate("window.told = []")
            for step in range(1, 25):
                page.mouse.move(*driver.place(start[0] + 60 * np.sin(step), start[1] + 15 * step, LARGE))
                page.wait_for_timeout(17)
            moves += [one[1:] for one in page.evaluate("window.told") if one[0] == "pointermove"]
            page.mouse.up()
    (click, click_script), (move, move_script) = np.transpose(clicks), np.transpose(moves)
    values = (ready, np.median(click), np.quantile(click, 0.95), np.median(move), np.quantile(move, 0.95))
    return {
        **dict(zip(TIMES, map(float, values), strict=True)),
        "click script median": float(np.median(click_script)),
        "stroke script median": float(np.median(move_script)),
        "largest script": float(max(click_script.max(), move_script.max())),
        **{"clicks": len(clicks), "strokes": len(moves)},
    }


def run_pair(address: str, segmenter: Segmenter, pair: Pair, pictures: Path | None) -> dict[str, Any]:
    """Work through the page with one pair of classes, in a browser of its own."""
    with opened(address, 1280, 800) as page:
        driver = PageDriver(page)
        row = run_loop(driver, pair, pictures)
        checks = check_threshold_and_reload(driver, segmenter, pair)
        return {"row": row, "checks": checks, "complaints": complaints_of(page, address)}


def run_times(address: str, photo: Path) -> dict[str, Any]:
    """Measure the times in a browser of its own, and the machine's load before and after."""
    before = os.getloadavg()[0]
    with opened(address, 1280, 800) as page, tempfile.TemporaryDirectory() as scratch:
        times = measure_times(page, photo, Path(scratch))
        return {**times, "load": [before, os.getloadavg()[0]], "complaints": complaints_of(page, address)}


def complaints_of(page: Any, address: str) -> list[str]:
    """Return the messages of the console, and the requests to other addresses."""
    return [note for note in page.noted if not note.startswith((address, "data:", "blob:"))]


def kept(path: Path, run: Callable[[], dict[str, Any]]) -> None:
    """Write what a run returns to a file, unless there is one."""
    if not path.exists():
        path.write_text(json.dumps(run()), encoding="utf8")
    print(path.stem, path.read_text(encoding="utf8"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--stem", default="")
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="number of pairs of classes")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the page")
    parser.add_argument("--keep", type=Path, help="folder in which finished parts are kept for another run")
    parser.add_argument("--out", type=Path, help="page of results to write")
    options = parser.parse_args()
    keep = options.keep or Path(tempfile.mkdtemp())
    keep.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter.load(weights=options.weights, stem=options.stem)
    with serving(segmenter) as address:
        for number, names in enumerate(PAIRS[: options.pairs]):
            run = partial(
                run_pair, address, segmenter, choose(options.voc, names), None if number else options.pictures
            )
            kept(keep / f"{'-'.join(names)}.json", run)
        photo = choose(options.voc, PAIRS[0]).queries[0]
        kept(keep / "times.json", partial(run_times, address, photo))
    results = [json.loads((keep / f"{'-'.join(names)}.json").read_text()) for names in PAIRS[: options.pairs]]
    times = json.loads((keep / "times.json").read_text())
    rows, checks = [result["row"] for result in results], [result["checks"] for result in results]
    complaints = [note for result in [*results, times] for note in result["complaints"]]
    print("console and requests elsewhere:", complaints or "nothing")
    if options.out:
        options.out.write_text(report(rows, checks, times, complaints), encoding="utf8")


def report(
    rows: list[dict[str, Any]], checks: list[dict[str, float]], times: dict[str, Any], complaints: list[str]
) -> str:
    """Return the page of results."""
    keys = ("before", "after", "before, all", "after, all")
    rows = [*rows, {"classes": "mean", **{key: float(np.mean([row[key] for row in rows])) for key in keys}}]
    table = "\n".join(
        f"| {row['classes']} | {row.get('regions', '')} | {row.get('corners', '')} | "
        + " | ".join(f"{100 * row[key]:.1f}" for key in keys)
        + " |"
        for row in rows
    )
    kinds = "\n".join(
        f"| {row['classes']} | {' and '.join(row['shown'])} | "
        + " | ".join(f"{100 * value:.1f}" for pair in row["of classes"] for value in pair)
        + " |"
        for row in rows[:-1]
    )
    same = "equal" if all(one["kept"] for one in checks) else "NOT equal"
    least, mean = min(one["least agreement"] for one in checks), np.mean([one["mean agreement"] for one in checks])
    sliders = ", ".join(f"{name} {value}" for name, value in SLIDERS)
    figures = " | ".join(f"{times[key]:.1f}" for key in (*TIMES, "largest script"))
    return f"""# The page in a browser

`python -m benchmarks.page --voc DIR --weights PATH --stem msra --out docs/results/page.md` writes this page. A program
works on the page as a person would, in Chromium: it paints an example of each of two classes (region brush, brush,
polygon), undoes a box, segments {QUERIES} pictures of `val`, corrects the least certain one to its true mask, takes it
as a further example, and segments the others again. Masks are those that the page exports, read by pycocotools.

Mean IoU, %, of two classes; ResNet-50, ImageNet weights, nothing trained:

| classes | region clicks | corners of a polygon | other nine, before | after | all ten, before | after |
|---|---|---|---|---|---|---|
{table}

Ten pictures are few: the table shows that the loop works, not how good the method is. IoU of each class in the other
nine pictures, and what the corrected picture shows:

| classes | corrected picture | first class, before | after | second class, before | after |
|---|---|---|---|---|---|
{kinds}

A further support of one class alone can cost the other class pixels; other ways to weigh the classes cost more
([uneven.md](uneven.md)).

* The sliders ({sliders}, one after the other), without a request to
  the server: agreement of each result with the mask of the segmenter at these settings, {mean:.4f} in the mean and
  {least:.4f} at least (share of equal pixels, of those that either mask marks).
* After a reload, the exported masks are {same} to those before.
* Messages in the console, and requests to other addresses: {len(complaints)}.

Times on a picture of {LARGE[0]} × {LARGE[1]} px, in ms, from the event to the end of the next frame, in Chromium
without a window or a GPU, on two cores (load average {times["load"][0]:.1f} before, {times["load"][1]:.1f} after).
Clicks are at four levels, up to one that takes the whole picture. The last column is the longest that one kept the
page's script busy ({times["clicks"]} clicks, {times["strokes"]} strokes):

| regions ready after the choice of a file | click to region, median | 95 % | stroke to paint, median | 95 % | script |
|---|---|---|---|---|---|
| {figures} |
"""


if __name__ == "__main__":
    main()
