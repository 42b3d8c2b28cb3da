"""The wheel: what it contains, what it depends on, and a project beside it that has packages of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from novelseg import __version__
from novelseg.core.extras import EXTRAS

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
LEAN = {"filelock", "numpy", "pillow", "requests", "safetensors", "torch", "tqdm"}
# Package of an extra → the package whose dependency it is.
BROUGHT = {"markupsafe": "jinja2", "werkzeug": "flask"}
# Packages of the pipeline that are run, or that the engines' side alone imports, and what they need to be fast.
NOT_IMPORTED = {"dvc", "pyyaml", "ruamel.yaml.clib", "snakemake", "snakemake-executor-plugin-cluster-generic"}


def pip(*words: object) -> None:
    """Run pip, which must neither ask an index nor say anything."""
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [sys.executable, "-m", "pip", *map(str, words)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone, built from a copy: a build folder left in the clone would add files of earlier code."""
    copy = tmp_path_factory.mktemp("clone")
    for name in ("novelseg", "stages", "workflow", "benchmarks", "tests", "weights"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, copy)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """The wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def requirements(metadata: Message) -> dict[str, set[str]]:
    """Extra, or an empty name → packages that it requires."""
    found: dict[str, set[str]] = {}
    for line in metadata.get_all("Requires-Dist", []):
        package, extra = re.match(r"[\w.-]+", line), re.search(r'extra == "(\w+)"', line)
        assert package is not None
        found.setdefault(extra[1] if extra else "", set()).add(package[0])
    return found


def test_the_wheel_holds_the_library_alone_and_all_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "novelseg").rglob("*") if path.is_file()}
    assert names == {name for name in files if "__pycache__" not in name}
    assert {
        "novelseg/py.typed",
        "novelseg/inference/static/app.js",
        "novelseg/inference/templates/app.html",
        "novelseg/regions/bsds500.json",
        "novelseg/regions/bsds500.safetensors",
        "novelseg/report/templates/page.html",
    } <= names
    assert wheel.name == f"novelseg-{__version__}-py3-none-any.whl"


def test_it_depends_on_what_segmenting_needs(metadata: Message) -> None:
    required = requirements(metadata)
    assert required[""] == LEAN
    assert set(metadata.get_all("Provides-Extra", [])) == {"app", "heic", "regions", "pipeline", "dev"}
    assert metadata["Version"] == __version__
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_messages_name_the_extra_that_installs_a_package(metadata: Message) -> None:
    required, distributions = requirements(metadata), packages_distributions()
    installed: dict[str, set[str]] = {}
    assert required[EXTRAS["pillow_heif"]] == {"pillow-heif"}  # which need not be installed for the tests
    for package, extra in EXTRAS.items():
        if extra == "heic":
            continue
        names = {name.lower() for name in distributions[BROUGHT.get(package, package)]} - NOT_IMPORTED
        assert len(names) == 1, package
        installed.setdefault(extra, set()).update(names)
    assert installed["app"] == required["app"] - {"novelseg"}  # [app] includes [regions]
    assert installed["regions"] == required["regions"]
    assert installed["pipeline"] == required["pipeline"] - {"novelseg"} - NOT_IMPORTED


def test_it_stands_beside_a_project_with_packages_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    installed, project = tmp_path / "installed", tmp_path / "project"
    pip("install", "-q", "--no-deps", "--target", installed, wheel)
    assert {path.name.partition("-")[0] for path in installed.iterdir()} <= {"novelseg", "bin"}
    for name in ("stages", "workflow"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("OWNER = 'the project'\n", encoding="utf8")
    code = """
import sys
import stages, workflow, novelseg
print(stages.OWNER, workflow.OWNER, novelseg.__file__, novelseg.__version__, sep="\\n")
from novelseg.cli.main import main
main(["--version"])
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [
        "the project",
        "the project",
        str(installed / "novelseg/__init__.py"),
        __version__,
        f"novelseg {__version__}",
    ]
