"""Formats of the studies: pixel counts of every prediction under each setting, and the curve drawn from them."""

from __future__ import annotations

from novelseg.formats.episode_results import RESULTS
from novelseg.formats.tables import Column, TableSpec

STUDY_ROWS = TableSpec(
    "study_rows",
    2,
    "studies",
    "One row per setting, episode and variant of one fold.",
    (Column("setting", "str", "number of supports, or τ_fg/τ_bg"), *RESULTS.columns),
    ("setting", *RESULTS.key),
    RESULTS.rule,
)
STUDY_CURVE = TableSpec(
    "study_curve",
    2,
    "studies",
    "One row per setting and variant: the mean over folds.",
    (
        Column("setting", "str", "number of supports, or τ_fg/τ_bg"),
        Column("variant", "str", "variant that made the predictions"),
        Column("miou", "float64", "mean IoU over classes, then folds, per cent", low=0, high=100),
        Column("miou_low", "float64", "lower end of the 95 % bootstrap interval over query images", low=0, high=100),
        Column("miou_high", "float64", "upper end of that interval", low=0, high=100),
        Column("episodes", "int64", "number of episodes of all folds", low=1),
    ),
    ("setting", "variant"),
)
