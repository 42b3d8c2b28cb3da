"""Shared makings of the tests: a tiny data set, parameters, the real data where it is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("NOVELSEG_DATA", str(ROOT / ".." / "shared" / "data")))


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of the test's own."""
    return np.random.default_rng(20260101)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or skip."""
    if not DATA.is_dir():
        pytest.skip("needs the real data: set NOVELSEG_DATA to the folder that holds voc-subset and weights")
    return DATA.resolve()
