"""Result of segmenting a picture: logits, mask, probabilities, and the expected quality of the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Calibration(NamedTuple):
    """Factor and summand that turn a logit into the logit of a calibrated probability, where the object is present."""

    slope: float
    offset: float


UNCALIBRATED = Calibration(1.0, 0.0)


@dataclass(frozen=True)
class Finding:
    """Result of segmenting one picture.

    Attributes
    ----------
    logits : (H, W) or (K, H, W)
        Logits of the object, or of several classes, against the background.
    mask : (H, W)
        0 background, 1 … K classes.
    calibration
        Of the logits.
    presence : (K,)
        Scores of the classes' presence in [0, 1]; None if the variant gives none.
    present : (K,)
        Whether each class counts as present; all of them if there are no scores.
    expected_iou : (K,)
        Expected IoU of each class's mask if the class is present, in [0, 1]; see :func:`expected_iou`.
    """

    logits: NDArray[np.float32]
    mask: NDArray[np.uint8]
    calibration: Calibration
    presence: NDArray[np.float32] | None
    present: NDArray[np.bool_]
    expected_iou: NDArray[np.float32]

    @property
    def calibrated(self) -> NDArray[np.float32]:
        """Probabilities where the classes are present: (H, W), or (K + 1, H, W) with the background's first."""
        return probability(self.calibration.slope * self.logits + np.float32(self.calibration.offset))

    @property
    def probability(self) -> NDArray[np.float32]:
        """Probabilities, which include that of presence: (H, W), or (K + 1, H, W) with the background's first."""
        shares = self.calibrated
        if self.presence is None:
            return shares
        if self.logits.ndim == 2:
            shares *= self.presence[0]
            return shares
        shares[1:] *= self.presence[:, None, None]
        shares[0] = 1 - shares[1:].sum(0)
        return shares

    @property
    def certainty(self) -> NDArray[np.float32]:
        """Expected quality of the answer about each class, (K,), in [0, 1].

        For a class that counts as present it is presence × expected IoU, for another one it is 1 − presence.
        """
        presence = np.ones(len(self.present), np.float32) if self.presence is None else self.presence
        return np.where(self.present, presence * self.expected_iou, 1 - presence).astype(np.float32)


def expected_iou(logits: Tensor, least: Sequence[float], calibration: Calibration) -> Tensor:
    """Estimate the expected IoU of each class's mask from calibrated probabilities.

    The expected intersection of mask and object is the sum of the probabilities inside the mask; the expected union is
    the mask and the sum of the probabilities outside. The IoU is estimated by their quotient.

    Parameters
    ----------
    logits : (K, h, w)
        Logits of the classes against the background.
    least : (K,)
        Logit of each class from which a cell is marked.
    calibration
        Of the logits.

    Returns
    -------
    (K,)
        In [0, 1]; 0 for an empty mask.
    """
    flat = logits.flatten(1)  # (K, hw)
    calibrated = calibration.slope * flat + calibration.offset
    shares = torch.cat([torch.zeros_like(calibrated[:1]), calibrated]).softmax(0)[1:]
    best = flat.max(0, keepdim=True).values
    inside = (flat == best) & (flat > flat.new_tensor(least)[:, None])
    intersection = (shares * inside).sum(1)
    union = inside.sum(1) + (shares * ~inside).sum(1)
    return intersection / union.clamp_min(1e-12)


def winners(logits: NDArray[np.float32], least: Sequence[float]) -> NDArray[np.uint8]:
    """Convert logits to the numbers of the winning classes, (H, W).

    Parameters
    ----------
    logits : (H, W) or (K, H, W)
        Logits of the classes; of equal ones, the first class wins.
    least : (K,)
        Logit that each class has to exceed; where none does, the result is 0.
    """
    classes = logits[None] if logits.ndim == 2 else logits
    mask = np.zeros(classes.shape[1:], np.uint8)
    best = np.full(classes.shape[1:], -np.inf, np.float32)
    for number, (values, lowest) in enumerate(zip(classes, least, strict=True), 1):  # one by one, to save memory
        better = (values > lowest) & (values > best)
        mask[better] = number
        best[better] = values[better]
    return mask


def least_logits(least: float, share: float, presence: NDArray[np.float32], calibration: Calibration) -> list[float]:
    """Return the logits from which pixels of each class are marked, (K,).

    Parameters
    ----------
    least
        Smallest logit of a marked pixel.
    share
        Smallest probability of a marked pixel, which includes the probability that its class is present.
    presence : (K,)
        Scores of the classes' presence.
    calibration
        Of the logits.
    """
    needed = np.clip(share / np.maximum(presence.astype(np.float64), 1e-12), 1e-12, 1 - 1e-12)  # if it is present
    logits = (np.log(needed / (1 - needed)) - calibration.offset) / calibration.slope
    lowest: list[float] = np.maximum(least, logits).tolist()
    return lowest


def probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert logits to probabilities: (H, W) of the object, or (K + 1, H, W) of background and classes."""
    values = torch.from_numpy(logits)
    if logits.ndim == 2:
        return values.sigmoid().numpy()
    return torch.cat([torch.zeros_like(values[:1]), values]).softmax(0).numpy()
