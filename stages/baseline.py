"""Train the Baseline F_p: an encoder that learns from prototype matching alone.

Reads
    ``index``, ``images`` (all shards), a pretrained weight file.
Writes
    a folder: ``weights.safetensors`` (with its record in the file's header) and ``log.tsv``.
"""

from __future__ import annotations

import torch

from novelseg.backbones.encoder import NETWORK
from novelseg.data.bank import Bank
from novelseg.data.batches import EpisodeBatches, ViewGeometry
from novelseg.data.index import read_index
from novelseg.data.sampling import EpisodeSampler
from novelseg.data.store import ImageStore
from novelseg.formats.record import EncoderRecord
from novelseg.methods.matching.learner import MatchingLearner
from stages.options import (
    Compiled,
    Device,
    Devices,
    Fold,
    ImageShards,
    IndexFile,
    Live,
    MemoryMb,
    Out,
    Pretrained,
    Shot,
    Threads,
)
from stages.params.baseline import Params
from stages.params.encoder import EncoderParams
from stages.params.matching import MatchingParams
from stages.training import Execution, common_facts, optimiser_of, recipe_of, train_and_write, trainable_backbone


def run(
    *,
    index: IndexFile,
    images: ImageShards,
    weights: Pretrained,
    out: Out,
    fold: Fold,
    shot: Shot,
    params: Params,
    encoder: EncoderParams,
    matching: MatchingParams,
    device: Device = "auto",
    devices: Devices = 1,
    threads: Threads = 0,
    compiled: Compiled = 0,
    memory_mb: MemoryMb = 0,
    live: Live = None,
) -> None:
    """Train on base-class episodes with ``shot`` supports each."""
    data = read_index(index)
    net = trainable_backbone("baseline", encoder, weights)
    pool = data.training_images(fold)
    sampler = EpisodeSampler(data, pool, data.base(fold), shot, "training")
    with ImageStore(images, data) as store:

        def batches(torch_device: torch.device) -> EpisodeBatches:
            bank = Bank(data, pool, store.with_mask, torch_device, memory_mb)
            return EpisodeBatches(bank, sampler, matching.to(ViewGeometry), matching.episodes, params.seed, "episode")

        train_and_write(
            learner=MatchingLearner(net, matching.scale),
            network=net,
            batches=batches,
            optimiser=optimiser_of(params),
            params=params,
            recipe=recipe_of("baseline", [index, *images, weights], [params, encoder, matching], fold=fold, shot=shot),
            out=out,
            label=f"baseline fold {fold} {shot}-shot",
            shares=matching.episodes,
            record=EncoderRecord(
                network=NETWORK,
                stage="baseline",
                shot=shot,
                scale=matching.scale,
                **common_facts(encoder, matching.geometry, matching.size, params, data, fold),
            ),
            execution=Execution(device, devices, threads, compiled, memory_mb, live),
        )
