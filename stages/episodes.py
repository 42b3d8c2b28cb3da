"""The index → an episode list of a fold, shot and seed (A9): drawn once, kept as a file.

Reads
    ``index``.
Writes
    ``episodes`` (TSV): query, class and supports of each episode.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from stages.artifacts import tables
from stages.artifacts.formats.episodes import EPISODES
from stages.core.errors import InputError
from stages.core.params import nearest
from stages.core.random import numpy_generator
from stages.data.index import Index, read_index
from stages.data.sampling import EpisodeSampler
from stages.sections.episodes import Params


def _classes(data: Index, fold: int, params: Params) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    unknown = [name for name in params.exclude_classes if name not in data.classes]
    if unknown:
        raise InputError(
            f"episodes.exclude_classes names '{unknown[0]}', which is no class; {nearest(unknown[0], data.classes)}"
        )
    kept = [label for label in data.novel(fold).tolist() if data.classes[label - 1] not in params.exclude_classes]
    if not kept:
        raise InputError(f"episodes.exclude_classes leaves no novel class in fold {fold}; take one out of the list")
    return np.array(kept, np.int64)


def run(*, index: Path, out: Path, fold: int, shot: int, seed: int, params: Params) -> None:
    """Draw the list of a seed from the validation images."""
    data = read_index(index)
    sampler = EpisodeSampler(data, data.validation_images(), _classes(data, fold, params), shot, "validation")
    rng = numpy_generator(seed, "episodes", fold, shot)
    drawn = [sampler.draw(rng) for _ in range(params.count)]
    frame = pd.DataFrame(
        {
            "episode": range(params.count),
            "query": [data.ids[episode.query] for episode in drawn],
            "class": [episode.label for episode in drawn],
            "supports": [" ".join(data.ids[image] for image in episode.supports) for episode in drawn],
        }
    )
    tables.write(out, EPISODES, frame)
