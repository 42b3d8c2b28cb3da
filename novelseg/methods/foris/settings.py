"""Settings of FoRIS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from novelseg.core.settings import Range, SeedNumber, Settings, Share
from novelseg.methods.insid3.settings import Blank


@dataclass(frozen=True)
class ForisSettings(Settings):
    """FoRIS (arXiv 2609.03384): prototypes of the foreground minus the hard background, a gate, and a seed cluster.

    Attributes
    ----------
    positions
        Number of directions of the positional bias that are removed; 0 for none (open).
    blank
        Picture without content that shows the bias (open).
    bias_below
        The bias is removed if the cosine between the mean cell of the supports' object and that of the query is below
        this (0.8).
    prototypes
        Number of prototypes of the object: clusters of the cells of all supports (open).
    temperature
        Temperature of the soft maximum over the similarities to the prototypes (0.07).
    background_weight
        Factor of the similarity to the hard background (0.55).
    hard_share
        Share of the supports' background cells, those most similar to the object, whose mean is the hard background
        (open).
    threshold
        Score at which the gate is one half: from 0, the mean score of the supports' background cells, to 1, that of
        their object cells (open).
    gate
        Width of the sigmoid gate, in units of that difference (open).
    boost
        Relative gain of the gate in the seed cluster (open).
    distance
        Cosine distance at which the clusters of the query's cells stop merging (open).
    region_tau
        Contour strength at which hierarchies are cut, in `foris-regions` (ours).
    seed
        Seed of the first cluster centres.
    """

    positions: Annotated[int, Range(0, 100_000)] = 0
    blank: Blank = "black"
    bias_below: Annotated[float, Range(-1, 1)] = 0.8
    prototypes: Annotated[int, Range(1, 1000)] = 5
    temperature: Annotated[float, Range(1e-3, 1000)] = 0.07
    background_weight: Annotated[float, Range(0, 1000)] = 0.55
    hard_share: Share = 0.1
    threshold: Annotated[float, Range(-10, 10)] = 0.35
    gate: Annotated[float, Range(1e-6, 1000)] = 0.3
    boost: Annotated[float, Range(0, 1000)] = 0.5
    distance: Annotated[float, Range(0, 2)] = 0.7
    region_tau: Share = 0.45
    seed: SeedNumber = 0
