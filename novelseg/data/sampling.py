"""Sampling of episodes: a query, a class in it, and supports of that class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError, nearest
from novelseg.data.index import Index


@dataclass(frozen=True)
class Episode:
    """A query image, the class to segment in it, and support images; images are given by number in the index."""

    query: int
    label: int
    supports: tuple[int, ...]


def scored_classes(index: Index, fold: int, excluded: list[str]) -> NDArray[np.int64]:
    """Return the novel classes of a fold without the excluded ones (``episodes.exclude_classes``).

    Raises
    ------
    InputError
        If an excluded name is not a class, or no class is left.
    """
    unknown = [name for name in excluded if name not in index.classes]
    if unknown:
        raise InputError(
            f"episodes.exclude_classes names '{unknown[0]}', which is not a class; {nearest(unknown[0], index.classes)}"
        )
    labels = [label for label in index.novel(fold).tolist() if index.classes[label - 1] not in excluded]
    if not labels:
        raise InputError(f"episodes.exclude_classes leaves no novel class in fold {fold}; remove one from the list")
    return np.array(labels, np.int64)


class EpisodeSampler:
    """Sampler of episodes with a uniform query, a uniform class among those present in it, and distinct supports.

    Parameters
    ----------
    index
        The data set.
    images
        Images to draw from.
    classes
        Classes to draw, labels 1…C.
    shot
        Number of supports per episode.
    where
        Name of the list, for messages.

    Raises
    ------
    InputError
        If a class has too few images for the number of supports.
    """

    def __init__(
        self, index: Index, images: NDArray[np.int64], classes: NDArray[np.int64], shot: int, where: str
    ) -> None:
        self._pools = {int(label): index.holds(images, int(label)) for label in classes}
        for label, pool in self._pools.items():
            if len(pool) < shot + 1:
                needed = f"{shot}-shot episodes need {shot + 1}" if shot else "one is needed"
                ways = ["lower index.min_object_pixels"]
                ways += ["lower plan.shots"] * (shot > 1)
                ways += ["list the class under episodes.exclude_classes"] * (where == "validation")
                ways += ["set index.novel_images to keep"] * (where == "training" and index.novel_images == "drop")
                raise InputError(
                    f"class '{index.classes[label - 1]}' has {len(pool)} images of at least "
                    f"{index.min_object_pixels} px in the {where} list, but {needed}; {', or '.join(ways)}"
                )
        self._shot = shot
        self._queries = np.unique(np.concatenate(list(self._pools.values())))
        self._present: dict[int, list[int]] = {int(query): [] for query in self._queries}
        for label, pool in self._pools.items():
            for image in pool.tolist():
                self._present[image].append(label)

    def draw(self, rng: np.random.Generator) -> Episode:
        """Draw one episode."""
        query = int(self._queries[rng.integers(len(self._queries))])
        present = self._present[query]
        label = present[int(rng.integers(len(present)))]
        pool = self._pools[label]
        others = pool[pool != query]
        supports = rng.choice(others, self._shot, replace=False)
        return Episode(query, label, tuple(supports.tolist()))
