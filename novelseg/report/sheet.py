"""Sheets of pictures: views of the report's cards in rows, as one PNG."""

from __future__ import annotations

import base64
import io
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

CELL_INCHES = 1.7
Views = list[tuple[str, str, str]]  # caption, data URI of the picture, data URI of a layer or empty


def _decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def _composed(base: str, layer: str) -> Image.Image:
    """Return a picture with a layer over it."""
    picture = _decode(base).convert("RGBA")
    if layer:
        picture.alpha_composite(_decode(layer).convert("RGBA").resize(picture.size, Image.Resampling.NEAREST))
    return picture.convert("RGB")


def views_of(card: dict[str, Any], captions: list[str]) -> Views:
    """Return the views of a card with the given captions, without the score that may follow, in the given order."""
    chosen: Views = []
    for wanted in captions:
        for view in card["views"]:
            if view["caption"] == wanted or view["caption"].startswith(f"{wanted}:"):
                chosen.append((view["caption"], card["pictures"][view["base"]], view["layer"]))
                break
    return chosen


def sheet(rows: list[tuple[str, Views]]) -> bytes:
    """Draw rows of views, each with its title on the left and a caption above every picture, as PNG."""
    columns = max(len(views) for _, views in rows)
    figure = Figure(figsize=(CELL_INCHES * columns, (CELL_INCHES + 0.25) * len(rows)), layout="constrained", dpi=130)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, views) in zip(grid, rows, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, (caption, base, layer) in zip(line, views, strict=False):
            axes.imshow(_composed(base, layer))
            axes.set_title(caption, fontsize=6.5)
        line[0].text(-0.06, 0.5, title, fontsize=6, rotation=90, va="center", ha="right", transform=line[0].transAxes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
