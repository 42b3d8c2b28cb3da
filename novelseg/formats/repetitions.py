"""Formats ``seed_results`` and ``seed_comparisons``: the result tables of trainings with several seeds."""

from __future__ import annotations

from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.results import SCORES
from novelseg.formats.tables import Column, TableSpec

ALL = "all"
_TRAINING = Column("training", "str", "training seed, or `all` for the mean over them, whose intervals are over both")
_SPREAD = (
    Column("training_std", "float64", "standard deviation between training seeds (n − 1), points; only for `all`"),
    Column("trainings", "int64", "number of training seeds in the row", low=1),
)


def _with_seeds(name: str, one: TableSpec) -> TableSpec:
    """Return the format of a result table with a column for the training seed."""
    doc = f"The table `{one.name}` of every training seed, and of their mean."
    return TableSpec(name, 1, "join", doc, (_TRAINING, *one.columns, *_SPREAD), ("training", *one.key))


SEED_SCORES = _with_seeds("seed_results", SCORES)
SEED_COMPARISONS = _with_seeds("seed_comparisons", COMPARISONS)
