"""Settings of the training-free heads that their benchmark compares, and the choice among them.

Nothing is trained, so that the classes of a fold are novel only by agreement: the settings of a fold's classes are
chosen on training images with the classes of the other three folds. Hopeless candidates leave the race early: after
each of :data:`HALVINGS` episodes per class, the worse half of a form's candidates is dropped, for each fold by the
classes of the other folds alone. A candidate is measured as long as one fold still has it. The race of a further
encoder may start with what another encoder's race has left for each fold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.untrained import CLASSES
from novelseg.methods.contract import Refiner
from novelseg.methods.refiners import REFINERS, RefinerSettings
from novelseg.methods.variants import HEADS

FOLDS, HALVINGS = 4, (2, 4)
FORMS = tuple(f"{head}{form}" for head in HEADS for form in ("", "-regions"))
COUNTS = ("fg_intersection", "fg_union", "bg_intersection", "bg_union")
Rows = list[dict[str, str]]
Key = tuple[str, int]  # encoder and number of supports


def fold_of(label: int) -> int:
    """Return the fold of a class 1…20: five consecutive classes each."""
    return (label - 1) * FOLDS // CLASSES


def other_classes(fold: int) -> list[int]:
    """Return the classes of the other folds."""
    return [label for label in range(1, CLASSES + 1) if fold_of(label) != fold]


@dataclass(frozen=True)
class Setting:
    """A refinement with settings that differ from its defaults."""

    refinement: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in the rows: the refinement, and what differs."""
        return " ".join([self.refinement, *(f"{key}={value}" for key, value in self.changes.items())])

    @property
    def settings(self) -> RefinerSettings:
        """Its settings."""
        section, settings = self.refinement.removesuffix("-regions"), RefinerSettings()
        if self.changes:
            settings = replace(settings, **{section: replace(getattr(settings, section), **self.changes)})
        return settings

    @property
    def region_tau(self) -> float | None:
        """The contour strength at which it cuts the hierarchies of pictures; None for a form without regions."""
        section = self.refinement.removesuffix("-regions")
        return getattr(self.settings, section).region_tau if section != self.refinement else None

    def refiner(self) -> Refiner:
        """Build the refiner."""
        return REFINERS[self.refinement](self.settings)


def parse(name: str) -> Setting:
    """Return the setting of a name."""
    refinement, *changes = name.split()
    return Setting(refinement, {key: json.loads(value) for key, _, value in (one.partition("=") for one in changes)})


_GRAM, _GATE = {"gram_temperature": 0.07, "reduction": 2}, {"threshold": 0.35, "gate": 0.3}
_SEED = {"boost": 0.2, "distance": 0.4}
_OTHER: tuple[dict[str, Any], ...] = ({}, {"positions": 20}, {"prototypes": 2}, {"hard_share": 0.3})
# Candidates of each form; what a paper gives is among them.
VARIED: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "fssdino": (
        {"gram_temperature": 0.0},
        *({**_GRAM, "gram_temperature": temperature} for temperature in (0.03, 0.07, 0.15)),
        {**_GRAM, "object_prototypes": 2},
        {**_GRAM, "object_prototypes": 10, "background_prototypes": 10},
    ),
    "fssdino-regions": tuple({**_GRAM, "region_tau": tau} for tau in (0.2, 0.3, 0.45, 0.7)),
    "insid3": (
        {},
        *({"distance": distance, "keep": 0.1} for distance in (0.4, 0.5, 0.6, 0.7)),
        *({"distance": 0.6, "keep": keep} for keep in (0.05, 0.2)),
        {"distance": 0.6, "keep": 0.1, "positions": 20},
    ),
    "insid3-regions": (
        *({"region_tau": tau, "keep": 0.1} for tau in (0.2, 0.3, 0.45)),
        {"region_tau": 0.3, "keep": 0.05},
    ),
    "foris": (
        {"threshold": 0.5, "gate": 0.1, **_SEED},
        {"threshold": 0.35, "gate": 0.1, **_SEED},
        {"threshold": 0.2, "gate": 0.1, **_SEED},
        {**_GATE, **_SEED},
        *({**_GATE, "boost": 0.5, "distance": distance} for distance in (0.6, 0.7)),
        *({**_GATE, **_SEED, "boost": 0.0, **other} for other in _OTHER),
    ),
    "foris-regions": tuple({**_GATE, "boost": 0.5, "region_tau": tau} for tau in (0.3, 0.45)),
}


