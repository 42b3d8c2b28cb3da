"""Training images → the two-branch network of the CAM prior (B).

Reads
    ``index``, ``images`` (all shards), a pretrained weight file.
Writes
    a folder: ``weights.safetensors`` (encoder and both branches, with everything that rebuilds them) and ``log.tsv``.
    Of the fold's known sub-sets one plays unseen and is segmented, the others train the classification branch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.core.errors import InputError
from stages.core.random import new_layers
from stages.data.index import Index, read_index
from stages.data.sampling import EpisodeSampler
from stages.data.store import ImageStore
from stages.models.cam import NETWORK, CamNetwork
from stages.models.encoder import Encoder, new_encoder
from stages.sections.cam import Params
from stages.sections.encoder import EncoderParams
from stages.training.bank import Bank
from stages.training.batches import EpisodeBatches
from stages.training.cam import CamBatches, CamLearner
from stages.training.loop import MakeOptimiser
from stages.training.stage import described, recipe_of, train_and_write

PAIR = 1  # supports of a training episode; several at test are fused (evaluate.cam_fusion)


def _freeze(encoder: Encoder, parts: int) -> None:
    """Freeze the first parts: stem, layer1, layer2, layer3."""
    net = encoder.resnet
    stem = [part for name, part in net.named_children() if not name.startswith("layer")]
    for part in [nn.ModuleList(stem), net.layer1, net.layer2, net.layer3][:parts]:
        part.requires_grad_(False)


def adam(params: Params) -> MakeOptimiser:
    """Adam with the section's rate."""
    return lambda weights: torch.optim.Adam(weights, params.learning_rate)


def roles(data: Index, params: Params, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Base classes that are told from each other, and those that play unseen, as labels.

    Raises
    ------
    InputError
        If the first are fewer than two, or no fold can play unseen.
    """
    unseen = data.novel(params.unseen_fold(fold, data.folds, data.held_out))
    known = np.setdiff1d(data.base(fold), unseen)
    if len(known) < 2:
        raise InputError(
            f"beside the novel classes of fold {fold} and {', '.join(data.names(unseen))}, which plays unseen, one "
            "class is left: there is no other to tell it from; lower index.folds, or set plan.cam to false"
        )
    return known, unseen


def run(
    *,
    index: Path,
    images: list[Path],
    weights: Path,
    out: Path,
    fold: int,
    params: Params,
    encoder: EncoderParams,
    device: str = "auto",
    threads: int = 0,
    compiled: int = 0,
    memory_mb: int = 0,
    live: Path | None = None,
) -> None:
    """Train on base classes alone."""
    data = read_index(index)
    known, unseen = roles(data, params, fold)
    net = new_encoder(encoder, weights)
    _freeze(net, params.frozen)
    with new_layers(params.seed, "branches"):
        shape = params.model_dump(include={"wiring", "weighting", "prior"})
        network = CamNetwork(net, classes=len(known), width=params.deconv_width, **shape)
    pool = data.training_images(fold)
    objects = EpisodeSampler(data, pool, known, 0, "training")
    pairs = EpisodeSampler(data, pool, unseen, PAIR, "training")
    with ImageStore(images, data) as store:

        def batches(place: torch.device) -> CamBatches:
            bank = Bank(data, pool, store.with_mask, place, memory_mb)
            return CamBatches(
                EpisodeBatches(bank, objects, params, params.objects, params.seed, "object"),
                EpisodeBatches(bank, pairs, params, params.episodes, params.seed, "pair"),
                known.tolist(),
                params,
            )

        train_and_write(
            learner=CamLearner(network, params.class_weight),
            network=network,
            batches=batches,
            optimiser=adam(params),
            params=params,
            precision=encoder.precision,
            recipe=recipe_of("cam", [index, *images, weights], [params, encoder], fold=fold),
            out=out,
            label=f"cam fold {fold}",
            shares=1,
            about=described(
                *(NETWORK, encoder, params, params, data, fold),
                {
                    **params.model_dump(),
                    **{"stage": "cam", "known": data.names(known), "plays_unseen": data.names(unseen)},
                },
            ),
            device=device,
            devices=1,
            threads=threads,
            compiled=compiled,
            memory_mb=memory_mb,
            live=live,
        )
