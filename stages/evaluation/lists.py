"""Episodes as read from their lists."""

from __future__ import annotations

from pathlib import Path

from stages.artifacts import tables
from stages.artifacts.formats.episodes import EPISODES
from stages.core.errors import InputError
from stages.data.index import Index
from stages.evaluation.cases import Case


def read_cases(paths: list[Path], index: Index) -> list[Case]:
    """Episodes of all lists; the seed is the list's name, ``seed<n>.tsv``."""
    numbers = {name: number for number, name in enumerate(index.ids)}
    cases = []
    for path in paths:
        seed = int(path.stem.removeprefix("seed"))
        frame = tables.read(path, EPISODES)
        for row in frame.itertuples(index=False):
            episode, query, label, supports = row
            names = [str(query), *str(supports).split()]
            unknown = [name for name in names if name not in numbers]
            if unknown:
                raise InputError(f"{path}: image '{unknown[0]}' is not in the index; rerun `episodes`")
            found = [numbers[name] for name in names]
            cases.append(Case(seed, int(episode), found[0], int(label), tuple(found[1:])))
    return cases
