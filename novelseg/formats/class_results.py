"""Format ``class_results``: a table of scores, with one row per fold, shot, variant and novel class."""

from __future__ import annotations

from novelseg.formats.protocol import PROTOCOL, PROTOCOL_NAMES
from novelseg.formats.tables import Column, TableSpec

CLASS_SCORES = TableSpec(
    "class_results",
    3,
    "report",
    "One row per fold, shot, variant and novel class.",
    (
        *PROTOCOL,
        Column("fold", "int64", "fold", low=0),
        Column("shot", "int64", "number of supports", low=1),
        Column("variant", "str", "variant that made the predictions"),
        Column("class", "str", "class name"),
        Column("iou", "float64", "IoU over all episodes of all seeds, per cent", low=0, high=100),
        Column("episodes", "int64", "number of episodes of the class", low=1),
    ),
    (*PROTOCOL_NAMES, "fold", "shot", "variant", "class"),
)
