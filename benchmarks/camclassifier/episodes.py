"""Episodes, their maps and predictions, and the measures of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.camclassifier.cache import CPU, Cache
from novelseg.core.labels import VOID, binary
from novelseg.core.random import key_to_seed, numpy_generator
from novelseg.data.sampling import EpisodeSampler
from novelseg.evaluation.scoring import count_many
from novelseg.methods.cam.equations import (
    map_weights,
    next_of_another_class,
    normalise,
    prior_map,
    shuffle,
)
from novelseg.methods.cam.network import CamNetwork
from novelseg.methods.contract import Case
from novelseg.ops.counts import COUNTS
from novelseg.ops.draws import to_keys

SUPPORTS = ("own", "other", "uniform", "shuffled")
DRAWS = 2000


def episodes_of(
    cache: Cache, images: NDArray[np.int64], labels: NDArray[np.int64], count: int, *key: int | str
) -> list[Case]:
    """Draw 1-shot episodes."""
    sampler, rng = EpisodeSampler(cache.voc.index, images, labels, 1, "list"), numpy_generator(*key)
    drawn = [sampler.draw(rng) for _ in range(count)]
    return [Case(0, number, one.query, one.label, one.supports) for number, one in enumerate(drawn)]


def area_under_curve(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the probability that a cell of the object is brighter than another one; ties count one half."""
    ranks = pd.Series(values).rank().to_numpy()
    inside = int(truth.sum())
    return float((ranks[truth].sum() - inside * (inside + 1) / 2) / (inside * (len(truth) - inside)))


class Episodes:
    """Episodes with everything that the maps are measured with."""

    def __init__(self, cache: Cache, cases: list[Case]) -> None:
        self.cache, self.cases = cache, cases
        row = {member: number for number, member in enumerate(cache.members)}
        self.supports = torch.tensor([row[case.supports[0], case.label] for case in cases])
        self.others = torch.tensor(next_of_another_class([case.label for case in cases]))
        self.keys = to_keys([key_to_seed("cam", case.seed, case.episode) for case in cases], CPU)
        self.masks = {case.query: torch.from_numpy(cache.voc.mask(case.query)) for case in cases}
        self.squares = {case.query: cache.mask(case.query) for case in cases}
        self.truths = [self._cell_truth(case) for case in cases]

    def _cell_truth(self, case: Case) -> NDArray[np.uint8]:
        """Return the labels of the query's cells: 1 the class, 0 the rest, 255 void."""
        mask = torch.from_numpy(binary(self.squares[case.query].numpy(), case.label))
        cells = (self.cache.features.shape[2], self.cache.features.shape[3])
        labels: NDArray[np.uint8] = self.cache.encoder.grid.labels_at_cells(mask, cells).numpy()
        return labels

    @torch.inference_mode()
    def maps(self, network: CamNetwork) -> Tensor:
        """Compute the known classes' maps in the query of every episode, (E, n, h, w)."""
        return torch.cat([network.maps(self.cache.query([case.query])) for case in self.cases])

    @torch.inference_mode()
    def priors(self, network: CamNetwork, maps: Tensor, support: str, weighting: str = "scores") -> Tensor:
        """Compute the map of every episode, (E, h, w), in [0, 1]."""
        taps = self.cache.taps[network.pooling, network.relu]
        scores = network.scores_of_pooled(taps[self.supports])
        if support == "other":
            scores = scores[self.others]
        elif support == "uniform":
            scores = torch.ones_like(scores)
        priors = normalise(prior_map(maps, map_weights(scores, weighting)))
        if support == "shuffled":
            priors = shuffle(priors, self.keys)
        return priors

    def curves(self, priors: Tensor) -> NDArray[np.float64]:
        """Return the area under the curve of each map; NaN where a query has no cell of one side."""
        values = []
        for truth, prior in zip(self.truths, priors, strict=True):
            known, inside = truth != VOID, truth == 1
            both = inside.any() and (known & ~inside).any()
            values.append(area_under_curve(prior.numpy()[known], inside[known]) if both else np.nan)
        return np.array(values)

    def counts(self, logits: Iterable[Tensor], factor: int) -> NDArray[np.int64]:
        """Count the pixels (E, 4) of predictions that are ``factor`` times finer than the features."""
        grid = self.cache.encoder.grid.finer(factor) if factor > 1 else self.cache.encoder.grid
        rows = []
        for case, one in zip(self.cases, logits, strict=True):
            mask = torch.from_numpy(binary(self.masks[case.query].numpy(), case.label))
            rows.append(count_many(one[None], mask[None], grid)[0].numpy())
        return np.stack(rows)

    @torch.inference_mode()
    def segmented(self, network: CamNetwork, support: str) -> Iterator[Tensor]:
        """Yield what the segmentation branch makes of the maps: foreground minus background."""
        priors = self.priors(network, self.maps(network), support)
        for number, case in enumerate(self.cases):
            part = slice(number, number + 1)
            logits = network.segment(self.cache.query([case.query]), priors[part], self.keys[part])[0]
            yield logits[1] - logits[0]


def frame_of(episodes: Episodes, counts: NDArray[np.int64], **columns: Any) -> pd.DataFrame:
    """Build rows of pixel counts, one per episode."""
    cases = episodes.cases
    frame = pd.DataFrame(
        {
            "episode": [case.episode for case in cases],
            "query": [episodes.cache.voc.ids[case.query] for case in cases],
            "class": [case.label for case in cases],
        }
    )
    for place, name in enumerate(COUNTS):
        frame[name] = counts[:, place]
    for place, (name, value) in enumerate(columns.items()):
        frame.insert(place, name, value)
    return frame


def class_mean(values: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean over classes of the mean over episodes."""
    return float(np.mean([np.nanmean(values[labels == label]) for label in np.unique(labels)]))


def paired_interval(values: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval over episodes of :func:`class_mean`."""
    rng = np.random.default_rng(0)
    means = []
    for label in np.unique(labels):
        own = values[labels == label]
        own = own[~np.isnan(own)]
        means.append(own[rng.integers(len(own), size=(DRAWS, len(own)))].mean(1))
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return float(low), float(high)
