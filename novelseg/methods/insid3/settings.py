"""Settings of INSID3."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.errors import check_ranges

BLANKS = ("black", "noise")


@dataclass(frozen=True)
class Insid3Settings:
    """Settings of INSID3 (arXiv 2603.28480).

    Attributes
    ----------
    positions
        Number of directions of the positional bias that are removed for comparisons between images; 0 for none.
    blank
        Picture without content that shows the bias: ``black`` or ``noise``.
    distance
        Cosine distance at which the agglomeration of the query's cells stops, in [0, 2].
    keep
        Clusters whose product of similarity to the supports, similarity to the seed, and share of candidate cells is
        above this belong to the object.
    region_tau
        Contour strength at which the query's hierarchy is cut, in [0, 1], in the form with regions.
    """

    positions: int = 0
    blank: str = "black"
    distance: float = 0.4
    keep: float = 0.2
    region_tau: float = 0.3

    def __post_init__(self) -> None:
        """Check that all values are in range.

        Raises
        ------
        ValueError
            If a value is out of range; the message names the first one.
        """
        ranges = {"positions": (0, 100_000), "distance": (0, 2), "keep": (-1, 1), "region_tau": (0, 1)}
        check_ranges(self, ranges)
        if self.blank not in BLANKS:
            raise ValueError(f"blank is '{self.blank}'; expected one of {', '.join(BLANKS)}")
