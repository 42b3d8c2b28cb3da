"""Train the encoder F_s jointly on episodes and pseudo labels (SPFL).

F_s starts from the pretrained weights, not from F_p; its decoders are dropped at the end.

Reads
    ``index``, ``images`` (all shards), ``pseudolabels`` (all shards of the fold), a pretrained weight file.
Writes
    a folder: ``weights.safetensors`` and ``log.tsv``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from novelseg.backbones.encoder import NETWORK
from novelseg.core.errors import InputError
from novelseg.core.options import Help
from novelseg.core.random import new_layers
from novelseg.data.bank import Bank
from novelseg.data.batches import EpisodeBatches, ViewGeometry
from novelseg.data.index import read_index
from novelseg.data.labelstore import PseudoLabelStore
from novelseg.data.sampling import EpisodeSampler
from novelseg.data.store import ImageStore
from novelseg.formats.record import EncoderRecord
from novelseg.methods.spfl.augment import Augmentation
from novelseg.methods.spfl.batches import JointBatches, PseudoLabelBatches
from novelseg.methods.spfl.learner import JointLearner
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
from stages.params.augmentation import Augmentation as AugmentationParams
from stages.params.encoder import EncoderParams
from stages.params.matching import MatchingParams
from stages.params.train import Params, TrainingVariant
from stages.training import Execution, common_facts, optimiser_of, recipe_of, train_and_write, trainable_backbone

SINGLE_LEVEL_GAMMA = [1.0, 0.0, 0.0]
VARIANTS = get_args(TrainingVariant)


def run(
    *,
    index: IndexFile,
    images: ImageShards,
    pseudolabels: Annotated[list[Path], Help("all shards of the fold's pseudo labels")],
    weights: Pretrained,
    out: Out,
    fold: Fold,
    shot: Shot,
    variant: Annotated[str, Help("all three levels of pseudo labels, or only level 1", VARIANTS)],
    params: Params,
    augmentation: AugmentationParams,
    encoder: EncoderParams,
    matching: MatchingParams,
    device: Device = "auto",
    devices: Devices = 1,
    threads: Threads = 0,
    compiled: Compiled = 0,
    memory_mb: MemoryMb = 0,
    live: Live = None,
) -> None:
    """Train the variant ``hierarchical`` (all three levels) or ``single-level`` (only level 1)."""
    if variant not in VARIANTS:
        raise InputError(f"--variant is '{variant}'; expected one of {', '.join(VARIANTS)}")
    gamma = params.gamma if variant == "hierarchical" else SINGLE_LEVEL_GAMMA
    data = read_index(index)
    net = trainable_backbone("train", encoder, weights)
    pool = data.training_images(fold)
    sampler = EpisodeSampler(data, pool, data.base(fold), shot, "training")
    with ImageStore(images, data) as store, PseudoLabelStore(pseudolabels, fold) as labels:
        labels.require([data.ids[image] for image in pool])

        def read(image: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            return store.image(image), np.concatenate([store.mask(image)[None], labels.labels(data.ids[image])])

        def batches(torch_device: torch.device) -> JointBatches:
            bank = Bank(data, pool, read, torch_device, memory_mb)
            view = matching.to(ViewGeometry)
            episodes = EpisodeBatches(bank, sampler, view, matching.episodes, params.seed, "episode")
            extra = PseudoLabelBatches(
                bank,
                pool.tolist(),
                augmentation.to(Augmentation),
                size=matching.size,
                count=params.extra_images_of(shot),
                seed=params.seed,
            )
            return JointBatches(episodes, extra)

        with new_layers(params.seed, "decoders"):
            learner = JointLearner(net, matching.scale, labels.clusters, params.decoder_width, gamma)
        train_and_write(
            learner=learner,
            network=net,
            batches=batches,
            optimiser=optimiser_of(params),
            params=params,
            recipe=recipe_of(
                "train",
                [index, *images, *pseudolabels, weights],
                [params, augmentation, encoder, matching],
                fold=fold,
                shot=shot,
                variant=variant,
            ),
            out=out,
            label=f"train fold {fold} {shot}-shot {variant}",
            shares=min(matching.episodes, params.extra_images_of(shot)),
            record=EncoderRecord(
                network=NETWORK,
                stage="train",
                shot=shot,
                variant=variant,
                scale=matching.scale,
                gamma=gamma,
                **common_facts(encoder, matching.geometry, matching.size, params, data, fold),
            ),
            execution=Execution(device, devices, threads, compiled, memory_mb, live),
        )
