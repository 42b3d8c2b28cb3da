"""``workflow adopt`` with the real Snakemake: kept where the same comes out, left stale where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import planned, set_values
from tests.inprocess import command, stale_jobs
from tests.test_house import edit

pytestmark = pytest.mark.engines


def test_records_are_adopted_where_the_present_code_gives_the_same(mate: Path) -> None:
    edit(mate / "stages/episodes.py", "    rng = ", "    assert params.count > 0\n    rng = ")
    lists = {path: path.read_bytes() for path in (mate / "artifacts/episodes").rglob("*.tsv")}
    assert "episodes" in stale_jobs(mate)
    printed = command(mate, "adopt")
    assert "episodes: 2 records adopted; 1 jobs were run again and gave the same" in printed
    assert planned(mate) == {}
    assert {path: path.read_bytes() for path in lists} == lists
    # Other code that gives something else, and other parameters, are not adopted.
    edit(mate / "stages/episodes.py", 'numpy_generator(seed, "episodes"', 'numpy_generator(seed + 7, "episodes"')
    assert "episodes: not adopted, artifacts/episodes/fold0/1shot/seed0.tsv differs in column class" in command(
        mate, "adopt"
    )
    assert {path: path.read_bytes() for path in lists} == lists
    set_values(mate, episodes={"count": 5})
    printed = command(mate, "adopt", "episodes")
    assert "episodes: 2 of 2 stale jobs stay stale" in printed
    assert "episodes" in stale_jobs(mate)
    assert "error: there is no stage 'episode'" in command(mate, "adopt", "episode", rc=2)
