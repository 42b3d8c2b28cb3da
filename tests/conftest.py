"""Shared makings of the tests: a tiny data set, parameters, the real data where it is."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import warm

# Everything else is imported where it is used: the process that only hands out tests imports this file too.
if TYPE_CHECKING:
    import numpy as np

    from tests.makers import Project

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("NOVELSEG_DATA", str(ROOT / ".." / "shared" / "data")))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives to the end, modules and tests, and let it look at old objects rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 100)


def pytest_sessionfinish() -> None:
    """End what the tests of this process have started to start commands from."""
    warm.end()


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of the test's own."""
    import numpy as np

    return np.random.default_rng(20260101)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, or skip."""
    if not DATA.is_dir():
        pytest.skip("needs the real data: set NOVELSEG_DATA to the folder that holds voc-subset and weights")
    return DATA.resolve()


def common_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of this run that all processes of the suite share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def one_warm_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the suite's processes share one process that forks commands (`tests.warm`)."""
    warm.share(common_folder(tmp_path_factory))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first of the suite's processes makes, and all of them only read."""
    base = common_folder(factory)
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / f"{name}.made").exists():
            shutil.rmtree(base / name, ignore_errors=True)
            make(base / name)
            (base / f"{name}.made").touch()
    return base / name


WEIGHTS = ROOT / "weights" / "scenes-resnet18-w16.safetensors"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny experiment, run once through every stage; tests only read it."""
    from tests.makers import Project, tiny_values, write_values

    def make(root: Path) -> None:
        root.mkdir()
        write_values(root / "params.yaml", tiny_values())
        Project(root, WEIGHTS).make_all()

    return Project(made_once(tmp_path_factory, "tiny", make), WEIGHTS)


@pytest.fixture(scope="session")
def bundle(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the tiny experiment."""
    from tests.commands import export
    from tests.makers import SPFL

    out = tmp_path_factory.mktemp("bundle") / "tiny.safetensors"
    words = ["--encoder", project.path(SPFL), "--index", project.path("index/index.h5")]
    assert export(project, *words, "--prototypes", project.path("prototypes/fold0.h5"), "--out", out) == 0
    return out


@pytest.fixture
def images_only(tmp_path: Path) -> Project:
    """A fresh tiny project with images and index only, for tests that break things."""
    from tests.makers import Project, tiny_values, write_values

    write_values(tmp_path / "params.yaml", tiny_values())
    made = Project(tmp_path, WEIGHTS)
    made.make_images()
    return made


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team's folders (`tests.engines.new_team`); tests only read them."""
    from tests.engines import new_team

    return made_once(tmp_path_factory, "team", new_team)


@pytest.fixture
def origin(team: Path) -> Path:
    """The team's bare repository."""
    return team / "origin.git"


@pytest.fixture
def pulled(team: Path) -> Path:
    """A clone with everything fetched."""
    return team / "clone"


@pytest.fixture
def mate(pulled: Path, tmp_path: Path) -> Path:
    """A teammate's clone at rest, of the test's own."""
    return shutil.copytree(pulled, tmp_path / "mate", symlinks=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
