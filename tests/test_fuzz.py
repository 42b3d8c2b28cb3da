"""A hundred mutations of `tests/fuzz.py`, spread over all readers, in this process; the program reads thousands."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.fuzz import all_targets, shown
from tests.fuzzing.target import FAULTS, OTHER, REFUSED, SAME, Attempts
from tests.makers import Project

SEED, EACH = 0, 3


def test_mutations_are_refused_in_a_line_or_accepted(project: Project, bundle: Path, tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "files")
    targets = all_targets(project, bundle, tmp_path)
    outcomes = [attempts.attempt(target, SEED, number) for target in targets for number in range(EACH)]
    assert len(outcomes) > 100
    assert not [shown(outcome) for outcome in outcomes if outcome.kind in FAULTS]
    counts = Counter(outcome.kind for outcome in outcomes)
    assert counts[REFUSED] > 0.7 * len(outcomes)
    assert counts[SAME] + counts[OTHER] > 0.02 * len(outcomes)
