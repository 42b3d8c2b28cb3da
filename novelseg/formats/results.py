"""Format ``results``: a table of scores, with one row per fold, shot and variant."""

from __future__ import annotations

from novelseg.formats.protocol import PROTOCOL, PROTOCOL_NAMES
from novelseg.formats.tables import Column, TableSpec

SCORES = TableSpec(
    "results",
    3,
    "report",
    "One row per fold, shot and variant.",
    (
        *PROTOCOL,
        Column("fold", "str", "fold, or the mean over the listed folds"),
        Column("shot", "int64", "number of supports", low=1),
        Column("variant", "str", "variant that made the predictions"),
        Column("unscored", "str", "novel classes left out (`episodes.exclude_classes`), separated by commas"),
        Column("miou", "float64", "mean IoU over the fold's novel classes, per cent", low=0, high=100),
        Column("miou_std", "float64", "standard deviation over seeds, points"),
        Column("miou_low", "float64", "lower end of the 95 % bootstrap interval", low=0, high=100),
        Column("miou_high", "float64", "upper end of that interval", low=0, high=100),
        Column("fb_iou", "float64", "mean of foreground and background IoU, class-agnostic, per cent", low=0, high=100),
        Column("fb_iou_std", "float64", "standard deviation over seeds, points"),
        Column("episodes", "int64", "number of scored episodes of all seeds", low=1),
        Column("seeds", "int64", "number of seeds", low=1),
        Column("parameters", "int64", "number of parameters of the network and of the online classifier", low=0),
    ),
    (*PROTOCOL_NAMES, "fold", "shot", "variant"),
)
