"""The built-in data: small generated images of textured objects on textured ground, written in VOC layout.

Every image contains 2–5 objects of different classes, so that an image of base classes also contains novel objects
without a label, the situation that the methods address. Only additions, products, quotients, roots and comparisons
are used, which IEEE 754 rounds identically everywhere, so that a seed gives the same pixels on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.labels import VOID
from novelseg.core.random import numpy_generator
from novelseg.data.classes import voc_palette

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SceneSettings:
    """Settings of the built-in data: seed, numbers of training and validation images, longest side in px."""

    seed: int
    train: int
    val: int
    size: int


# --- shapes: (x, y) in the object's frame, |x|, |y| ≤ 1 → inside or not


def _ellipse(x: Array, y: Array) -> Mask:
    return x * x + 2.2 * y * y < 1


def _triangle(x: Array, y: Array) -> Mask:
    return (y < 0.8) & (y > 1.9 * np.abs(x) - 0.9)


def _cross(x: Array, y: Array) -> Mask:
    return ((np.abs(x) < 0.33) & (np.abs(y) < 0.95)) | ((np.abs(y) < 0.33) & (np.abs(x) < 0.95))


def _ring(x: Array, y: Array) -> Mask:
    r = x * x + y * y
    return (r < 0.92) & (r > 0.2)


def _crescent(x: Array, y: Array) -> Mask:
    return (x * x + y * y < 0.95) & ((x - 0.55) ** 2 + y * y > 0.55)


def _heart(x: Array, y: Array) -> Mask:
    u, v = 1.2 * x, 0.15 - 1.2 * y
    return (u * u + v * v - 0.9) ** 3 - u * u * v * v * v < 0


def _arrow(x: Array, y: Array) -> Mask:
    return ((np.abs(y) < 0.28) & (x < 0.2) & (x > -0.95)) | ((x >= 0.0) & (np.abs(y) < 0.95 - x))


def _clover(x: Array, y: Array) -> Mask:
    u, v = np.abs(x), np.abs(y)
    inside: Mask = ((u - 0.48) ** 2 + v * v < 0.24) | (u * u + (v - 0.48) ** 2 < 0.24)
    return inside


def _square(x: Array, y: Array) -> Mask:
    return (np.abs(x) < 0.8) & (np.abs(y) < 0.8)


def _bar(x: Array, y: Array) -> Mask:
    return (np.abs(x) < 0.98) & (np.abs(y) < 0.36)


def _diamond(x: Array, y: Array) -> Mask:
    return np.abs(x) + 0.7 * np.abs(y) < 0.75


def _hourglass(x: Array, y: Array) -> Mask:
    return (np.abs(x) < 0.15 + 0.8 * np.abs(y)) & (np.abs(y) < 0.85)


def _ell(x: Array, y: Array) -> Mask:
    return _square(x, y) & ((x < -0.15) | (y > 0.2))


def _tee(x: Array, y: Array) -> Mask:
    return _square(x, y) & ((y < -0.2) | (np.abs(x) < 0.3))


def _frame(x: Array, y: Array) -> Mask:
    return _square(x, y) & ~((np.abs(x) < 0.4) & (np.abs(y) < 0.4))


def _hexagon(x: Array, y: Array) -> Mask:
    return (np.abs(x) < 0.8) & (0.5 * np.abs(x) + 0.87 * np.abs(y) < 0.8)


def _hexagram(x: Array, y: Array) -> Mask:
    v = np.abs(x)
    return ((y < 0.45) & (y > 1.73 * v - 0.95)) | ((y > -0.45) & (y < 0.95 - 1.73 * v))


def _half(x: Array, y: Array) -> Mask:
    return (x * x + y * y < 0.95) & (y < 0.15)


def _dumbbell(x: Array, y: Array) -> Mask:
    return ((np.abs(x) - 0.6) ** 2 + y * y < 0.14) | ((np.abs(y) < 0.15) & (np.abs(x) < 0.6))


def _aitch(x: Array, y: Array) -> Mask:
    return _square(x, y) & ((np.abs(x) > 0.35) | (np.abs(y) < 0.22))


def _chevron(x: Array, y: Array) -> Mask:
    return (np.abs(y - 0.7 * np.abs(x) + 0.3) < 0.36) & (np.abs(x) < 0.95)


def _wedge(x: Array, y: Array) -> Mask:
    return (x * x + y * y < 0.95) & (np.abs(y) > 0.8 * x)


# --- textures: (u, v) in the object's frame, scaled by a frequency → mixing weight in [0, 1]


def _saw(value: Array) -> Array:
    """Return a triangle wave of period 1, in [0, 1]."""
    part = value - np.floor(value)
    return 1 - np.abs(2 * part - 1)


def _plain(u: Array, _: Array) -> Array:
    return np.zeros_like(u)


def _stripes(u: Array, _: Array) -> Array:
    return (_saw(u) > 0.5).astype(float)


def _checker(u: Array, v: Array) -> Array:
    return ((np.floor(u) + np.floor(v)) % 2).astype(float)


def _dots(u: Array, v: Array) -> Array:
    x, y = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return (x * x + y * y < 0.09).astype(float)


def _rings(u: Array, v: Array) -> Array:
    return (_saw(np.sqrt(u * u + v * v)) > 0.5).astype(float)


def _zigzag(u: Array, v: Array) -> Array:
    return (_saw(u + 0.8 * _saw(v)) > 0.5).astype(float)


def _mesh(u: Array, v: Array) -> Array:
    return ((_saw(u) > 0.7) | (_saw(v) > 0.7)).astype(float)


def _fade(u: Array, v: Array) -> Array:
    return _saw(0.35 * u + 0.15 * v)


TEXTURES = (_plain, _stripes, _checker, _dots, _rings, _zigzag, _mesh, _fade)
OTHER_SHAPES = (
    _square,
    _bar,
    _diamond,
    _hourglass,
    _ell,
    _tee,
    _frame,
    _hexagon,
    _hexagram,
    _half,
    _dumbbell,
    _aitch,
    _chevron,
    _wedge,
)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Kind:
    """A class of objects: its shape, texture and two colours; scale, angle, light and tint vary between images."""

    name: str
    shape: Callable[[Array, Array], Mask]
    texture: Callable[[Array, Array], Array]
    frequency: float
    first: Colour
    second: Colour


# Colours and textures recur across classes, so that neither alone identifies a class.
KINDS = (
    Kind("melon", _ellipse, _stripes, 2.6, (0.16, 0.50, 0.20), (0.62, 0.80, 0.36)),
    Kind("sail", _triangle, _plain, 1.0, (0.90, 0.88, 0.80), (0.90, 0.88, 0.80)),
    Kind("kite", _cross, _checker, 2.0, (0.82, 0.20, 0.18), (0.95, 0.80, 0.25)),
    Kind("tyre", _ring, _zigzag, 3.0, (0.15, 0.15, 0.18), (0.42, 0.42, 0.46)),
    Kind("moon", _crescent, _dots, 2.6, (0.93, 0.82, 0.42), (0.70, 0.52, 0.20)),
    Kind("heart", _heart, _fade, 1.6, (0.80, 0.15, 0.35), (0.95, 0.62, 0.72)),
    Kind("arrow", _arrow, _mesh, 2.4, (0.18, 0.34, 0.74), (0.75, 0.84, 0.94)),
    Kind("clover", _clover, _rings, 3.0, (0.48, 0.22, 0.62), (0.36, 0.72, 0.60)),
)
CLASSES = tuple(kind.name for kind in KINDS)


def other_kinds(seed: int, count: int) -> tuple[Kind, ...]:
    """Make classes for pretraining: shapes other than those of :data:`KINDS`, with random textures and colours."""
    rng = numpy_generator(seed, "other kinds")
    kinds = []
    for number in range(count):
        colours = rng.random((2, 3)) * 0.85 + 0.08
        texture = TEXTURES[int(rng.integers(len(TEXTURES)))]
        shape = OTHER_SHAPES[number % len(OTHER_SHAPES)]
        first, second = ((float(r), float(g), float(b)) for r, g, b in colours)
        kinds.append(Kind(f"other{number}", shape, texture, 1.5 + 1.8 * float(rng.random()), first, second))
    return tuple(kinds)


# --- grounds


def _noise(rng: np.random.Generator, height: int, width: int, cell: int) -> Array:
    """Draw value noise in [0, 1]: random values on a grid, interpolated bilinearly."""
    rows, columns = height // cell + 2, width // cell + 2
    grid = rng.random((rows, columns))
    y, x = np.arange(height) / cell, np.arange(width) / cell
    i, j = y.astype(int), x.astype(int)
    b, a = (y - i)[:, None], (x - j)[None]
    top = grid[i][:, j] * (1 - a) + grid[i][:, j + 1] * a
    bottom = grid[i + 1][:, j] * (1 - a) + grid[i + 1][:, j + 1] * a
    mixed: Array = top * (1 - b) + bottom * b
    return mixed


GROUNDS: tuple[tuple[str, Colour, Colour], ...] = (
    ("grass", (0.24, 0.42, 0.16), (0.46, 0.60, 0.28)),
    ("sand", (0.76, 0.66, 0.48), (0.86, 0.78, 0.62)),
    ("sky", (0.46, 0.64, 0.86), (0.84, 0.90, 0.96)),
    ("water", (0.10, 0.30, 0.46), (0.30, 0.52, 0.62)),
    ("bricks", (0.58, 0.28, 0.20), (0.72, 0.66, 0.60)),
    ("planks", (0.46, 0.32, 0.20), (0.62, 0.46, 0.30)),
    ("cobble", (0.40, 0.40, 0.42), (0.62, 0.60, 0.58)),
    ("cloth", (0.50, 0.38, 0.52), (0.66, 0.60, 0.70)),
)


def _ground(rng: np.random.Generator, height: int, width: int) -> Array:
    """Draw one of eight textured grounds, (H, W, 3) in [0, 1]."""
    name, first, second = GROUNDS[int(rng.integers(len(GROUNDS)))]
    y, x = np.mgrid[0:height, 0:width].astype(float)
    fine, coarse = _noise(rng, height, width, 3), _noise(rng, height, width, 24)
    scale = 9 + 7 * float(rng.random())
    row = np.floor(y / scale)
    blends: dict[str, Callable[[], Array]] = {
        "grass": lambda: 0.7 * fine + 0.3 * coarse,
        "sand": lambda: 0.4 * fine + 0.6 * coarse,
        "sky": lambda: 0.7 * y / height + 0.3 * coarse,
        "water": lambda: 0.7 * _saw(y / scale + coarse) + 0.3 * fine,
        "bricks": lambda: ((_saw(y / scale) < 0.2) | (_saw(x / (2 * scale) + 0.5 * row) < 0.1)) * 0.9 + 0.1 * fine,
        "planks": lambda: (_saw(x / (1.5 * scale)) < 0.1) * 0.5 + 0.5 * _saw(y / 60 + 2 * coarse) * fine,
        "cobble": lambda: _saw(3 * coarse + 0.3 * fine),
        "cloth": lambda: 0.5 * _saw(x / 4) + 0.5 * _saw(y / 4),
    }
    weight = blends[name]()
    tint = 0.9 + 0.2 * rng.random(3)
    mixed: Array = (np.array(first) * (1 - weight[..., None]) + np.array(second) * weight[..., None]) * tint
    return mixed


# --- objects and images


def _paint(rng: np.random.Generator, kind: Kind, height: int, width: int, radius: float) -> tuple[Mask, Array]:
    """Draw an object of a class: its mask, (H, W), and its colours, (H, W, 3)."""
    t = 2 * float(rng.random()) - 1  # tan of half the angle: rotation without sine and cosine
    c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    squeeze = 0.8 + 0.4 * float(rng.random())
    cy, cx = (radius * 0.7 + rng.random(2) * (np.array([height, width]) - 1.4 * radius)).tolist()
    y, x = np.mgrid[0:height, 0:width].astype(float)
    dx, dy = (x - cx) / radius, (y - cy) / radius
    u, v = flip * (c * dx + s * dy), (c * dy - s * dx) / squeeze
    inside = kind.shape(u, v) & (np.abs(u) <= 1) & (np.abs(v) <= 1)
    phase = rng.random(2)
    frequency = kind.frequency * (0.85 + 0.3 * float(rng.random()))
    weight = kind.texture(u * frequency + phase[0], v * frequency + phase[1])[..., None]
    tint = 0.7 + 0.6 * rng.random(3)
    light = (0.65 + 0.6 * float(rng.random())) * (1 + 0.3 * (float(rng.random()) - 0.5) * (dx + dy))[..., None]
    return inside, (np.array(kind.first) * (1 - weight) + np.array(kind.second) * weight) * tint * light


def draw(
    rng: np.random.Generator,
    kinds: Sequence[Kind],
    chosen: Sequence[int],
    height: int,
    width: int,
    radii: tuple[float, float],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one image and its label map.

    Parameters
    ----------
    rng
        Source of all variation.
    kinds
        Classes of objects.
    chosen
        Position in ``kinds`` of each object; later objects are drawn over earlier ones.
    height, width
        Size, px.
    radii
        Range of the objects' half size, px.

    Returns
    -------
    image : (H, W, 3) uint8
    label : (H, W) uint8
        0 ground, n + 1 the class at position n, 255 on the border of an object.
    """
    picture, label = _ground(rng, height, width), np.zeros((height, width), np.uint8)
    for number in chosen:
        for _ in range(20):  # retry until enough of every other object stays visible
            radius = radii[0] + (radii[1] - radii[0]) * float(rng.random())
            inside, colour = _paint(rng, kinds[number], height, width, radius)
            if _hides_little(label, inside):
                picture = np.where(inside[..., None], colour, picture)
                label[inside] = number + 1
                break
    light = 0.85 + 0.3 * float(rng.random())
    y, x = np.mgrid[0:height, 0:width].astype(float)
    slope = 0.3 * (rng.random(2) - 0.5)
    picture = picture * (light + slope[0] * (y / height - 0.5) + slope[1] * (x / width - 0.5))[..., None]
    picture = picture + 0.06 * (rng.random((height, width, 1)) - 0.5)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8), _with_border(label)


def _hides_little(label: NDArray[np.uint8], inside: Mask) -> bool:
    under = np.bincount(label[inside], minlength=256)
    whole = np.bincount(label.reshape(-1), minlength=256)
    return bool(inside.any() and (under[1:] <= 0.35 * whole[1:]).all())


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
    chosen = rng.permutation(len(KINDS))[: int(rng.integers(2, 6))]
    return draw(rng, KINDS, chosen.tolist(), height, width, (0.15 * settings.size, 0.27 * settings.size))


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
