"""Settings of FSSDINO."""

from __future__ import annotations

from dataclasses import dataclass

from novelseg.core.errors import check_ranges


@dataclass(frozen=True)
class FssdinoSettings:
    """Settings of FSSDINO (arXiv 2602.07550).

    Attributes
    ----------
    object_prototypes, background_prototypes
        Number of prototypes of the class and of the background: clusters of the cells of all supports.
    gram_temperature
        Temperature of the softmax over the query's Gram matrix, by which the scores are averaged; 0 for no refinement.
    reduction
        Side of the blocks of cells between which the Gram matrix is computed.
    region_tau
        Contour strength at which the supports' hierarchies are cut, in [0, 1], in the form with regions.
    seed
        Seed of the first cluster centres.
    """

    object_prototypes: int = 5
    background_prototypes: int = 5
    gram_temperature: float = 0.07
    reduction: int = 2
    region_tau: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that all values are in range.

        Raises
        ------
        ValueError
            If a value is out of range; the message names the first one.
        """
        ranges = {
            "object_prototypes": (1, 1000),
            "background_prototypes": (1, 1000),
            "gram_temperature": (0, 1e3),
            "reduction": (1, 64),
            "region_tau": (0, 1),
            "seed": (0, (1 << 63) - 1),
        }
        check_ranges(self, ranges)
