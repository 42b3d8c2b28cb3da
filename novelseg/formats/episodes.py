"""Format ``episodes``: a table that lists the query, class and supports of each episode."""

from __future__ import annotations

from novelseg.formats.tables import Column, TableSpec

EPISODES = TableSpec(
    "episodes",
    2,
    "episodes",
    "One row per episode of a fold, shot and seed.",
    (
        Column("episode", "int64", "number of the episode", low=0),
        Column("query", "str", "query image id"),
        Column("class", "int64", "class 1…C to segment", low=1),
        Column("supports", "str", "support image ids, separated by spaces"),
    ),
    ("episode",),
)
