"""Pictures of the report as data URIs: photographs, layers to put over them, and curves."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from novelseg.core.labels import VOID
from novelseg.core.random import numpy_generator
from novelseg.ops.drawing import BORDER, FOREGROUND, RGB, UNKNOWN, outline

mpl.use("agg")

BACKGROUND = (40, 110, 230)
SIDE_PX = 240
STYLES = ("-", "--", ":", "-.")  # of lines that may coincide
MARKS = ("o", "s", "^", "D")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the width and height of a picture whose longer side is scaled to ``side``."""
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def tile(image: RGB, side: int = SIDE_PX) -> str:
    """Encode a picture as JPEG, with the longer side scaled to ``side`` px."""
    size = _size(image.shape[0], image.shape[1], side)
    method = Image.Resampling.BICUBIC if size[0] > image.shape[1] else Image.Resampling.LANCZOS
    buffer = io.BytesIO()
    Image.fromarray(image).resize(size, method).save(buffer, "JPEG", quality=85)
    return _uri(buffer.getvalue(), "jpeg")


def layer(values: NDArray[np.uint8], colours: dict[int, tuple[int, int, int, int]], side: int = SIDE_PX) -> str:
    """Encode a map as a PNG layer, with (red, green, blue, opacity) per value; other values are transparent."""
    size = _size(values.shape[0], values.shape[1], side)
    picture = Image.fromarray(values).resize(size, Image.Resampling.NEAREST)
    table = np.zeros((256, 4), np.uint8)
    for value, colour in colours.items():
        table[value] = colour
    picture.putpalette(table[:, :3].tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=table[:, 3].tobytes(), optimize=True)
    return _uri(buffer.getvalue(), "png")


INSIDE, EDGE = 1, 2
MASK_COLOURS = {INSIDE: (*FOREGROUND, 115), EDGE: (*BORDER, 255), VOID: (*UNKNOWN, 150)}
CELL_COLOURS = {0: (255, 255, 255, 140), 1: (*BACKGROUND, 115), 2: (*FOREGROUND, 128)}


def mask_layer(mask: NDArray[np.uint8]) -> str:
    """Draw a mask as a layer: tinted and outlined foreground (1), grey void (255)."""
    height, width = mask.shape
    values = mask.copy()
    # The outline has the same width on the page for pictures of any size.
    values[outline(mask == 1, max(1, round(max(height, width) / SIDE_PX)))] = EDGE
    return layer(values, MASK_COLOURS)


def borders_layer(labels: NDArray[np.integer]) -> str:
    """Draw the borders of regions as a layer."""
    edge = np.zeros(labels.shape, np.uint8)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    thick = edge.copy()  # scaling down would leave gaps in lines of one pixel
    thick[1:] |= edge[:-1]
    thick[:, 1:] |= edge[:, :-1]
    return layer(EDGE * thick, MASK_COLOURS)


def labels_layer(labels: NDArray[np.uint8]) -> str:
    """Draw a label map as a layer in fixed random colours, with void in black."""
    colours = numpy_generator("label colours").integers(40, 256, (256, 3)).tolist()
    table = {int(label): (*map(int, colours[label]), 235) for label in np.unique(labels) if label != VOID}
    return layer(labels, {**table, VOID: (0, 0, 0, 235)})  # type: ignore[dict-item]


def cells_layer(cells: NDArray[np.uint8], size: tuple[int, int]) -> str:
    """Draw confident query cells as a layer of a given size: red foreground, blue background, other cells dimmed."""
    rows, columns = ((np.arange(length) * count) // length for length, count in zip(size, cells.shape, strict=True))
    return layer(cells[rows][:, columns], CELL_COLOURS)


def heat(image: RGB, values: NDArray[np.uint8]) -> str:
    """Blend a picture with a map of cells, 0–255, in colour; the map is upsampled bilinearly with aligned corners."""
    rows, columns = (
        np.linspace(0, cells - 1, length) for cells, length in zip(values.shape, image.shape[:2], strict=True)
    )
    full = map_coordinates(values.astype(np.float32) / 255, np.meshgrid(rows, columns, indexing="ij"), order=1)
    colours = 255 * mpl.colormaps["inferno"](full)[..., :3]
    return tile((0.35 * image + 0.65 * colours).astype(np.uint8))


def loss_curves(logs: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """Plot the total loss of every training, one figure per stage; a training's name is ``STAGE fold N …``.

    Trainings that differ in more than their fold have panels of their own, since their curves may coincide.
    """
    titled = []
    for stage in dict.fromkeys(name.split()[0] for name in logs):
        panels: dict[str, dict[str, pd.DataFrame]] = {}
        for name, log in logs.items():
            if name.split()[0] == stage:
                _, _, fold, *kind = name.split()
                panels.setdefault(" ".join(kind), {})[fold] = log
        titled.append((f"Loss of stage {stage}", _uri(svg(_loss_panels(panels), transparent=True), "svg+xml")))
    return titled


def _loss_panels(panels: dict[str, dict[str, pd.DataFrame]]) -> Figure:
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.6, 0.8 + 2.1 * rows if rows > 1 else 3.2), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    folds = sorted({fold for logs in panels.values() for fold in logs}, key=int)
    for axes, (kind, logs) in zip(grid.flat, panels.items(), strict=False):
        for fold, log in logs.items():
            style = STYLES[folds.index(fold) % len(STYLES)]
            axes.plot(log["iteration"], log["loss"], label=f"fold {fold}", linewidth=1.4, linestyle=style)
        axes.set(yscale="log", title=kind)
        axes.title.set_fontsize(9)
        for place in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            place(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.tick_params(labelsize=8, which="both")
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel("iteration", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    if len(folds) > 1:
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=len(folds))
    return figure


def intervals(table: pd.DataFrame) -> str:
    """Plot the mIoU of every variant with its interval, and return the plot as a data URI.

    There is one line per variant, with one mark per number of supports.
    """
    variants, shots = list(dict.fromkeys(table["variant"])), sorted(table["shot"].unique())
    figure = Figure(figsize=(5.6, 1.2 + 0.32 * len(variants)), layout="constrained")
    axes = figure.subplots()
    for position, shot in enumerate(shots):
        part = table[table["shot"] == shot]
        offset = 0.3 * ((position + 0.5) / len(shots) - 0.5)
        rows = [variants.index(variant) + offset for variant in part["variant"]]
        errors = [part["miou"] - part["miou_low"], part["miou_high"] - part["miou"]]
        mark = MARKS[position % len(MARKS)]
        label = f"{shot} support{'s' if shot > 1 else ''}"
        axes.errorbar(part["miou"], rows, xerr=errors, fmt=mark, markersize=5, linewidth=1.2, label=label)
    axes.set_yticks(range(len(variants)), variants, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("mIoU, %", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=len(shots))
    return _uri(svg(figure, transparent=True), "svg+xml")


def svg_uri(path: Path) -> str:
    """Encode an SVG file as a data URI."""
    return _uri(path.read_bytes(), "svg+xml")


def svg(figure: Figure, *, transparent: bool = False) -> bytes:
    """Render a figure as SVG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "novelseg"}):
        figure.savefig(buffer, format="svg", transparent=transparent, metadata={"Date": None})
    return buffer.getvalue()
