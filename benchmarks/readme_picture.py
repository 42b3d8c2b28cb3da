"""Draw ``docs/example.png``, the picture of the README: supports with masks, and queries with predicted masks.

``python -m benchmarks.readme_picture --bundle bundle.safetensors`` needs a bundle of the demo (`make demo`, then
``novelseg export`` of the encoder that was trained with five supports). Each row is one novel class of the built-in
scenes. Supports and queries are the first validation scenes in which the class is large enough; none is selected by
hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.scenes import CLASSES, SceneSettings, scene
from novelseg.methods.refiners import SEGMENTER_VARIANTS
from novelseg.ops.counts import object_iou
from novelseg.ops.drawing import overlay

SCENES = SceneSettings(seed=0, train=320, val=160, size=96)  # the settings of the preset `demo`
LEAST_PX = 300  # smaller objects are hard to see in the picture
SUPPORTS, QUERIES, VARIANT = 3, 4, "srofb-support-only"
TILE, GAP, BREAK, HEADER, FOOTER = 150, 6, 26, 26, 22
DARK, GREY, WHITE = (27, 31, 36), (87, 96, 106), (255, 255, 255)
FONT = findfont("DejaVu Sans")


@dataclass(frozen=True)
class Example:
    """A scene (H, W, 3) and the mask (H, W) of one class in it: 1 object, 0 background, 255 void."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def examples(label: int) -> Iterator[Example]:
    """Yield the validation scenes with at least ``LEAST_PX`` pixels of a class, in order."""
    for number in range(SCENES.train, SCENES.train + SCENES.val):
        image, labels = scene(SCENES, number)
        if (labels == label).sum() >= LEAST_PX:
            yield Example(image, np.where(labels == VOID, VOID, labels == label).astype(np.uint8))


def tile(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, caption: str) -> Image.Image:
    """Draw a scene with the mask over it and a caption below."""
    scale = TILE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    if mask is not None:
        labels = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
        photo = Image.fromarray(overlay(np.asarray(photo), np.asarray(labels), 2))
    canvas = Image.new("RGB", (TILE, TILE + FOOTER), WHITE)
    canvas.paste(photo, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    draw = ImageDraw.Draw(canvas)
    draw.text((TILE / 2, TILE + FOOTER / 2), caption, GREY, ImageFont.truetype(FONT, 12), anchor="mm")
    return canvas


def draw_row(segmenter: Segmenter, label: int) -> list[Image.Image]:
    """Draw the row of one class: supports with their masks, then queries with the predicted masks."""
    name = CLASSES[label - 1]
    scenes = list(islice(examples(label), SUPPORTS + QUERIES))
    supports, queries = scenes[:SUPPORTS], scenes[SUPPORTS:]
    segmenter.fit([support.image for support in supports], [support.mask for support in supports])
    caption = f"“{name}”, mask given"
    tiles = [tile(support.image, np.where(support.mask == VOID, 0, support.mask), caption) for support in supports]
    for query, mask in zip(queries, segmenter.predict([query.image for query in queries]), strict=True):
        iou = object_iou(mask, query.mask)
        tiles.append(tile(query.image, mask, "not in the image" if iou is None else f"IoU {100 * iou:.0f} %"))
    return tiles


def draw_sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Arrange the rows on one sheet, with headings for the supports and the queries."""
    start = SUPPORTS * (TILE + GAP) - GAP + BREAK
    width = start + QUERIES * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, HEADER + len(rows) * (TILE + FOOTER)), WHITE)
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(FONT, 14)
    draw.text((0, 4), f"input: {SUPPORTS} images with masks", DARK, font)
    draw.text((start, 4), "output: masks in other images, predicted", DARK, font)
    for row, tiles in enumerate(rows):
        top = HEADER + row * (TILE + FOOTER)
        for column, picture in enumerate(tiles):
            left = column * (TILE + GAP) + (BREAK - GAP if column >= SUPPORTS else 0)
            sheet.paste(picture, (left, top))
    draw.line((start - BREAK // 2, HEADER, start - BREAK // 2, sheet.height - FOOTER), GREY)
    return sheet


def main() -> None:
    """Segment the queries of every novel class and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme_picture", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundle.safetensors"), help="bundle of the demo")
    parser.add_argument("--out", type=Path, default=Path("docs/example.png"), help="PNG to write")
    parser.add_argument(
        "--variant", choices=SEGMENTER_VARIANTS, default=VARIANT, help="variant that predicts the masks"
    )
    options = parser.parse_args()
    try:
        segmenter = Segmenter.load(options.bundle, variant=options.variant, device="cpu")
    except InputError as error:
        parser.error(str(error))
    base = segmenter.bundle_.about["classes"]
    novel = [label for label, name in enumerate(CLASSES, 1) if name not in base]
    if not novel or set(base) - set(CLASSES):
        parser.error(f"{options.bundle}: its encoder was not trained on the built-in scenes; give a bundle of the demo")
    sheet = draw_sheet([draw_row(segmenter, label) for label in novel])
    sheet.quantize(128, dither=Image.Dither.NONE).save(options.out, optimize=True)
    print(
        f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB, novel: {', '.join(CLASSES[n - 1] for n in novel)}"
    )


if __name__ == "__main__":
    main()
