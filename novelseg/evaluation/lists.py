"""Reading of episodes from their lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.data.index import Index
from novelseg.formats import tables
from novelseg.formats.episodes import EPISODES
from novelseg.methods.contract import Case

NAME = re.compile(r"seed(\d+)\.tsv")


def read_cases(paths: list[Path], index: Index, fold: int, shot: int) -> list[Case]:
    """Read the episodes of all lists; a list's seed is in its name, ``seed<n>.tsv``.

    Raises
    ------
    InputError
        If a list has another name, is of another fold or shot, or was drawn from another index.
    """
    numbers = {name: number for number, name in enumerate(index.ids)}
    novel = set(index.novel(fold).tolist())
    cases = []
    for path in paths:
        name = NAME.fullmatch(path.name)
        if not name:
            raise InputError(f"{path}: expected a list that `episodes` wrote, named seed<n>.tsv after its seed")
        for row in tables.read(path, EPISODES).itertuples(index=False):
            case = _case(path, row, int(name[1]), numbers)
            if case.label not in novel:
                raise InputError(
                    f"{path}: episode {case.episode} has class {case.label}, which is not novel in fold {fold}; "
                    "give the lists of this fold, or rerun `episodes`"
                )
            if len(case.supports) != shot:
                raise InputError(
                    f"{path}: episode {case.episode} has {len(case.supports)} supports, not {shot}; give the lists "
                    "of this shot"
                )
            cases.append(case)
    return cases


def _case(path: Path, row: Any, seed: int, numbers: dict[str, int]) -> Case:
    episode, query, label, supports = row
    names = [str(query), *str(supports).split()]
    unknown = [name for name in names if name not in numbers]
    if unknown:
        raise InputError(f"{path}: image '{unknown[0]}' is not in the index; rerun `episodes`")
    images = [numbers[name] for name in names]
    return Case(seed, int(episode), images[0], int(label), tuple(images[1:]))
