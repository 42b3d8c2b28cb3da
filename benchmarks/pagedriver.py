"""A person who works with the local page, simulated: what benchmarks and tests do with it in a real browser."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.exchange.outline import outlines, simplify
from novelseg.regions.hierarchy import Hierarchy
from novelseg.regions.learned import build_hierarchy

MARGIN = 16  # px of the canvas that the whole picture leaves free (view.js)
PURE = 0.9  # share of a region inside an object from which a person takes it
Mask = NDArray[np.bool_]


class PageDriver:
    """Hands on the page of a browser, which shows the local page.

    Parameters
    ----------
    page
        Playwright's page, of one device pixel per pixel.
    """

    def __init__(self, page: Any) -> None:
        self.page = page

    def add(self, kind: str, paths: Sequence[Path]) -> None:
        """Add pictures as ``supports`` or ``queries``, and wait until the first one is on the stage."""
        self.page.locator(f"#{kind}").set_input_files([str(path) for path in paths])
        area = "#examples" if kind == "supports" else "#results"
        for path in paths:
            self.page.locator(f"{area} figure", has_text=path.name).wait_for()
        if kind == "supports":
            self.page.locator("#name", has_text=paths[0].name).wait_for()

    def open(self, name: str) -> None:
        """Bring a picture onto the stage."""
        self.page.get_by_label(f"open {name}").click()
        self.page.locator("#name", has_text=name).wait_for()
        self.page.locator(f"figure.current[data-name={json.dumps(name, ensure_ascii=False)}]").wait_for()

    def tool(self, name: str) -> None:
        """Choose a tool by its button."""
        self.page.locator(f"button[data-tool={name}]").click()

    def choose_class(self, label: int) -> None:
        """Choose the class to paint by its key."""
        self.page.locator("#stage").focus()
        self.page.keyboard.press(str(label))

    def name_class(self, label: int, name: str) -> None:
        """Write the name of a class."""
        field = self.page.get_by_label(f"name of class {label}")
        field.fill(name)
        field.press("Enter")

    def place(self, x: float, y: float, size: tuple[int, int]) -> tuple[float, float]:
        """Return where a point of the whole picture, of ``size`` (width, height), is in the window."""
        box = self.page.locator("#stage").bounding_box()
        width, height = size
        scale = min((box["width"] - MARGIN) / width, (box["height"] - MARGIN) / height)
        left, top = box["x"] + (box["width"] - width * scale) / 2, box["y"] + (box["height"] - height * scale) / 2
        return left + x * scale, top + y * scale

    def brush(self, mask: Mask, radius: float) -> None:
        """Paint an object in strokes along its rows; ``radius`` is that of the brush, px of the picture."""
        height, width = mask.shape
        size = (width, height)
        self.tool("brush")
        scale = self.place(1, 0, size)[0] - self.place(0, 0, size)[0]
        slider = self.page.locator("#size")
        slider.fill(str(max(1, round(radius * scale))))
        mouse = self.page.mouse
        for row in np.arange(radius, height, 1.5 * radius):
            line = mask[max(0, int(row - radius)) : int(row + radius) + 1].all(0)
            edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
            for first, last in zip(edges[0::2], edges[1::2], strict=True):
                if last - first < 2 * radius:
                    continue
                mouse.move(*self.place(first + radius, row, size))
                mouse.down()
                mouse.move(*self.place(last - radius, row, size), steps=4)
                mouse.up()

    def polygon(self, mask: Mask, tolerance: float = 2.0) -> int:
        """Draw the outlines of an object with the polygon tool; return the number of clicks."""
        height, width = mask.shape
        self.tool("polygon")
        clicks = 0
        for outline in outlines(mask):
            points = simplify(outline, tolerance)
            if len(points) < 3 or np.ptp(points, axis=0).min() < 3:
                continue
            for x, y in points:
                self.page.mouse.click(*self.place(float(x), float(y), (width, height)))
            self.page.keyboard.press("Shift+Enter")
            clicks += len(points)
        return clicks

    def regions(self, image: NDArray[np.uint8], mask: Mask, most: int) -> int:
        """Click regions that lie in an object, the largest first; return the number of clicks."""
        self.tool("region")
        self.page.locator("#painted:not(:has-text('finding regions'))").wait_for()
        height, width = mask.shape
        chosen = region_clicks(build_hierarchy(image), mask, most)
        for x, y, strength in chosen:
            self.page.locator("#level").fill(f"{strength:.3f}")
            self.page.mouse.click(*self.place(x, y, (width, height)))
        return len(chosen)

    def segment(self, timeout: float = 600) -> str:
        """Press the button and wait for the end; return what the page says."""
        self.page.locator("#go").click()
        return self.wait_for_end(timeout)

    def wait_for_end(self, timeout: float = 600) -> str:
        """Wait for the end of a run or an export."""
        self.page.locator("#cancel").wait_for(state="hidden", timeout=1000 * timeout)
        return str(self.page.locator("#state").inner_text())

    def set_slider(self, name: str, value: float) -> None:
        """Move a slider, as a person does, with events of input and change."""
        self.page.locator(f"#{name}").fill(f"{value:g}")
        self.page.locator(f"#{name}").dispatch_event("change")

    def order(self) -> list[str]:
        """Return the names of the results in the order of the page."""
        figures = self.page.locator("#results figure").all()
        return [str(figure.get_attribute("data-name")) for figure in figures]

    def export(self, format_name: str, path: Path) -> str:
        """Export the masks to a file; return the name that the page gives it."""
        self.page.locator("#format").select_option(format_name)
        with self.page.expect_download() as event:
            self.page.locator("#export").click()
        event.value.save_as(path)
        self.wait_for_end()
        return str(event.value.suggested_filename)

    def masks(self) -> dict[str, NDArray[np.uint8]]:
        """Export COCO's annotations and read them with pycocotools: masks of the class numbers by picture."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "annotations.json"
            self.export("coco", path)
            return read_coco(path)


