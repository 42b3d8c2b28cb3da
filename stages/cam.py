"""Training images → the two-branch network of the CAM prior (B).

Reads
    ``index``, ``images`` (all shards), a pretrained weight file.
Writes
    a folder: ``weights.safetensors`` (encoder and both branches, with the record that rebuilds them) and ``log.tsv``.
    One known fold acts as unseen and is segmented; the classes of the others train the classification branch.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from novelseg.backbones.encoder import pretrained_backbone
from novelseg.core.errors import InputError
from novelseg.core.random import new_layers
from novelseg.data.bank import Bank
from novelseg.data.batches import EpisodeBatches, ViewGeometry
from novelseg.data.index import Index, read_index
from novelseg.data.sampling import EpisodeSampler
from novelseg.data.store import ImageStore
from novelseg.methods.cam.network import NETWORK, CamNetwork, CamRecord
from novelseg.methods.cam.training import CamBatches, CamLearner
from novelseg.training.loop import MakeOptimiser
from stages.options import (
    Compiled,
    Device,
    Fold,
    ImageShards,
    IndexFile,
    Live,
    MemoryMb,
    Out,
    Pretrained,
    Threads,
)
from stages.params.cam import Params
from stages.params.encoder import EncoderParams
from stages.training import Execution, common_facts, recipe_of, train_and_write

PAIR = 1  # supports of a training episode; several at test are fused (evaluate.cam_fusion)


def adam(params: Params) -> MakeOptimiser:
    """Adam with the section's rate."""
    return lambda weights: torch.optim.Adam(weights, params.learning_rate)


def roles(data: Index, params: Params, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Base classes that are told from each other, and those that act as unseen, as labels.

    Raises
    ------
    InputError
        If the first are fewer than two, or no fold can act as unseen.
    """
    unseen = data.novel(params.unseen_fold(fold, data.folds, data.held_out))
    known = np.setdiff1d(data.base(fold), unseen)
    if len(known) < 2:
        raise InputError(
            f"beside the novel classes of fold {fold} and {', '.join(data.names(unseen))}, which act as unseen, one "
            "class is left: there is no other to tell it from; lower index.folds, or set plan.cam to false"
        )
    return known, unseen


def run(
    *,
    index: IndexFile,
    images: ImageShards,
    weights: Pretrained,
    out: Out,
    fold: Fold,
    params: Params,
    encoder: EncoderParams,
    device: Device = "auto",
    threads: Threads = 0,
    compiled: Compiled = 0,
    memory_mb: MemoryMb = 0,
    live: Live = None,
) -> None:
    """Train on base classes alone."""
    data = read_index(index)
    known, unseen = roles(data, params, fold)
    net = pretrained_backbone(encoder.spec, weights)
    for part in net.parts()[: params.frozen]:
        part.requires_grad_(False)
    with new_layers(params.seed, "branches"):
        shape = params.model_dump(include={"wiring", "weighting", "prior"})
        network = CamNetwork(net, classes=len(known), width=params.deconv_width, **shape)
    pool = data.training_images(fold)
    objects = EpisodeSampler(data, pool, known, 0, "training")
    pairs = EpisodeSampler(data, pool, unseen, PAIR, "training")
    with ImageStore(images, data) as store:

        def batches(where: torch.device) -> CamBatches:
            bank, view = Bank(data, pool, store.with_mask, where, memory_mb), params.to(ViewGeometry)
            return CamBatches(
                EpisodeBatches(bank, objects, view, params.objects, params.seed, "object"),
                EpisodeBatches(bank, pairs, view, params.episodes, params.seed, "pair"),
                known.tolist(),
                classifier_iterations=params.classifier_iterations,
                seed=params.seed,
            )

        facts = common_facts(encoder, params.geometry, params.size, params, data, fold)
        train_and_write(
            learner=CamLearner(network, params.class_weight),
            network=network,
            batches=batches,
            optimiser=adam(params),
            params=params,
            recipe=recipe_of("cam", [index, *images, weights], [params, encoder], fold=fold),
            out=out,
            label=f"cam fold {fold}",
            shares=1,
            record=CamRecord(
                network=NETWORK,
                stage="cam",
                known=data.names(known),
                plays_unseen=data.names(unseen),
                **{**params.model_dump(), **facts},
            ),
            execution=Execution(device, 1, threads, compiled, memory_mb, live),
        )
