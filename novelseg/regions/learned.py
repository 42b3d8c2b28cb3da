"""Regions of a single image by the learned weights of this package."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.threads import one_thread
from novelseg.regions import ucm
from novelseg.regions.hierarchy import Hierarchy, TooManyRegionsError, cut, fit_size
from novelseg.regions.ucm import Model
from novelseg.regions.weights import BSDS500, load_model

LONGEST_SIDE = 500  # px; the weights were learned from images of about this size
TAU = 0.45  # contour strength at which paper A cuts MCG's hierarchies
# MD5 of the weights: as a part of the code, it makes what was computed with other weights stale.
WEIGHTS = "3cc2451c471ced8345c7805287855ac3"

Image = NDArray[np.uint8]


def reduced(image: Image, longest: int) -> Image:
    """Return an image whose longer side is at most ``longest`` px."""
    height, width = fit_size(image.shape[0], image.shape[1], longest)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@lru_cache(maxsize=1)
def _model() -> Model:
    """Return the weights of this package; they stay in memory for the next image."""
    return load_model(BSDS500)


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
            return ucm.build(reduced(image, longest_side), _model())
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