def read_coco(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Read COCO's annotations with pycocotools."""
    from pycocotools import mask as coco

    content = json.loads(path.read_text(encoding="utf8"))
    masks = {one["id"]: np.zeros((one["height"], one["width"]), np.uint8) for one in content["images"]}
    for one in content["annotations"]:
        runs = {**one["segmentation"], "counts": one["segmentation"]["counts"].encode()}
        masks[one["image_id"]][coco.decode(runs) > 0] = one["category_id"]
    return {one["file_name"]: masks[one["id"]] for one in content["images"]}


def region_clicks(tree: Hierarchy, mask: Mask, most: int) -> list[tuple[float, float, float]]:
    """Choose regions that lie in an object: for each a point, px of the mask, and the contour strength of the cut."""
    rows, columns = tree.basins.shape
    height, width = mask.shape
    small = mask[(np.arange(rows) * height) // rows][:, (np.arange(columns) * width) // columns]
    nodes = len(tree.parents)
    area = np.bincount(tree.basins.reshape(-1), minlength=nodes).astype(float)
    inside = np.bincount(tree.basins.reshape(-1), small.reshape(-1), minlength=nodes)
    for node in range(nodes - 1):
        area[tree.parents[node]] += area[node]
        inside[tree.parents[node]] += inside[node]
    pure = inside >= PURE * area
    maximal = [node for node in range(nodes) if pure[node] and (node == nodes - 1 or not pure[tree.parents[node]])]
    clicks = []
    for node in sorted(maximal, key=lambda one: -area[one])[:most]:
        below = np.zeros(nodes, bool)
        below[node] = True
        for other in range(node - 1, -1, -1):
            below[other] |= below[tree.parents[other]]
        ys, xs = np.nonzero(below[tree.basins] & small)
        middle = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
        x, y = (xs[middle] + 0.5) * width / columns, (ys[middle] + 0.5) * height / rows
        clicks.append((float(x), float(y), float(min(1.0, tree.heights[node] + 0.002))))
    return clicks


def class_ious(
    found: dict[str, NDArray[np.uint8]], truth: dict[str, NDArray[np.uint8]], names: Iterable[str]
) -> dict[int, float]:
    """Return the IoU of each class, summed over pictures; void pixels (255) do not count."""
    names = list(names)
    labels = sorted({int(label) for name in names for label in np.unique(truth[name])} - {0, 255})
    values = {}
    for label in labels:
        pairs = [((found[name] == label) & (truth[name] != 255), truth[name] == label) for name in names]
        union = sum(int((one | other).sum()) for one, other in pairs)
        values[label] = sum(int((one & other).sum()) for one, other in pairs) / union
    return values


def mean_iou(found: dict[str, NDArray[np.uint8]], truth: dict[str, NDArray[np.uint8]], names: Iterable[str]) -> float:
    """Return the mean of :func:`class_ious`."""
    return float(np.mean(list(class_ious(found, truth, names).values())))


def save_picture(path: Path, image: NDArray[np.uint8]) -> Path:
    """Write a picture, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path
