"""The built-in data: small generated images of textured objects on textured ground, written in VOC layout.

Every image contains one to three objects of different classes, so that many images of base classes also contain novel
objects without a label, the situation that the methods address. A class has one shape and several breeds (texture and
palette). Sizes and variation are calibrated on statistics of PASCAL VOC (docs/decisions/0004-built-in-data.md). Only
additions, products, quotients, roots and comparisons are used, which IEEE 754 rounds identically everywhere, so that a
seed gives the same pixels on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.labels import VOID
from novelseg.core.random import numpy_generator
from novelseg.data.classes import voc_palette
from novelseg.data.drawing.grounds import ground
from novelseg.data.drawing.kinds import CLASSES, KINDS, Breed, Kind
from novelseg.data.drawing.shapes import Array

__all__ = ["CLASSES", "SceneSettings", "draw", "scene", "scene_ids", "write_voc"]

COUNTS = (1, 1, 1, 2, 2, 3)  # objects of an image, drawn from these
RADII = (0.11, 0.46)  # range of the objects' half size, parts of the image's longest side
MARKED = 0.4  # the marking lies above this height in the object's frame, the coat below it
ATTEMPTS = 20  # places that are tried for an object before it is left out


@dataclass(frozen=True)
class SceneSettings:
    """Settings of the built-in data: seed, numbers of training and validation images, longest side in px."""

    seed: int
    train: int
    val: int
    size: int


def _frame(rng: np.random.Generator, radius: float, height: int, width: int) -> tuple[slice, slice, Array, Array]:
    """Place an object: rows and columns of the image that may show it, and its coordinates (u, v) there."""
    t = 2 * float(rng.random()) - 1  # tan of half the angle: rotation without sine and cosine
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    squeeze = 0.8 + 0.4 * float(rng.random())
    cy, cx = (radius * 0.7 + rng.random(2) * (np.array([height, width]) - 1.4 * radius)).tolist()
    reach = 1.6 * radius  # at least the half diagonal of the object's frame, whose sides are 2 and at most 2.4 radii
    rows = slice(max(0, int(cy - reach)), min(height, int(cy + reach) + 2))
    columns = slice(max(0, int(cx - reach)), min(width, int(cx + reach) + 2))
    y, x = np.mgrid[rows, columns].astype(float)
    dx, dy = (x - cx) / radius, (y - cy) / radius
    return rows, columns, flip * (c * dx + s * dy), (c * dy - s * dx) / squeeze


def _colours(rng: np.random.Generator, kind: Kind, u: Array, v: Array) -> Array:
    """Draw the colours, (h, w, 3), of an object of one of the kind's breeds."""
    coat = _paint(rng, kind, kind.breeds[int(rng.integers(len(kind.breeds)))], u, v)
    if kind.marking is None:
        return coat
    return np.where((v < MARKED)[..., None], _paint(rng, kind, kind.marking, u, v), coat)


def _paint(rng: np.random.Generator, kind: Kind, breed: Breed, u: Array, v: Array) -> Array:
    """Draw the colours, (h, w, 3), of a breed in the light of the object."""
    phase = rng.random(2)
    frequency = breed.frequency * (0.85 + 0.3 * float(rng.random()))
    weight = breed.texture(u * frequency + phase[0], v * frequency + phase[1])[..., None]
    tint = kind.tint[0] + kind.tint[1] * rng.random(3)
    light = kind.light[0] + kind.light[1] * float(rng.random())
    shade = (light * (1 + 0.3 * (float(rng.random()) - 0.5) * (u + v)))[..., None]
    first, second = (np.array(colour) for colour in breed.palette)
    colours: Array = (first * (1 - weight) + second * weight) * tint * shade
    return colours


def _hides_little(label: NDArray[np.uint8], hidden: NDArray[np.uint8]) -> bool:
    """Return whether an object over the pixels with labels ``hidden`` leaves enough of every other object visible."""
    under = np.bincount(hidden, minlength=256)
    whole = np.bincount(label.reshape(-1), minlength=256)
    return bool(len(hidden) > 0 and (under[1:] <= 0.35 * whole[1:]).all())


def draw(
    rng: np.random.Generator, kinds: Sequence[Kind], height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one image of one to three objects of different classes, and its label map.

    Parameters
    ----------
    rng
        Source of all variation.
    kinds
        Classes of objects.
    height, width
        Size, px.

    Returns
    -------
    image : (H, W, 3) uint8
    label : (H, W) uint8
        0 ground, n + 1 the class at position n, 255 on the border of an object.
    """
    picture, label = ground(rng, height, width), np.zeros((height, width), np.uint8)
    chosen = rng.permutation(len(kinds))[: COUNTS[int(rng.integers(len(COUNTS)))]]
    for number in chosen.tolist():  # later objects are drawn over earlier ones
        for _ in range(ATTEMPTS):
            radius = (RADII[0] + (RADII[1] - RADII[0]) * float(rng.random())) * max(height, width)
            rows, columns, u, v = _frame(rng, radius, height, width)
            inside = kinds[number].shape(u, v) & (np.abs(u) <= 1) & (np.abs(v) <= 1)
            if _hides_little(label, label[rows, columns][inside]):
                picture[rows, columns][inside] = _colours(rng, kinds[number], u, v)[inside]
                label[rows, columns][inside] = number + 1
                break
    light = 0.85 + 0.3 * float(rng.random())
    y, x = np.mgrid[0:height, 0:width].astype(float)
    slope = 0.3 * (rng.random(2) - 0.5)
    picture = picture * (light + slope[0] * (y / height - 0.5) + slope[1] * (x / width - 0.5))[..., None]
    picture = picture + 0.06 * (rng.random((height, width, 1)) - 0.5)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8), _with_border(label)


def _with_border(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Set label 255 where the right or lower neighbour of a pixel has another label."""
    edge = np.zeros(label.shape, bool)
    edge[:-1] |= label[:-1] != label[1:]
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    return np.where(edge, np.uint8(VOID), label)


def scene(settings: SceneSettings, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw image ``number`` of the built-in data and its label map."""
    rng = numpy_generator(settings.seed, "scene", number)
    short = settings.size * 3 // 4
    height, width = ((settings.size, settings.size), (short, settings.size), (settings.size, short))[
        int(rng.integers(3))
    ]
    return draw(rng, KINDS, height, width)


def scene_ids(settings: SceneSettings) -> tuple[list[str], list[str]]:
    """Return the ids of the training list and those of the validation list."""
    names = [f"scene{number:05d}" for number in range(settings.train + settings.val)]
    return names[: settings.train], names[settings.train :]


def write_voc(root: Path, settings: SceneSettings, numbers: Sequence[int]) -> None:
    """Write the lists, and the images of the given numbers, in VOC layout under ``root``."""
    train, val = scene_ids(settings)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, ids in (("train", train), ("val", val)):
        text = "".join(f"{image_id}\n" for image_id in ids)
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text, encoding="utf8")
    palette = voc_palette()
    for number in numbers:
        image, label = scene(settings, number)
        name = (train + val)[number]
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=92)
        mask = Image.fromarray(label)
        mask.putpalette(palette)
        mask.save(root / "SegmentationClass" / f"{name}.png")
