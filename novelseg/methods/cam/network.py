"""The two-branch network of the CAM prior (B): activation maps of known classes, and segmentation by their sum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novelseg.backbones.contract import Backbone
from novelseg.backbones.registry import new_backbone
from novelseg.backbones.weights import UNBUILDABLE, build_and_load, first_line
from novelseg.core.errors import InputError
from novelseg.formats.network import NETWORK as FILE
from novelseg.formats.network import read_record, read_tensors
from novelseg.formats.record import BackboneSpec, NetworkRecord
from novelseg.methods.cam.equations import map_weights, normalise, prior_map, shuffle
from novelseg.methods.cam.objects import pooled_taps, pooling_weights

NETWORK = "cam"
UPSCALE = 4  # the segmentation branch's logits are this many times finer than the features (Grid.finer)


@dataclass(frozen=True, kw_only=True)
class CamRecord(NetworkRecord):
    """Record of a CAM prior's network; meanings and ranges are those of the parameter section ``cam``.

    The fields with a default are those that earlier records lack; the default is what they mean.
    """

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
    pooling: str = "image"
    relu: bool = False
    features: str = "layer3"
    detach: int = 0
    classifier_accuracy: float = 0.0

    def __post_init__(self) -> None:
        """Check what the network is built from and used with; see :meth:`NetworkRecord.__post_init__`."""
        super().__post_init__()
        allowed = {"wiring": ("sum", "join"), "weighting": ("scores", "sigmoid", "softmax")}
        allowed |= {"prior": ("map", "constant", "shuffled", "other"), "geometry": ("resize", "crop")}
        allowed |= {"pooling": ("image", "object"), "features": ("layer3", "layer4")}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"'{name}' is '{getattr(self, name)}'; expected one of {', '.join(values)}")
        if min(self.size, self.deconv_width, len(self.known)) < 1:
            raise ValueError("'size', 'deconv_width' or the number of classes in 'known' is below 1")

    @property
    def backbone(self) -> BackboneSpec:
        """Settings that rebuild the backbone."""
        return replace(super().backbone, last=self.features)


def bias_of(layer: nn.Conv2d) -> Tensor:
    """Return the bias of a convolution, which all convolutions of the branch have."""
    assert layer.bias is not None
    return layer.bias


class MultiScale(nn.Module):
    """Multi-scale block that refines the maps D to D′, both (B, n, h, w), by one 3×3 and two 1×1 convolutions.

    Parameters
    ----------
    classes
        Number n of known classes.
    wiring
        ``sum``: all three convolutions in parallel, summed. ``join``: the 3×3 and one 1×1 convolution in parallel,
        concatenated and fused by the other 1×1 convolution.
    """

    def __init__(self, classes: int, wiring: str) -> None:
        super().__init__()
        self.joins = wiring == "join"
        self.wide = nn.Conv2d(classes, classes, 3, padding=1)
        self.near = nn.Conv2d(classes, classes, 1)
        self.third = nn.Conv2d(2 * classes if self.joins else classes, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined maps."""
        refined: Tensor
        if self.joins:
            refined = self.third(torch.cat([self.wide(x), self.near(x)], 1))
        else:
            refined = self.wide(x) + self.near(x) + self.third(x)
        return refined

    def pooled(self, taps: Tensor) -> Tensor:
        """Return the weighted mean of the refined maps, (B, n), from those of the maps under nine taps, (B, 9, n)."""
        wide = torch.einsum("bti,oit->bo", taps, self.wide.weight.flatten(2)) + bias_of(self.wide)
        centre = taps[:, 4]
        near = F.linear(centre, self.near.weight.flatten(1), self.near.bias)
        third = F.linear(torch.cat([wide, near], 1) if self.joins else centre, self.third.weight.flatten(1))
        return (third if self.joins else wide + near + third) + bias_of(self.third)


