"""Methods that build the region hierarchy of a picture, and regions of a picture in one call (A3)."""

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
from novelseg.regions.hierarchy import Hierarchy, TooManyRegionsError, cut, fit_size, flat
from novelseg.regions.weights import BSDS500, load_model

LONGEST_SIDE = 500  # px; the learned weights know pictures of about this size
TAU = 0.45  # contour strength at which the paper cuts

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class HierarchySettings:
    """Settings of the methods.

    Attributes
    ----------
    method
        A key of :data:`METHODS`.
    longest_side
        Longest side to which larger pictures are reduced first, px; the method ``precomputed`` ignores it.
    scale
        Scale of the method ``felzenszwalb``; larger values give larger regions.
    segments
        Approximate number of regions of the method ``slic``.
    """

    method: str = "ucm"
    longest_side: int = LONGEST_SIDE
    scale: float = 300.0
    segments: int = 30


@dataclass(frozen=True)
class Builder:
    """A method with its settings.

    Attributes
    ----------
    build
        Function from a picture's id and the picture, (H, W, 3) uint8, to its hierarchy.
    settings
        What the hierarchies depend on besides the pictures.
    """

    build: Callable[[str, Picture], Hierarchy]
    settings: dict[str, Any]


def _ucm(settings: HierarchySettings, weights: Path | None, _: Path | None) -> Builder:
    path = weights or BSDS500
    model = load_model(path)
    return _resizing(settings, lambda image: ucm.build(image, model), {"weights": digest(path)})


def _felzenszwalb(settings: HierarchySettings, _: Path | None, __: Path | None) -> Builder:
    from skimage.segmentation import felzenszwalb

    scale = settings.scale
    return _resizing(settings, lambda image: flat(felzenszwalb(image, scale=scale)), {"scale": scale})


def _slic(settings: HierarchySettings, _: Path | None, __: Path | None) -> Builder:
    from skimage.segmentation import slic

    segments = settings.segments
    return _resizing(settings, lambda image: flat(slic(image, n_segments=segments)), {"segments": segments})


def _precomputed(_: HierarchySettings, __: Path | None, maps: Path | None) -> Builder:
    if maps is None or not maps.is_dir():
        raise InputError(f"{maps}: no such folder; expected one with a label map for each image")
    return Builder(lambda name, image: flat(read_label_map(maps, name, (image.shape[0], image.shape[1]))), {})


METHODS: dict[str, Callable[[HierarchySettings, Path | None, Path | None], Builder]] = {
    "ucm": _ucm,
    "felzenszwalb": _felzenszwalb,
    "slic": _slic,
    "precomputed": _precomputed,
}


def _resizing(settings: HierarchySettings, build: Callable[[Picture], Hierarchy], about: dict[str, Any]) -> Builder:
    longest = settings.longest_side
    return Builder(lambda _, image: build(_reduced(image, longest)), {**about, "longest_side": longest})


def _reduced(image: Picture, longest: int) -> Picture:
    height, width = fit_size(image.shape[0], image.shape[1], longest)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def new_builder(settings: HierarchySettings, weights: Path | None = None, maps: Path | None = None) -> Builder:
    """Prepare a method.

    Parameters
    ----------
    settings
        The method and its settings.
    weights
        Weight file of the method ``ucm``; by default the one of this package.
    maps
        Folder of label maps of the method ``precomputed``.

    Raises
    ------
    InputError
        If the method is unknown, or its file or folder cannot be used.
    """
    if settings.method not in METHODS:
        raise InputError(f"method is '{settings.method}'; expected one of {', '.join(METHODS)}")
    return METHODS[settings.method](settings, weights, maps)


@lru_cache(maxsize=1)
def _packaged(longest_side: int) -> Builder:
    return new_builder(HierarchySettings(longest_side=longest_side))


def build_hierarchy(image: Picture, longest_side: int = LONGEST_SIDE) -> Hierarchy:
    """Build the region hierarchy of a picture with the learned weights of this package.

    :func:`cut` gives the regions at any contour strength.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    longest_side
        Longest side to which a larger picture is reduced first, px.

    Raises
    ------
    InputError
        If the picture is no such array, or has more regions than can be numbered.

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
            f"the picture is {getattr(image, 'dtype', type(image).__name__)} of shape {np.shape(image)}; "
            "expected uint8 of shape (height, width, 3)"
        )
    if longest_side < 1:
        raise InputError(f"longest_side is {longest_side}; expected at least 1 px")
    with one_thread():
        try:
            return _packaged(longest_side).build("", image)
        except TooManyRegionsError as error:
            raise InputError(f"the picture has {error}; lower longest_side, which is {longest_side} px") from None


def segment_regions(image: Picture, tau: float = TAU, longest_side: int = LONGEST_SIDE) -> NDArray[np.uint16]:
    """Divide a picture into regions with the learned weights of this package.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    tau
        Contour strength of the cut, in [0, 1]; larger values give fewer regions.
    longest_side
        Longest side to which a larger picture is reduced first, px.

    Returns
    -------
    (H, W) uint16
        Region of each pixel, numbered 0…R−1.

    Raises
    ------
    InputError
        If an argument is out of range, or the picture is no such array.
    """
    if not 0 <= tau <= 1:
        raise InputError(f"tau is {tau}; expected a contour strength from 0 to 1")
    return cut(build_hierarchy(image, longest_side), tau, (image.shape[0], image.shape[1]))
