"""Episodes, their images by number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Case:
    """An episode; images are numbers, of the index or of whoever decodes them."""

    seed: int
    episode: int
    query: int
    label: int
    supports: tuple[int, ...]


def by_query(cases: list[Case]) -> list[Case]:
    """Episodes of one query image one after another."""
    return sorted(cases, key=lambda case: (case.query, case.seed, case.episode))
