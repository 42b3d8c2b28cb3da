"""Episodes and pseudo labels → the encoder F_s, trained jointly (SPFL, A7).

Reads
    ``index``, ``images`` (all shards), ``pseudolabels`` (all shards of the fold), a pretrained weight file.
Writes
    a folder: ``weights.safetensors`` and ``log.tsv``. F_s starts from the pretrained weights, not from F_p; the
    decoders are dropped.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from stages.core.errors import InputError
from stages.core.random import new_layers
from stages.data.index import read_index
from stages.data.sampling import EpisodeSampler
from stages.data.store import ImageStore, PseudoLabelStore
from stages.models.encoder import NETWORK, new_encoder
from stages.sections.encoder import EncoderParams
from stages.sections.matching import MatchingParams
from stages.sections.train import Params, TrainingVariant
from stages.training.bank import Bank
from stages.training.batches import EpisodeBatches
from stages.training.joint import JointBatches, PseudoLabelBatches
from stages.training.learners import JointLearner
from stages.training.stage import described, recipe_of, sgd, train_and_write

SINGLE_LEVEL_GAMMA = [1.0, 0.0, 0.0]
VARIANTS = get_args(TrainingVariant)


def run(
    *,
    index: Path,
    images: list[Path],
    pseudolabels: list[Path],
    weights: Path,
    out: Path,
    fold: int,
    shot: int,
    variant: str,
    params: Params,
    encoder: EncoderParams,
    matching: MatchingParams,
    device: str = "auto",
    devices: int = 1,
    threads: int = 0,
    compiled: int = 0,
    memory_mb: int = 0,
    live: Path | None = None,
) -> None:
    """Train the variant ``hierarchical`` (all three levels) or ``single-level`` (level 1 alone)."""
    if variant not in VARIANTS:
        raise InputError(f"--variant is '{variant}'; expected one of {', '.join(VARIANTS)}")
    gamma = params.gamma if variant == "hierarchical" else SINGLE_LEVEL_GAMMA
    data = read_index(index)
    net = new_encoder(encoder, weights)
    pool = data.training_images(fold)
    sampler = EpisodeSampler(data, pool, data.base(fold), shot, "training")
    with ImageStore(images, data) as store, PseudoLabelStore(pseudolabels, fold) as labels:
        labels.require([data.ids[image] for image in pool])

        def read(image: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            return store.image(image), np.concatenate([store.mask(image)[None], labels.labels(data.ids[image])])

        def batches(place: torch.device) -> JointBatches:
            bank = Bank(data, pool, read, place, memory_mb)
            episodes = EpisodeBatches(bank, sampler, matching, matching.episodes, params.seed, "episode")
            return JointBatches(episodes, PseudoLabelBatches(bank, pool.tolist(), params, matching.size))

        with new_layers(params.seed, "decoders"):
            learner = JointLearner(net, matching.scale, labels.clusters, params.decoder_width, gamma)
        train_and_write(
            learner=learner,
            network=net,
            batches=batches,
            optimiser=sgd(params),
            params=params,
            precision=encoder.precision,
            recipe=recipe_of(
                "train",
                [index, *images, *pseudolabels, weights],
                [params, encoder, matching],
                fold=fold,
                shot=shot,
                variant=variant,
            ),
            out=out,
            label=f"train fold {fold} {shot}-shot {variant}",
            shares=min(matching.episodes, params.extra_images),
            about=described(
                *(NETWORK, encoder, matching, params, data, fold),
                {"scale": matching.scale, "stage": "train", "shot": shot, "variant": variant, "gamma": gamma},
            ),
            device=device,
            devices=devices,
            threads=threads,
            compiled=compiled,
            memory_mb=memory_mb,
            live=live,
        )
