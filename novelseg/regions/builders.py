"""Methods that build the region hierarchies of a data set's images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.data.labelmaps import read_label_map
from novelseg.regions import ucm
from novelseg.regions.hierarchy import Hierarchy, flat_hierarchy
from novelseg.regions.learned import LONGEST_SIDE, Image, reduced
from novelseg.regions.weights import BSDS500, load_model


@dataclass(frozen=True)
class HierarchySettings:
    """Name of a method, and the settings of all methods.

    Attributes
    ----------
    method
        Key of :data:`METHODS`.
    longest_side
        Longest side, px, to which larger images are reduced first; not used by the method ``precomputed``.
    scale
        Scale of the method ``felzenszwalb``; larger values give larger regions.
    segments
        Approximate number of regions for the method ``slic``.
    """

    method: str = "ucm"
    longest_side: int = LONGEST_SIDE
    scale: float = 300.0
    segments: int = 30


@dataclass(frozen=True)
class Builder:
    """A method, ready to build hierarchies.

    Attributes
    ----------
    build
        Builds the hierarchy of an image, (H, W, 3) uint8, from the id of the image and the image.
    settings
        Values other than the images on which the hierarchies depend.
    """

    build: Callable[[str, Image], Hierarchy]
    settings: dict[str, Any]


def _ucm(settings: HierarchySettings, weights: Path | None, _: Path | None) -> Builder:
    path = weights or BSDS500
    model = load_model(path)
    return _resizing(settings, lambda image: ucm.build(image, model), {"weights": digest(path)})


def _felzenszwalb(settings: HierarchySettings, _: Path | None, __: Path | None) -> Builder:
    from skimage.segmentation import felzenszwalb

    scale = settings.scale
    return _resizing(settings, lambda image: flat_hierarchy(felzenszwalb(image, scale=scale)), {"scale": scale})


def _slic(settings: HierarchySettings, _: Path | None, __: Path | None) -> Builder:
    from skimage.segmentation import slic

    segments = settings.segments
    return _resizing(settings, lambda image: flat_hierarchy(slic(image, n_segments=segments)), {"segments": segments})


def _precomputed(_: HierarchySettings, __: Path | None, maps: Path | None) -> Builder:
    if maps is None:
        raise InputError("method is 'precomputed', but maps is not given; expected a folder with a label map per image")
    if not maps.is_dir():
        raise InputError(f"{maps}: no such folder; expected one with a label map for each image")
    return Builder(lambda id_, image: flat_hierarchy(read_label_map(maps, id_, (image.shape[0], image.shape[1]))), {})


METHODS: dict[str, Callable[[HierarchySettings, Path | None, Path | None], Builder]] = {
    "ucm": _ucm,
    "felzenszwalb": _felzenszwalb,
    "slic": _slic,
    "precomputed": _precomputed,
}


def _resizing(settings: HierarchySettings, build: Callable[[Image], Hierarchy], recorded: dict[str, Any]) -> Builder:
    """Return a builder that reduces images to the longest side before it passes them to ``build``."""
    longest = settings.longest_side
    return Builder(lambda _, image: build(reduced(image, longest)), {**recorded, "longest_side": longest})


def new_builder(settings: HierarchySettings, weights: Path | None = None, maps: Path | None = None) -> Builder:
    """Prepare a method for building hierarchies.

    Parameters
    ----------
    settings
        The method and its settings.
    weights
        Weight file for the method ``ucm``; None for the file that the package contains.
    maps
        Folder of label maps for the method ``precomputed``.

    Raises
    ------
    InputError
        If the method is unknown, or its weight file or folder cannot be read.
    """
    if settings.method not in METHODS:
        raise InputError(f"method is '{settings.method}'; expected one of {', '.join(METHODS)}")
    return METHODS[settings.method](settings, weights, maps)
