"""Draw the episode list of a fold, shot and seed, and write it to a file.

Reads
    ``index``.
Writes
    ``episodes`` (TSV): the query, class and supports of each episode.
"""

from __future__ import annotations

import pandas as pd

from novelseg.core.random import numpy_generator
from novelseg.data.index import read_index
from novelseg.data.sampling import EpisodeSampler, scored_classes
from novelseg.formats import tables
from novelseg.formats.episodes import EPISODES
from stages.options import Fold, IndexFile, Out, Seed, Shot
from stages.params.episodes import Params


def run(*, index: IndexFile, out: Out, fold: Fold, shot: Shot, seed: Seed, params: Params) -> None:
    """Draw the episode list of a seed from the validation images."""
    data = read_index(index)
    sampler = EpisodeSampler(
        data, data.validation_images(), scored_classes(data, fold, params.exclude_classes), shot, "validation"
    )
    rng = numpy_generator(seed, "episodes", fold, shot)
    episodes = [sampler.draw(rng) for _ in range(params.count)]
    frame = pd.DataFrame(
        {
            "episode": range(params.count),
            "query": [data.ids[episode.query] for episode in episodes],
            "class": [episode.label for episode in episodes],
            "supports": [" ".join(data.ids[image] for image in episode.supports) for episode in episodes],
        }
    )
    tables.write(out, EPISODES, frame)
