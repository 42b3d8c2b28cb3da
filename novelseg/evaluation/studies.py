"""Studies, which evaluate one trained encoder under many test-time settings on the same episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from novelseg.core.errors import InputError
from novelseg.core.progress import say
from novelseg.core.random import numpy_generator
from novelseg.data.index import Index
from novelseg.data.sampling import Episode, EpisodeSampler, scored_classes
from novelseg.methods.contract import Case, Refiner
from novelseg.methods.srofb.refiner import SrofbRefiner
from novelseg.methods.srofb.settings import SrofbSettings

STUDIES = ("supports", "thresholds")
MATCHING, SROFB = "matching", "srofb"


def draw_cases(data: Index, fold: int, most: int, count: int, seed: int, excluded: list[str]) -> list[Case]:
    """Draw episodes with ``most`` supports, of the novel classes that have enough images; print these classes.

    Raises
    ------
    InputError
        If no class has enough images.
    """
    images = data.validation_images()
    novel = scored_classes(data, fold, excluded)
    usable = {label: len(data.holds(images, label)) for label in novel.tolist()}
    enough = [label for label, number in usable.items() if number > most]
    named = ", ".join(f"{data.classes[label - 1]} ({number})" for label, number in usable.items())
    if not enough:
        raise InputError(f"fold {fold}: no novel class has {most + 1} usable validation images: {named}; lower --grid")
    say(f"fold {fold}: {len(enough)} of {len(usable)} novel classes have {most + 1} usable validation images: {named}")
    sampler = EpisodeSampler(data, images, novel[[label in enough for label in usable]], most, "validation")
    rng = numpy_generator(seed, "study", fold, most)
    episodes: list[Episode] = [sampler.draw(rng) for _ in range(count)]
    return [
        Case(seed, number, episode.query, episode.label, episode.supports) for number, episode in enumerate(episodes)
    ]


def study_passes(
    study: str, grid: list[float], cases: list[Case], srofb: SrofbSettings, half: bool, batch: int
) -> Iterator[tuple[str, list[Case], dict[str, Refiner]]]:
    """Yield the passes over the episodes: the setting's name if a pass has only one, the episodes, the refiners."""
    if study == "supports":  # the first k of the same supports
        for k in map(int, sorted(grid)):
            yield (
                str(k),
                [replace(case, supports=case.supports[:k]) for case in cases],
                {SROFB: SrofbRefiner(srofb, with_query=True, half=half, batch=batch)},
            )
        return
    refiners: dict[str, Refiner] = {
        f"{fg:g}/{bg:g}": SrofbRefiner(replace(srofb, tau_fg=fg, tau_bg=bg), with_query=True, half=half, batch=batch)
        for fg, bg in product(grid, grid)
    }
    yield "", cases, refiners
