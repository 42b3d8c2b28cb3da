"""Kinds of objects: a class is a shape with several breeds, each a texture and a palette."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from novelseg.core.random import numpy_generator
from novelseg.data.drawing.shapes import OTHER_SHAPES, SHAPES, Shape
from novelseg.data.drawing.textures import TEXTURES, Texture

Colour = tuple[float, float, float]
Palette = tuple[Colour, Colour]

PALETTES: dict[str, Palette] = {
    "leaf": ((0.16, 0.50, 0.20), (0.62, 0.80, 0.36)),
    "cream": ((0.90, 0.88, 0.80), (0.72, 0.64, 0.52)),
    "fire": ((0.82, 0.20, 0.18), (0.95, 0.80, 0.25)),
    "coal": ((0.15, 0.15, 0.18), (0.42, 0.42, 0.46)),
    "gold": ((0.93, 0.82, 0.42), (0.70, 0.52, 0.20)),
    "rose": ((0.80, 0.15, 0.35), (0.95, 0.62, 0.72)),
    "ice": ((0.18, 0.34, 0.74), (0.75, 0.84, 0.94)),
    "plum": ((0.48, 0.22, 0.62), (0.36, 0.72, 0.60)),
}


@dataclass(frozen=True)
class Breed:
    """Look of an object: a texture, with periods per half size, that mixes the two colours of a palette."""

    texture: Texture
    frequency: float
    palette: Palette


@dataclass(frozen=True)
class Kind:
    """A class of objects: its shape and breeds. Scale, angle, light and tint vary too."""

    name: str
    shape: Shape
    breeds: tuple[Breed, ...]


def _kind(name: str, *breeds: tuple[str, float, str]) -> Kind:
    looks = tuple(Breed(TEXTURES[texture], frequency, PALETTES[palette]) for texture, frequency, palette in breeds)
    return Kind(name, SHAPES[name], looks)


# Textures and palettes recur across classes, so that neither alone identifies a class.
KINDS = (
    _kind("melon", ("stripes", 2.6, "leaf"), ("plain", 1.0, "gold"), ("mesh", 2.4, "cream"), ("dots", 2.8, "fire")),
    _kind("sail", ("plain", 1.0, "cream"), ("stripes", 2.0, "ice"), ("fade", 1.6, "fire"), ("zigzag", 2.4, "leaf")),
    _kind("kite", ("checker", 2.0, "fire"), ("rings", 2.6, "ice"), ("stripes", 3.0, "rose"), ("plain", 1.0, "plum")),
    _kind("tyre", ("zigzag", 3.0, "coal"), ("mesh", 3.0, "coal"), ("fade", 1.8, "cream"), ("checker", 2.4, "ice")),
    _kind("moon", ("dots", 2.6, "gold"), ("fade", 1.6, "cream"), ("plain", 1.0, "ice"), ("rings", 2.4, "coal")),
    _kind("heart", ("fade", 1.6, "rose"), ("dots", 2.2, "rose"), ("checker", 2.6, "plum"), ("plain", 1.0, "fire")),
    _kind("arrow", ("mesh", 2.4, "ice"), ("plain", 1.0, "coal"), ("zigzag", 2.0, "gold"), ("stripes", 2.6, "plum")),
    _kind("clover", ("rings", 3.0, "plum"), ("fade", 1.4, "leaf"), ("dots", 3.0, "coal"), ("checker", 2.2, "rose")),
)
CLASSES = tuple(kind.name for kind in KINDS)
BREEDS = len(KINDS[0].breeds)


def other_kinds(seed: int, count: int) -> tuple[Kind, ...]:
    """Make classes for pretraining: shapes other than those of :data:`KINDS`, and as many breeds, at random."""
    rng = numpy_generator(seed, "other kinds")
    return tuple(
        Kind(f"other{number}", OTHER_SHAPES[number % len(OTHER_SHAPES)], tuple(_breed(rng) for _ in range(BREEDS)))
        for number in range(count)
    )


def _breed(rng: np.random.Generator) -> Breed:
    texture = list(TEXTURES.values())[int(rng.integers(len(TEXTURES)))]
    frequency = 1.5 + 1.8 * float(rng.random())
    first, second = ((float(r), float(g), float(b)) for r, g, b in rng.random((2, 3)) * 0.85 + 0.08)
    return Breed(texture, frequency, (first, second))
