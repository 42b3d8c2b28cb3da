"""Training images → the Baseline F_p: an encoder trained by prototype matching alone (A2).

Reads
    ``index``, ``images`` (all shards), a pretrained weight file.
Writes
    a folder: ``weights.safetensors`` (with architecture and scale in its metadata) and ``log.tsv``.
"""

from __future__ import annotations

from pathlib import Path

import torch

from stages.data.index import read_index
from stages.data.sampling import EpisodeSampler
from stages.data.store import ImageStore
from stages.models.encoder import NETWORK, new_encoder
from stages.sections.baseline import Params
from stages.sections.encoder import EncoderParams
from stages.sections.matching import MatchingParams
from stages.training.bank import Bank
from stages.training.batches import EpisodeBatches
from stages.training.learners import MatchingLearner
from stages.training.stage import described, recipe_of, sgd, train_and_write


def run(
    *,
    index: Path,
    images: list[Path],
    weights: Path,
    out: Path,
    fold: int,
    shot: int,
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
    """Train on base-class episodes of ``shot`` supports."""
    data = read_index(index)
    net = new_encoder(encoder, weights)
    pool = data.training_images(fold)
    sampler = EpisodeSampler(data, pool, data.base(fold), shot, "training")
    with ImageStore(images, data) as store:

        def batches(place: torch.device) -> EpisodeBatches:
            bank = Bank(data, pool, store.with_mask, place, memory_mb)
            return EpisodeBatches(bank, sampler, matching, matching.episodes, params.seed, "episode")

        train_and_write(
            learner=MatchingLearner(net, matching.scale),
            network=net,
            batches=batches,
            optimiser=sgd(params),
            params=params,
            precision=encoder.precision,
            recipe=recipe_of("baseline", [index, *images, weights], [params, encoder, matching], fold=fold, shot=shot),
            out=out,
            label=f"baseline fold {fold} {shot}-shot",
            shares=matching.episodes,
            about=described(
                NETWORK,
                encoder,
                matching,
                params,
                data,
                fold,
                {"scale": matching.scale, "stage": "baseline", "shot": shot},
            ),
            device=device,
            devices=devices,
            threads=threads,
            compiled=compiled,
            memory_mb=memory_mb,
            live=live,
        )
