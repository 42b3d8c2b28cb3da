"""The index → an episode list of a fold, shot and seed (A9): drawn once, kept as a file.

Reads
    ``index``.
Writes
    ``episodes`` (TSV): query, class and supports of each episode.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stages.artifacts import tables
from stages.artifacts.formats.episodes import EPISODES
from stages.core.random import numpy_generator
from stages.data.index import read_index
from stages.data.sampling import EpisodeSampler, scored_classes
from stages.sections.episodes import Params


def run(*, index: Path, out: Path, fold: int, shot: int, seed: int, params: Params) -> None:
    """Draw the list of a seed from the validation images."""
    data = read_index(index)
    sampler = EpisodeSampler(
        data, data.validation_images(), scored_classes(data, fold, params.exclude_classes), shot, "validation"
    )
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
