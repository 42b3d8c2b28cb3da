"""Methods that build the region hierarchy of an image, and functions for a single image (A3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.core.threads import one_thread
from novelseg.data.labelmaps import read_label_map
from novelseg.regions import ucm
from novelseg.regions.hierarchy import Hierarchy, TooManyRegionsError, cut, fit_size, flat_hierarchy
from novelseg.regions.weights import BSDS500, load_model

LONGEST_SIDE = 500  # px; the weights were learned from images of about this size
TAU = 0.45  # contour strength at which paper A cuts MCG's hierarchies

Image = NDArray[np.uint8]


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
    return Builder(lambda _, image: build(_reduce(image, longest)), {**recorded, "longest_side": longest})


def _reduce(image: Image, longest: int) -> Image:
    height, width = fit_size(image.shape[0], image.shape[1], longest)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


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


@lru_cache(maxsize=1)
def _default_builder(longest_side: int) -> Builder:
    """Return a builder with the weights of this package; the weights stay in memory for the next image."""
    return new_builder(HierarchySettings(longest_side=longest_side))


def build_hierarchy(image: Image, longest_side: int = LONGEST_SIDE) -> Hierarchy:
    """Build the region hierarchy of an image with the learned weights of this package.

    :func:`cut` returns its regions at any contour strength.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    longest_side
        Longest side, px, to which a larger image is reduced first.

    Raises
    ------
    InputError
        If the image has another shape or type or more than 65,536 regions, or ``longest_side`` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from novelseg.regions import build_hierarchy, cut
    >>> image = np.zeros((40, 60, 3), np.uint8)
    >>> image[10:30, 20:40] = 255
    >>> tree = build_hierarchy(image)
    >>> [int(cut(tree, tau, (40, 60)).max()) + 1 for tau in (0.3, 1)]
    [2, 1]
    """
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        raise InputError(
            f"the image is {getattr(image, 'dtype', type(image).__name__)} of shape {np.shape(image)}; "
            "expected uint8 of shape (height, width, 3)"
        )
    if longest_side < 1:
        raise InputError(f"longest_side is {longest_side}; expected at least 1 px")
    with one_thread():
        try:
            return _default_builder(longest_side).build("", image)
        except TooManyRegionsError as error:
            raise InputError(f"the image has {error}; lower longest_side, which is {longest_side} px") from None


def segment_regions(image: Image, tau: float = TAU, longest_side: int = LONGEST_SIDE) -> NDArray[np.uint16]:
    """Divide an image into regions with the learned weights of this package.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    tau
        Contour strength of the cut, in [0, 1]; larger values give fewer regions.
    longest_side
        Longest side, px, to which a larger image is reduced first.

    Returns
    -------
    (H, W) uint16
        Region of each pixel, numbered 0…R−1.

    Raises
    ------
    InputError
        If ``tau`` is outside [0, 1], or the image or ``longest_side`` is not accepted by :func:`build_hierarchy`.
    """
    if not 0 <= tau <= 1:
        raise InputError(f"tau is {tau}; expected a contour strength from 0 to 1")
    return cut(build_hierarchy(image, longest_side), tau, (image.shape[0], image.shape[1]))