def candidates(form: str) -> list[Setting]:
    """Return the settings of a form that ``choose`` compares."""
    return [Setting(form, changes) for changes in VARIED[form]]


class Race:
    """What the candidates of one encoder have reached on training images so far, and which of them are left.

    Parameters
    ----------
    shots
        The numbers of supports that count; a score is a mean over them.
    first
        Race of another encoder, which has dropped candidates already.
    """

    def __init__(self, shots: Sequence[int], first: Race | None = None) -> None:
        self._shots, self._first = tuple(shots), first
        # Intersection and union by number of supports, setting and class, then by episode.
        self._counts: dict[tuple[int, str, int], dict[int, tuple[int, int]]] = {}

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows of episodes."""
        for row in rows:
            episodes = self._counts.setdefault((int(row["shots"]), row["setting"], int(row["class"])), {})
            episodes[int(row["episode"])] = int(row[COUNTS[0]]), int(row[COUNTS[1]])

    def score(self, name: str, labels: Sequence[int], most: int | None = None) -> float | None:
        """Return the mean IoU of a setting over some classes, in percent.

        With ``most``, it is that of the first ``most`` episodes of each class, and None as long as one is missing.
        """
        parts = []
        for shots in self._shots:
            for label in labels:
                known = self._counts.get((shots, name, label), {})
                episodes = known.keys() if most is None else range(most)
                if not episodes or not known.keys() >= set(episodes):
                    return None
                parts.append(100 * sum(known[one][0] for one in episodes) / sum(known[one][1] for one in episodes))
        return sum(parts) / len(parts)

    def left(self, form: str, fold: int) -> list[str]:
        """Return the candidates of a form that are still left for the classes of a fold, by the other folds' classes.

        At least two remain, so that the choice rests on all episodes.
        """
        names = self._first.left(form, fold) if self._first else [one.name for one in candidates(form)]
        labels = other_classes(fold)
        for most in HALVINGS:
            scores = {name: self.score(name, labels, most) for name in names}
            known = {name: score for name, score in scores.items() if score is not None}
            if len(known) < len(names):
                break
            names = sorted(names, key=lambda name: -known[name])[: max(2, -(-len(names) // 2))]
        return names

    def running(self, form: str) -> list[Setting]:
        """Return the candidates of a form that are left for at least one fold, in their order."""
        left = {name for fold in range(FOLDS) for name in self.left(form, fold)}
        return [one for one in candidates(form) if one.name in left]

    def choice(self, form: str, fold: int) -> str:
        """Return the best of the candidates that are left for the classes of a fold, by the other folds' classes."""
        scores = {name: self.score(name, other_classes(fold)) for name in self.left(form, fold)}
        known = {name: score for name, score in scores.items() if score is not None}
        if not known:
            raise SystemExit(f"there are no rows of {form} in each class of the folds other than {fold}: measure more")
        order = [one.name for one in candidates(form) if one.name in known]  # the first of equal ones is chosen
        return max(order, key=lambda name: known[name])


def race_of(groups: Mapping[Key, Rows], first: Race | None = None) -> Race:
    """Return the race of one encoder, given its rows on training images by number of supports."""
    race = Race([shots for _, shots in groups], first)
    for rows in groups.values():
        race.add(rows)
    return race


def choose(groups: Mapping[Key, Rows], first: Race | None = None) -> dict[str, list[str]]:
    """Choose the settings of an encoder, by form and fold.

    Parameters
    ----------
    groups
        Rows of the encoder on training images.
    first
        Race of another encoder that its own began with.
    """
    race = race_of(groups, first)
    return {form: [race.choice(form, fold) for fold in range(FOLDS)] for form in FORMS}
