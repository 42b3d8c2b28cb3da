"""Networks of a fold, named as in the table of variants, and their predictors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from novelseg.backbones.contract import Backbone
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.errors import InputError
from novelseg.data.index import Index
from novelseg.data.store import ImageStore
from novelseg.evaluation.scoring import Predictor
from novelseg.formats.protocol import FROZEN
from novelseg.formats.record import EncoderRecord
from novelseg.methods.bank import SupportBank
from novelseg.methods.cam.network import CamNetwork, CamRecord
from novelseg.methods.cam.predictor import CamPredictor
from novelseg.methods.matching.predictor import MatchingPredictor
from novelseg.methods.refiners import RefinerSettings, refiners_of
from novelseg.methods.srofb.classifier import parameter_count
from novelseg.methods.variants import CAM, MAP, NAMES, VARIANTS


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings that apply at test time only.

    Attributes
    ----------
    refinements
        Variants with a refinement that are scored in addition to the others.
    cam_fusion
        How the CAM prior combines several supports: ``scores`` or ``maps`` (:class:`CamPredictor`).
    cam_threshold
        Threshold of the CAM prior's map where it is scored alone, in (0, 1).
    refiners
        Settings of the refinements.
    """

    refinements: list[str]
    cam_fusion: str
    cam_threshold: float
    refiners: RefinerSettings


@dataclass(frozen=True)
class Networks:
    """The networks of a fold and shot.

    Attributes
    ----------
    encoders
        Encoder and record by name of the network; the pretrained encoder has the record of the Baseline, if there is
        one.
    cam
        Network and record of the CAM prior, if it was trained.
    """

    encoders: Mapping[str, tuple[Backbone, EncoderRecord]]
    cam: tuple[CamNetwork, CamRecord] | None

    def resolution(self) -> str:
        """Return the side and geometry of the training images of method A's encoders, and what features they give.

        Raises
        ------
        InputError
            If they differ.
        """
        resolutions = sorted(
            {"; ".join(filter(None, (record.resolution or FROZEN, net.note))) for net, record in self.encoders.values()}
        )
        if len(resolutions) > 1:
            listed = " and ".join(resolutions)
            raise InputError(f"the encoders were trained at {listed}; give encoders of one experiment")
        return resolutions[0]

    def parameters(self, settings: RefinerSettings) -> dict[str, int]:
        """Count the parameters of every variant: its network's and those of a classifier trained online."""
        counts = {}
        for variant in VARIANTS:
            if variant.network in self.encoders:
                net = self.encoders[variant.network][0]
                online = parameter_count(net.channels, settings.srofb.hidden) if "srofb" in variant.refiner else 0
                counts[variant.name] = count_parameters(net) + online
        if self.cam:
            network = self.cam[0]
            counts[CAM] = count_parameters(network)
            counts[MAP] = counts[CAM] - count_parameters(network.decode)
        return counts


def count_parameters(network: nn.Module) -> int:
    """Count the parameters of a network, frozen ones included."""
    return sum(weight.numel() for weight in network.parameters())


def cam_protocol(record: CamRecord, level: str, settings: EvaluationSettings) -> str:
    """Describe in words on what the CAM prior's rows depend in addition to the protocol of the other rows."""
    return ", ".join(
        [
            record.resolution,
            "tests too" if record.geometry == "resize" else "tests at own size",
            level,
            *(f"{name} {getattr(record, name)}" for name in ("frozen", "unseen", "wiring")),
            f"S over the {record.pooling}",
            *(["ReLU"] if record.relu else []),
            f"prior {record.prior} by {record.weighting}",
            f"mean of {settings.cam_fusion}",
            f"map cut at {settings.cam_threshold:g}",
        ]
    )


def predictors(
    networks: Networks,
    data: Index,
    store: ImageStore,
    device: torch.device,
    settings: EvaluationSettings,
    memory_mb: int,
) -> Iterator[tuple[str, Predictor]]:
    """Yield the predictor of each network in turn, with the variant of the network's own prediction.

    No reference to a predictor is kept here, so that its memory can be freed before the next one is built.
    """
    for name in (name for name in NAMES if name in networks.encoders):
        net, record = networks.encoders[name]
        extract = FeatureExtractor(net, record.precision, device)
        bank = SupportBank(extract, data.size, store.image, store.mask, memory_mb)
        refiners = refiners_of(name, settings.refinements, replace(settings.refiners, half=extract.half))
        yield name, MatchingPredictor(bank, record.scale, refiners)
    if networks.cam:
        network, cam_record = networks.cam
        yield (
            CAM,
            CamPredictor(
                network,
                cam_record,
                settings.cam_fusion,
                settings.cam_threshold,
                data,
                store.image,
                store.mask,
                device,
                memory_mb,
            ),
        )
