"""A machine with a GPU and little else: the stages that use it run with the few packages that docs/gpu.md names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages.provenance.code import closure
from tests.makers import ENCODER, Project

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
ABSENT = "snakemake dvc dvclive faiss higra skimage pycocotools workflow"
MODULES = {
    "pillow": "PIL",
    "opencv-python-headless": "cv2",
    "ruamel.yaml": "ruamel",
    "pytorch": "torch",
    "lightning-fabric": "lightning_fabric",
}
# Refuses what such a machine does not have, then runs stages one after another, each given as a line of words.
RUNNER = f"""
import sys
sys.modules |= dict.fromkeys({ABSENT.split()})  # as if not installed
from stages.__main__ import main
for line in sys.stdin.read().splitlines():
    if code := main(line.split("\\t")):
        sys.exit(code)
"""


def documented() -> dict[str, set[str]]:
    """Modules that docs/gpu.md names for each stage."""
    rows = re.findall(r"^\| (`[a-z`, ]+) \| (.+) \|$", (ROOT / "docs/gpu.md").read_text(encoding="utf8"), re.M)
    found: dict[str, set[str]] = {}
    known = {"torch"}
    for stages, packages in rows:
        names = re.split(r", | with ", packages.replace("the same, and ", ""))
        known = known | {MODULES.get(name, name) for name in names}
        found |= dict.fromkeys(re.findall(r"\w+", stages), known)
    return found


def of_regions() -> set[str]:
    """Modules that variants with regions need in addition, where `evaluate` and `studies` run."""
    (line,) = re.findall(r"^Variants with regions .*? need (.+?)\.$", (ROOT / "docs/gpu.md").read_text("utf8"), re.M)
    return {MODULES.get(name, name) for name in re.split(r", | and ", line)}


def imported(stage: str) -> set[str]:
    """Third-party modules that a stage's code imports, wherever it does."""
    found = set()
    for path in (*closure(stage), Path("stages/__main__.py")):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    top = {name.split(".")[0] for name in found}
    return top - set(sys.stdlib_module_names) - {"novelseg", "stages", "dvclive"}


@pytest.mark.parametrize("stage", ["features", "pseudolabels", "evaluate", "studies", "baseline", "train", "cam"])
def test_a_stage_imports_no_more_than_is_documented(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert imported(stage) <= documented()[stage] | (of_regions() if stage in ("evaluate", "studies") else set())


def test_nothing_is_documented_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert documented()["train"] | of_regions() == set.union(*(imported(stage) for stage in documented()))


def test_the_stages_run_where_no_engine_is(project: Project, tmp_path: Path) -> None:
    params = ["--params", project.params]
    labels = [project.path(f"pseudolabels/fold0/{shard}.h5") for shard in range(2)]
    one = ["--index", project.path("index/index.h5"), "--images", project.images()[0], "--fold", 0]
    lines = [
        ["baseline", *params, *project.data(), *("--weights", project.weights), *"--fold 0 --shot 1".split()],
        ["features", *params, *one, "--regions", project.path("regions/0.h5"), "--encoder", project.path(ENCODER)],
        ["pseudolabels", *one, "--encoder", project.path(ENCODER), "--prototypes", project.path("prototypes/fold0.h5")],
        ["train", *params, *project.data(), "--pseudolabels", *labels, "--weights", project.weights],
        ["cam", *params, *project.data(), "--weights", project.weights, "--fold", 0],
        ["evaluate", *params, *project.evaluate_words(tmp_path / "evaluate")[:-2]],
    ]
    lines[3] += "--fold 0 --shot 1 --variant hierarchical".split()
    ends = [[*line, "--out", tmp_path / str(line[0])] for line in lines]
    text = "\n".join("\t".join(map(str, line)) for line in ends)
    found = subprocess.run([sys.executable, "-c", RUNNER], input=text, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert {path.name for path in tmp_path.iterdir()} == {str(line[0]) for line in lines}
    # And a training that is to be watched says what it lacks.
    watched = "\t".join(map(str, [*ends[0], "--live", tmp_path / "live"]))
    found = subprocess.run([sys.executable, "-c", RUNNER], input=watched, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert "--live needs dvclive, which is not installed here" in found.stderr
