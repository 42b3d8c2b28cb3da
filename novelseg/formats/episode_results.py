"""Format ``episode_results``: a table of pixel counts, with one row per seed, episode and variant."""

from __future__ import annotations

import pandas as pd

from novelseg.formats.tables import Column, TableSpec


def pixels_fault(rows: pd.DataFrame) -> str:
    """Return as a phrase which pixel counts contradict each other; empty if they do not."""
    for side in ("fg", "bg"):
        if (rows[f"{side}_intersection"] > rows[f"{side}_union"]).any():
            return f"has an intersection that is larger than its union ({side})"
    return ""


RESULTS = TableSpec(
    "episode_results",
    2,
    "evaluate",
    "One row per seed, episode and variant: the pixel counts from which every score is computed.",
    (
        Column("seed", "int64", "seed of the episode list", low=0),
        Column("episode", "int64", "number of the episode", low=0),
        Column("variant", "str", "variant that made the prediction"),
        Column("query", "str", "query image id"),
        Column("class", "int64", "class 1…C", low=1),
        Column("fg_intersection", "int64", "pixels that are foreground in mask and prediction", low=0),
        Column("fg_union", "int64", "pixels that are foreground in mask or prediction", low=0),
        Column("bg_intersection", "int64", "pixels that are background in mask and prediction", low=0),
        Column("bg_union", "int64", "pixels that are background in mask or prediction", low=0),
    ),
    ("seed", "episode", "variant"),
    pixels_fault,
)
