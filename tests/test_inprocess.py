"""The engines asked in this process answer as the real ones do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines import at_rest, dvc, planned, set_values, workflow
from tests.inprocess import changed_for_dvc, command, resting, stale_jobs
from tests.test_house import edit

pytestmark = pytest.mark.engines


def test_asked_in_process_the_engines_answer_as_the_real_ones(mate: Path) -> None:
    assert at_rest(mate)
    assert resting(mate)
    set_values(mate, regions={"tau": 0.5})
    assert stale_jobs(mate) == planned(mate)
    status = dvc(mate, "status")
    assert {line[:-1] for line in status.splitlines() if line.endswith(":") and line[0] != "\t"} == set(
        changed_for_dvc(mate)
    )
    set_values(mate, regions={"tau": 0.45})
    edit(
        mate / "novelseg/report/page.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\n\nUNUSED = 1\n",
    )
    assert stale_jobs(mate) == planned(mate) == {"report": 1}
    refused = workflow(mate, "record", rc=2)
    assert "report/index.html: code of report" in refused
    assert "report/index.html: code of report" in command(mate, "record", rc=2)
