"""What a segmenter finds in a picture: logits, mask, and how far both can be trusted."""

from __future__ import annotations

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
    """What was found in a picture.

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
        IoU of each class's mask that the probabilities let expect if the class is present, in [0, 1].
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
        """Expected quality of the answer about each class, (K,): of a mask presence × IoU, of none the absence."""
        presence = np.ones(len(self.present), np.float32) if self.presence is None else self.presence
        return np.where(self.present, presence * self.expected_iou, 1 - presence).astype(np.float32)


def expected_iou(logits: Tensor, least: float, calibration: Calibration) -> Tensor:
    """Return the IoU that calibrated probabilities let expect of the mask of each class.

    The expected intersection of mask and object is the sum of the probabilities inside the mask; the expected union is
    the mask and the sum of the probabilities outside. The IoU is estimated by their quotient.

    Parameters
    ----------
    logits : (K, h, w)
        Logits of the classes against the background.
    least
        Logit from which a cell is marked.
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
    inside = (flat == best) & (flat > least)
    intersection = (shares * inside).sum(1)
    union = inside.sum(1) + (shares * ~inside).sum(1)
    return intersection / union.clamp_min(1e-12)


def winners(logits: NDArray[np.float32], least: float = 0.0) -> NDArray[np.uint8]:
    """Convert logits, (H, W) or (K, H, W), to the numbers of the winning classes; 0 where none is above ``least``."""
    if logits.ndim == 2 or len(logits) == 1:
        return (logits.reshape(logits.shape[-2:]) > least).astype(np.uint8)
    best, labels = logits[0].copy(), np.ones(logits.shape[1:], np.uint8)
    for label, values in enumerate(logits[1:], 2):
        better = values > best  # of equal ones, the first wins
        best[better], labels[better] = values[better], label
    labels[best <= least] = 0
    return labels


def probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert logits to probabilities: (H, W) of the object, or (K + 1, H, W) of background and classes."""
    values = torch.from_numpy(logits)
    if logits.ndim == 2:
        return values.sigmoid().numpy()
    return torch.cat([torch.zeros_like(values[:1]), values]).softmax(0).numpy()
