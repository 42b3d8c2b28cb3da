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
SEED_SCORES = TableSpec(
    "seed_results",
    1,
    "join",
    "The table `results` of every training seed, and of their mean.",
    (_TRAINING, *SCORES.columns, *_SPREAD),
    ("training", *SCORES.key),
)
SEED_COMPARISONS = TableSpec(
    "seed_comparisons",
    1,
    "join",
    "The table `comparisons` of every training seed, and of their mean.",
    (_TRAINING, *COMPARISONS.columns, *_SPREAD),
    ("training", *COMPARISONS.key),
)
