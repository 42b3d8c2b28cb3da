"""Settings of FoRIS."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.errors import check_ranges
from novelseg.methods.insid3.settings import BLANKS


@dataclass(frozen=True)
class ForisSettings:
    """Settings of FoRIS (arXiv 2609.03384).

    Attributes
    ----------
    positions
        Number of directions of the positional bias that are removed; 0 for none.
    blank
        Picture without content that shows the bias: ``black`` or ``noise``.
    bias_below
        The bias is removed if the cosine between the mean cell of the supports' object and that of the query is below
        this.
    prototypes
        Number of prototypes of the object: clusters of the cells of all supports.
    temperature
        Temperature of the soft maximum over the similarities to the prototypes.
    background_weight
        Factor of the similarity to the hard background.
    hard_share
        Share of the supports' background cells, those most similar to the object, whose mean is the hard background.
    threshold
        Score at which the gate is one half: from 0, the mean score of the supports' background cells, to 1, that of
        their object cells.
    gate
        Width of the sigmoid gate, in units of that difference.
    boost
        Relative gain of the gate in the seed cluster.
    distance
        Cosine distance at which the agglomeration of the query's cells stops, in [0, 2].
    region_tau
        Contour strength at which hierarchies are cut, in [0, 1], in the form with regions.
    seed
        Seed of the first cluster centres.
    """

    positions: int = 0
    blank: str = "black"
    bias_below: float = 0.8
    prototypes: int = 5
    temperature: float = 0.07
    background_weight: float = 0.55
    hard_share: float = 0.1
    threshold: float = 0.35
    gate: float = 0.3
    boost: float = 0.5
    distance: float = 0.7
    region_tau: float = 0.45
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that all values are in range.

        Raises
        ------
        ValueError
            If a value is out of range; the message names the first one.
        """
        ranges = {
            "positions": (0, 100_000),
            "bias_below": (-1, 1),
            "prototypes": (1, 1000),
            "temperature": (1e-3, 1e3),
            "background_weight": (0, 1e3),
            "hard_share": (0, 1),
            "threshold": (-10, 10),
            "gate": (1e-6, 1e3),
            "boost": (0, 1e3),
            "distance": (0, 2),
            "region_tau": (0, 1),
            "seed": (0, (1 << 63) - 1),
        }
        check_ranges(self, ranges)
        if self.blank not in BLANKS:
            raise ValueError(f"blank is '{self.blank}'; expected one of {', '.join(BLANKS)}")
