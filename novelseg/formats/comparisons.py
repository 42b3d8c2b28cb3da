"""Format ``comparisons``: a table of the gain of each variant over another, with paired intervals."""

from __future__ import annotations

from novelseg.formats.protocol import PROTOCOL, PROTOCOL_NAMES
from novelseg.formats.tables import Column, TableSpec

COMPARISONS = TableSpec(
    "comparisons",
    2,
    "report",
    "Gain of each component: one row per fold, shot and pair of variants scored on the same episodes.",
    (
        *PROTOCOL,
        Column("fold", "str", "fold, or the mean over the listed folds"),
        Column("shot", "int64", "number of supports", low=1),
        Column("variant", "str", "variant with the component"),
        Column("reference", "str", "variant without it"),
        Column("gain", "float64", "mIoU of the variant minus that of the reference, points"),
        Column("gain_low", "float64", "lower end of the 95 % paired bootstrap interval over query images"),
        Column("gain_high", "float64", "upper end of that interval"),
        Column("better", "float64", "share of bootstrap samples in which the variant is better", low=0, high=1),
    ),
    (*PROTOCOL_NAMES, "fold", "shot", "variant", "reference"),
)
