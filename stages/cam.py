"""Train the two-branch network of the CAM prior (B).

The classes of one known fold act as unseen and are segmented; those of the other known folds train the
classification branch.

Reads
    ``index``, ``images`` (all shards), a pretrained weight file.
Writes
    a folder: ``weights.safetensors`` (encoder and both branches, with the record that rebuilds them) and ``log.tsv``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from novelseg.backbones.encoder import freeze, pretrained_backbone
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.errors import InputError
from novelseg.core.random import new_layers
from novelseg.data.bank import Bank
from novelseg.data.batches import EpisodeBatches, ViewGeometry
from novelseg.data.index import Index, read_index
from novelseg.data.sampling import EpisodeSampler
from novelseg.data.store import ImageStore
from novelseg.methods.cam.network import NETWORK, CamNetwork, CamRecord
from novelseg.methods.cam.objects import PooledObjects
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

PAIR_SHOT = 1  # supports per training episode; at test time, several are fused (evaluate.cam_fusion)


def adam(params: Params) -> MakeOptimiser:
    """Return a function that makes Adam with the section's learning rate."""
    return lambda weights: torch.optim.Adam(weights, params.learning_rate)


def roles(data: Index, params: Params, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels of the base classes to classify, and of those that act as unseen.

    Raises
    ------
    InputError
        If fewer than two classes are left to classify, or no fold can act as unseen.
    """
    unseen = data.novel(params.unseen_fold(fold, data.folds, data.held_out))
    known = np.setdiff1d(data.base(fold), unseen)
    if len(known) < 2:
        raise InputError(
            f"fold {fold} leaves one class for the CAM prior to classify, beside its novel classes and those that act "
            f"as unseen ({', '.join(data.names(unseen))}); expected at least two: lower index.folds, or set plan.cam "
            "to false"
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
    """Train both branches, using only base classes."""
    data = read_index(index)
    known, unseen = roles(data, params, fold)
    net = pretrained_backbone(replace(encoder.spec, last=params.features), weights)
    freeze(net, encoder.trained)
    for part in net.parts()[: params.frozen]:
        part.requires_grad_(False)
    with new_layers(params.seed, "branches"):
        shape = params.model_dump(include={"wiring", "weighting", "prior", "pooling", "relu"})
        network = CamNetwork(net, classes=len(known), width=params.deconv_width, **shape)
    pool = data.training_images(fold)
    objects = EpisodeSampler(data, pool, known, 0, "training")
    pairs = EpisodeSampler(data, pool, unseen, PAIR_SHOT, "training")
    members = [(image, label) for label in known.tolist() for image in data.holds(pool, label).tolist()]
    side = params.size if params.geometry == "resize" else 0
    with ImageStore(images, data) as store:

        def decode(image: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            colours, maps = store.with_mask(image)
            return colours, maps[0]

        def batches(torch_device: torch.device) -> CamBatches:
            bank, view = Bank(data, pool, store.with_mask, torch_device, memory_mb), params.to(ViewGeometry)
            return CamBatches(
                EpisodeBatches(bank, objects, view, params.objects, params.seed, "object"),
                EpisodeBatches(bank, pairs, view, params.episodes, params.seed, "pair"),
                known.tolist(),
                PooledObjects(
                    members,
                    decode,
                    (lambda _: (side, side)) if side else data.size,
                    side,
                    params.flip > 0,
                    network.pooled,
                ),
                FeatureExtractor(net, encoder.precision, torch_device),
                encoder_trains=any(weight.requires_grad for weight in net.parameters()),
                classifier_iterations=params.classifier_iterations,
                detach=params.detach,
                accuracy=params.classifier_accuracy > 0,
                seed=params.seed,
            )

        facts = common_facts(encoder, params.geometry, params.size, params, data, fold)
        train_and_write(
            learner=CamLearner(network, params.class_weight, params.classifier_accuracy),
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
