"""Draw ``docs/regions.png``: the region hierarchy, cut at three values of τ, beside felzenszwalb and slic.

Run with ``python -m benchmarks.region_picture``. The photographs come with scikit-image and are in the public domain
(astronaut: NASA; rocket: SpaceX; coffee, chelsea: CC0). felzenszwalb has its best scale on BSDS500's
validation images (docs/regions/bsds500-val.md); slic has about as many segments as the hierarchy has regions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import felzenszwalb, find_boundaries, slic

from benchmarks.regions import SHAPE, photographs
from novelseg.core.threads import one_thread
from novelseg.regions import ucm
from novelseg.regions.hierarchy import cut
from novelseg.regions.weights import BSDS500, load_model

TAUS = (0.25, 0.45, 0.7)
OUT = Path("docs/regions.png")
FONT = findfont("DejaVu Sans")  # part of matplotlib; contains the letter τ
WIDTH, HEIGHT, GAP, HEADER = 260, 174, 6, 26


def draw_regions(image: NDArray[np.uint8], labels: NDArray[np.integer]) -> Image.Image:
    """Draw regions (H, W) in the mean colours of an image (H, W, 3), with their borders and their number."""
    numbers = np.unique(labels, return_inverse=True)[1].reshape(-1)
    area = np.bincount(numbers)
    means = np.stack([np.bincount(numbers, image[..., c].reshape(-1)) / area for c in range(3)], axis=1)
    picture = means[numbers].reshape(image.shape)
    picture[find_boundaries(labels, mode="inner")] = (255, 235, 60)
    tile = Image.fromarray(picture.astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(tile)
    text = f"{len(area)} regions"
    draw.rectangle((0, HEIGHT - 20, 10 + draw.textlength(text, ImageFont.truetype(FONT, 12)), HEIGHT), fill=(0, 0, 0))
    draw.text((5, HEIGHT - 18), text, fill=(255, 255, 255), font=ImageFont.truetype(FONT, 12))
    return tile


def main() -> None:
    """Segment the photographs by every method and write the picture."""
    model = load_model(BSDS500)
    titles = ["photograph", *(f"ucm, τ = {tau}" for tau in TAUS), "felzenszwalb, scale 800", "slic, 30 segments"]
    photos = photographs(SHAPE)
    sheet = Image.new(
        "RGB", ((WIDTH + GAP) * len(titles) - GAP, HEADER + (HEIGHT + GAP) * len(photos) - GAP), (255, 255, 255)
    )
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * (WIDTH + GAP) + 2, 5), title, fill=(20, 20, 20), font=ImageFont.truetype(FONT, 14))
    with one_thread():
        for row, image in enumerate(photos):
            tree = ucm.build(image, model)
            maps = [cut(tree, tau, SHAPE) for tau in TAUS]
            maps += [felzenszwalb(image, scale=800), slic(image, n_segments=30)]
            tiles = [Image.fromarray(image).resize((WIDTH, HEIGHT)), *(draw_regions(image, labels) for labels in maps)]
            for column, tile in enumerate(tiles):
                sheet.paste(tile, (column * (WIDTH + GAP), HEADER + row * (HEIGHT + GAP)))
    sheet.quantize(256, dither=Image.Dither.NONE).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
