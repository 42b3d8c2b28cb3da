"""Shared makings of the tests: a tiny data set, parameters, the real data where it is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.makers import Project, tiny_values, write_values

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


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny experiment, run once through every stage; tests only read it."""
    root = tmp_path_factory.mktemp("tiny")
    write_values(root / "params.yaml", tiny_values())
    made = Project(root, ROOT / "weights" / "scenes-resnet18-w16.safetensors")
    made.make_all()
    return made


@pytest.fixture
def images_only(tmp_path: Path) -> Project:
    """A fresh tiny project with images and index only, for tests that break things."""
    write_values(tmp_path / "params.yaml", tiny_values())
    made = Project(tmp_path, ROOT / "weights" / "scenes-resnet18-w16.safetensors")
    made.make_images()
    return made