class CamNetwork(nn.Module):
    """Network of an encoder, a classification branch and a segmentation branch.

    Parameters
    ----------
    encoder
        Encoder that both branches share.
    classes
        Number n of known classes.
    wiring
        Wiring of the multi-scale block (:class:`MultiScale`).
    weighting
        How scores become weights of the maps (:func:`novelseg.methods.cam.equations.map_weights`).
    width
        Number of channels between the two transposed convolutions.
    prior
        ``map``, or its replacement in an ablation: ``constant`` (one everywhere), ``shuffled``, or ``other``, the map
        that the support of another episode gives; its caller exchanges the scores.
    pooling
        Cells over which scores are averaged (:func:`novelseg.methods.cam.objects.pooling_weights`).
    relu
        Whether features pass the ReLU that the encoder leaves out after its last block.
    """

    def __init__(
        self,
        encoder: Backbone,
        *,
        classes: int,
        wiring: str,
        weighting: str,
        width: int,
        prior: str,
        pooling: str,
        relu: bool,
    ) -> None:
        super().__init__()
        self.encoder, self.weighting, self.prior, self.pooling, self.relu = encoder, weighting, prior, pooling, relu
        self.classify = nn.Conv2d(encoder.channels, classes, 1)
        self.refine = MultiScale(classes, wiring)
        # Kernel 3, stride 2 and padding 1 give 2h − 1 cells, so that the first and last cells keep their positions.
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(encoder.channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 2, 3, stride=2, padding=1),
        )

    def activated(self, features: Tensor) -> Tensor:
        """Return the encoder's features as both branches use them."""
        return F.relu(features) if self.relu else features

    def maps(self, features: Tensor) -> Tensor:
        """Compute D′, one activation map per known class: (B, C, h, w) to (B, n, h, w)."""
        maps: Tensor = self.refine(self.classify(self.activated(features)))
        return maps

    def scores(self, features: Tensor, masks: Tensor) -> Tensor:
        """Compute the scores S of masked objects by average pooling.

        Parameters
        ----------
        features : (B, C, h, w)
            Features of images that are black outside the object.
        masks : (B, H, W) uint8
            1 for the object.

        Returns
        -------
        (B, n)
        """
        maps = self.maps(features)
        return (maps * self._weights(masks, maps)[:, None]).sum((2, 3))

    def _weights(self, masks: Tensor, maps: Tensor) -> Tensor:
        return pooling_weights(masks, (maps.shape[-2], maps.shape[-1]), self.encoder.grid, self.pooling)

    def pooled(self, features: Tensor, mask: Tensor) -> Tensor:
        """Pool what :meth:`scores` needs of one object: features (C, h, w) and mask (H, W) to (9, C + 1)."""
        return pooled_taps(self.activated(features), self._weights(mask[None], features)[0])

    def scores_of_pooled(self, taps: Tensor) -> Tensor:
        """Compute the same scores as :meth:`scores`, (B, n), from pooled features (B, 9, C + 1)."""
        weight, bias = self.classify.weight.flatten(1), bias_of(self.classify)
        # The bias counts where a tap lies inside the image; outside, the padding is zero after it.
        return self.refine.pooled(taps @ torch.cat([weight, bias[:, None]], 1).T)

    def priors(self, features: Tensor, scores: Tensor) -> Tensor:
        """Compute the normalised maps of unseen classes in queries, (E, h, w).

        Parameters
        ----------
        features : (E, C, h, w) or (C, h, w)
            Features of one query per episode, or of one query that all episodes share.
        scores : (E, n)
            Scores of the supports, from :meth:`scores`.
        """
        maps = self.maps(features) if features.dim() == 4 else self.maps(features[None])[0]
        return normalise(prior_map(maps, map_weights(scores, self.weighting)))

    def segment(self, features: Tensor, priors: Tensor, keys: Tensor) -> Tensor:
        """Segment queries into background and foreground by their priors (B, Eq. 4).

        In ablations, the priors are replaced by a constant or shuffled.

        Parameters
        ----------
        features : (E, C, h, w)
            Features of the queries.
        priors : (E, h, w)
            Normalised maps, in [0, 1].
        keys : (E,) int32
            Random keys by which the priors are shuffled.

        Returns
        -------
        (E, 2, 4h − 3, 4w − 3)
            Logits.
        """
        if self.prior == "constant":
            priors = torch.ones_like(priors)
        elif self.prior == "shuffled":
            priors = shuffle(priors, keys)
        logits: Tensor = self.decode(self.activated(features) * priors[:, None])
        return logits


def load_cam(path: Path, fold: int | None = None, base: list[str] | None = None) -> tuple[CamNetwork, CamRecord]:
    """Load a trained network, frozen and in evaluation mode, and the record stored with its weights.

    Raises
    ------
    InputError
        If the file cannot be read, or the network was trained for another fold or other base classes than those given.
    """
    record = read_record(path, CamRecord, NETWORK, fold, base)
    _, state = read_tensors(path, FILE)

    def build() -> CamNetwork:
        return CamNetwork(
            new_backbone(record.backbone),
            classes=len(record.known),
            width=record.deconv_width,
            wiring=record.wiring,
            weighting=record.weighting,
            prior=record.prior,
            pooling=record.pooling,
            relu=record.relu,
        )

    try:
        network = build_and_load(build, state)
    except (InputError, *UNBUILDABLE) as error:
        raise InputError(f"{path}: its weights do not fit its header ({first_line(error)}); {FILE.remedy}") from None
    return network.eval().requires_grad_(False), record
