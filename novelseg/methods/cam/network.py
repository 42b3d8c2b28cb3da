"""The two-branch network of the CAM prior (B): activation maps of known classes, and segmentation by their sum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from novelseg.backbones.contract import Backbone
from novelseg.backbones.registry import new_backbone
from novelseg.formats.network import read_record
from novelseg.formats.record import NetworkRecord
from novelseg.methods.cam.equations import normalised, prior_map, shuffled, weights_of

NETWORK = "cam"
UPSCALE = 4  # steps of the segmentation branch's logits from one cell of the features to the next


@dataclass(frozen=True, kw_only=True)
class CamRecord(NetworkRecord):
    """What the CAM prior's network says of itself; meanings and ranges are those of the parameter section ``cam``."""

    known: list[str]
    plays_unseen: list[str]
    wiring: str
    weighting: str
    prior: str
    deconv_width: int
    geometry: str
    size: int
    flip: float
    frozen: int
    unseen: int
    learning_rate: float
    decay_every: int
    decay: float
    log_every: int
    classifier_iterations: int
    episodes: int
    objects: int
    class_weight: float


class MultiScale(nn.Module):
    """D to D′: one 3×3 and two 1×1 convolutions; (B, n, h, w) both.

    Parameters
    ----------
    classes
        Known classes n.
    wiring
        ``sum``: all three side by side, summed. ``join``: 3×3 and 1×1 side by side, concatenated, and joined by the
        third.
    """

    def __init__(self, classes: int, wiring: str) -> None:
        super().__init__()
        self.joins = wiring == "join"
        self.wide = nn.Conv2d(classes, classes, 3, padding=1)
        self.near = nn.Conv2d(classes, classes, 1)
        self.third = nn.Conv2d(2 * classes if self.joins else classes, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Refined maps."""
        refined: Tensor
        if self.joins:
            refined = self.third(torch.cat([self.wide(x), self.near(x)], 1))
        else:
            refined = self.wide(x) + self.near(x) + self.third(x)
        return refined


class CamNetwork(nn.Module):
    """Encoder, classification branch and segmentation branch.

    Parameters
    ----------
    encoder
        Shared by both branches.
    classes
        Known classes n.
    wiring
        Of the multi-scale block.
    weighting
        What the scores become before they weigh the maps (:func:`novelseg.methods.cam.equations.weights_of`).
    width
        Channels between the two transposed convolutions.
    prior
        ``map``, or what stands in for it in an ablation: ``constant`` (one everywhere), ``shuffled``.
    """

    def __init__(self, encoder: Backbone, *, classes: int, wiring: str, weighting: str, width: int, prior: str) -> None:
        super().__init__()
        self.encoder, self.weighting, self.given = encoder, weighting, prior
        self.classify = nn.Conv2d(encoder.channels, classes, 1)
        self.refine = MultiScale(classes, wiring)
        # Kernel 3, stride 2, padding 1 gives 2h − 1 cells: the outer cells stay where they are.
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(encoder.channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 2, 3, stride=2, padding=1),
        )

    def maps(self, features: Tensor) -> Tensor:
        """D′, an activation map of each known class: (B, C, h, w) to (B, n, h, w)."""
        found: Tensor = self.refine(self.classify(features))
        return found

    def scores(self, features: Tensor) -> Tensor:
        """S, by global average pooling: (B, C, h, w) of masked objects to (B, n)."""
        return self.maps(features).mean((2, 3))

    def priors(self, features: Tensor, scores: Tensor) -> Tensor:
        """Normalised maps of unseen classes in queries: (E, C, h, w) or (C, h, w) and (E, n) to (E, h, w)."""
        maps = self.maps(features) if features.dim() == 4 else self.maps(features[None])[0]
        return normalised(prior_map(maps, weights_of(scores, self.weighting)))

    def segment(self, features: Tensor, priors: Tensor, keys: Tensor) -> Tensor:
        """Background and foreground (B, Eq. 4), or without the map in an ablation.

        Parameters
        ----------
        features : (E, C, h, w)
            Of the queries.
        priors : (E, h, w)
            In [0, 1].
        keys : (E,) int32
            Of the order of a shuffled map.

        Returns
        -------
        (E, 2, 4h − 3, 4w − 3)
            Logits.
        """
        if self.given == "constant":
            priors = torch.ones_like(priors)
        elif self.given == "shuffled":
            priors = shuffled(priors, keys)
        logits: Tensor = self.decode(features * priors[:, None])
        return logits


def load_cam(path: Path, fold: int | None = None, base: list[str] | None = None) -> tuple[CamNetwork, CamRecord]:
    """Rebuild a trained network, with the record that lies beside its weights.

    Raises
    ------
    InputError
        If the file cannot be read, or was trained for another fold or base classes.
    """
    record = read_record(path, CamRecord, NETWORK, fold, base)
    network = CamNetwork(
        new_backbone(record.backbone),
        classes=len(record.known),
        width=record.deconv_width,
        wiring=record.wiring,
        weighting=record.weighting,
        prior=record.prior,
    )
    network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False), record
