"""Reading of episodes from their lists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from novelseg.core.errors import InputError
from novelseg.core.labels import VAL
from novelseg.data.index import Index
from novelseg.formats import tables
from novelseg.formats.episodes import EPISODES
from novelseg.methods.contract import Case

NAME = re.compile(r"seed(\d+)\.tsv")


def read_cases(paths: list[Path], index: Index, fold: int, shot: int) -> list[Case]:
    """Read the episodes of all lists, sorted by seed and episode; a list's seed is in its name, ``seed<n>.tsv``.

    Raises
    ------
    InputError
        If a list has another name, is empty, is of another fold or shot, was drawn from another index, or contains an
        episode that cannot be scored: with another split's images, without its class, or with its query as a support.
    """
    numbers = {name: number for number, name in enumerate(index.ids)}
    novel = set(index.novel(fold).tolist())
    lists: dict[int, list[Case]] = {}
    for path in paths:
        name = NAME.fullmatch(path.name)
        if not name:
            raise InputError(f"{path}: expected a list that `episodes` wrote, named seed<n>.tsv after its seed")
        seed = int(name[1])
        if seed in lists:
            raise InputError(f"{path}: is the second list of seed {seed}; give one list per seed")
        lists[seed] = _read_list(path, seed, numbers)
        for case in lists[seed]:
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
            if fault := _fault(case, index):
                raise InputError(
                    f"{path}: episode {case.episode}: {fault}; correct the episode, or rerun `episodes` with this index"
                )
    return [case for seed in sorted(lists) for case in lists[seed]]


def _read_list(path: Path, seed: int, numbers: dict[str, int]) -> list[Case]:
    """Read one list, sorted by episode."""
    cases = [_case(path, row, seed, numbers) for row in tables.read(path, EPISODES).itertuples(index=False)]
    if not cases:
        raise InputError(f"{path}: contains no episode; rerun `episodes`")
    cases.sort(key=lambda case: case.episode)
    return cases


def _fault(case: Case, index: Index) -> str:
    """Return as a phrase why an episode cannot be scored; empty if it can."""
    images = (case.query, *case.supports)
    if len(set(images)) < len(images):
        name = next(index.ids[image] for image in images if images.count(image) > 1)
        return f"the image '{name}' is there twice, as query and support or as two supports"
    for image in images:
        if index.split[image] != VAL:
            return f"the image '{index.ids[image]}' is in the training list; expected images of the validation list"
        if not 1 <= case.label < index.pixels.shape[1] or not len(index.holds(np.array([image]), case.label)):
            return (
                f"the image '{index.ids[image]}' has fewer than {index.min_object_pixels} px "
                f"(index.min_object_pixels) of class {case.label}"
            )
    return ""


def _case(path: Path, row: Any, seed: int, numbers: dict[str, int]) -> Case:
    episode, query, label, supports = row
    names = [str(query), *str(supports).split()]
    unknown = [name for name in names if name not in numbers]
    if unknown:
        raise InputError(f"{path}: image '{unknown[0]}' is not in the index; rerun `episodes`")
    images = [numbers[name] for name in names]
    return Case(seed, int(episode), images[0], int(label), tuple(images[1:]))
