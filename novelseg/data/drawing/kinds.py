"""Kinds of objects: a class is a shape with several breeds, each a texture and a palette, and a common marking."""

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
    """A class of objects. Scale and angle vary too.

    Attributes
    ----------
    name, shape
        Name and shape.
    breeds
        Looks of the coat, one of which is drawn for each object.
    marking
        Look of the rest of the object, which all breeds share, as animals of all breeds have the same face; None if
        the coat covers the object.
    tint, light
        Least factor and range of the factors of each colour channel and of the light.
    """

    name: str
    shape: Shape
    breeds: tuple[Breed, ...]
    marking: Breed | None = None
    tint: tuple[float, float] = (0.7, 0.6)
    light: tuple[float, float] = (0.65, 0.6)


Look = tuple[str, float]  # texture and its frequency


def _kind(name: str, looks: tuple[Look, Look], palettes: tuple[str, str], marking: tuple[Look, str]) -> Kind:
    """Make a built-in class of four breeds: each of two textures with each of two palettes."""
    breeds = tuple(
        Breed(TEXTURES[texture], frequency, PALETTES[palette]) for texture, frequency in looks for palette in palettes
    )
    (texture, frequency), palette = marking
    face = Breed(TEXTURES[texture], frequency, PALETTES[palette])
    return Kind(name, SHAPES[name], breeds, face, (0.85, 0.3), (0.8, 0.3))


# Textures and palettes recur across classes, so that neither alone identifies a class.
KINDS = (
    _kind("melon", (("stripes", 2.6), ("plain", 1.0)), ("leaf", "gold"), (("mesh", 2.4), "cream")),
    _kind("sail", (("plain", 1.0), ("stripes", 2.0)), ("cream", "ice"), (("fade", 1.6), "fire")),
    _kind("kite", (("checker", 2.0), ("rings", 2.6)), ("fire", "ice"), (("stripes", 3.0), "rose")),
    _kind("tyre", (("zigzag", 3.0), ("mesh", 3.0)), ("coal", "plum"), (("fade", 1.8), "cream")),
    _kind("moon", (("dots", 2.6), ("fade", 1.6)), ("gold", "cream"), (("plain", 1.0), "ice")),
    _kind("heart", (("fade", 1.6), ("dots", 2.2)), ("rose", "leaf"), (("checker", 2.6), "plum")),
    _kind("arrow", (("mesh", 2.4), ("plain", 1.0)), ("ice", "coal"), (("zigzag", 2.0), "gold")),
    _kind("clover", (("rings", 3.0), ("fade", 1.4)), ("plum", "leaf"), (("dots", 3.0), "coal")),
)
CLASSES = tuple(kind.name for kind in KINDS)
BREEDS = len(KINDS[0].breeds)


def other_kinds(seed: int, count: int) -> tuple[Kind, ...]:
    """Make classes for pretraining: shapes other than those of :data:`KINDS`, as many breeds, at random."""
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
