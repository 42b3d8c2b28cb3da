"""Pictures of the report, as data URIs: overlays, regions, label maps, curves."""

from __future__ import annotations

import base64
import io

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates

from stages.core.labels import VOID
from stages.core.random import numpy_generator
from stages.ops import drawing
from stages.ops.drawing import BORDER, FOREGROUND, RGB, mix

mpl.use("agg")

BACKGROUND = (40, 110, 230)
SIDE_PX = 240


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def tile(image: RGB) -> str:
    """A picture, made at most :data:`SIDE_PX` long, as JPEG."""
    picture = Image.fromarray(image)
    scale = SIDE_PX / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS).save(
        buffer, "JPEG", quality=85
    )
    return _uri(buffer.getvalue(), "jpeg")


def overlay(image: RGB, mask: NDArray[np.uint8]) -> str:
    """Foreground (mask 1) tinted, its outline drawn; void (255) grey."""
    return tile(drawing.overlay(image, mask))


def region_borders(image: RGB, labels: NDArray[np.integer]) -> str:
    """Borders of regions over the picture."""
    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return tile(mix(image, edge, BORDER, 1.0))


def label_map(labels: NDArray[np.uint8]) -> str:
    """Label maps in fixed random colours; void black."""
    colours = numpy_generator("label colours").integers(40, 256, (256, 3)).astype(np.uint8)
    colours[VOID] = 0
    return tile(colours[labels])


def heat(image: RGB, values: NDArray[np.uint8]) -> str:
    """A map of 0–255 in colours over the picture, bilinear, corners on corners."""
    rows, columns = (
        np.linspace(0, cells - 1, length) for cells, length in zip(values.shape, image.shape[:2], strict=True)
    )
    full = map_coordinates(values.astype(np.float32) / 255, np.meshgrid(rows, columns, indexing="ij"), order=1)
    colours = 255 * mpl.colormaps["inferno"](full)[..., :3]
    return tile((0.35 * image + 0.65 * colours).astype(np.uint8))


def confident(image: RGB, cells: NDArray[np.uint8]) -> str:
    """Query cells that refine the classifier: red foreground, blue background, the rest dimmed."""
    rows = (np.arange(image.shape[0]) * cells.shape[0]) // image.shape[0]
    columns = (np.arange(image.shape[1]) * cells.shape[1]) // image.shape[1]
    spread = cells[rows][:, columns]
    shown = mix(image, spread == 0, (255, 255, 255), 0.55)
    shown = mix(shown, spread == 1, BACKGROUND, 0.45)
    return tile(mix(shown, spread == 2, FOREGROUND, 0.5))


def loss_curves(logs: dict[str, pd.DataFrame]) -> str:
    """Whole loss of every training against iterations, as SVG."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, log in logs.items():
        axes.plot(log["iteration"], log["loss"], label=name, linewidth=1.2)
    axes.set(xlabel="iteration", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return _uri(svg(figure), "svg+xml")


def svg(figure: Figure) -> bytes:
    """A figure as SVG, the same bytes each time."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "novelseg"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
