"""A machine with a GPU and little else: the stages that use it run with the few packages that docs/gpu.md names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks import gpu
from stages.provenance.code import closure
from tests.engines import call
from tests.makers import Project

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


def run_bare(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a line of Python in a process that cannot import what such a machine does not have."""
    absent = f"import sys; sys.modules |= dict.fromkeys({ABSENT.split()})"  # as if not installed
    command = [sys.executable, "-c", f"{absent}; {program}", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_proof_on_a_gpu_agrees_with_itself_where_no_engine_is(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--only", "agreement", "--small", "--out", out]
    program = "from benchmarks.gpu import main; sys.exit(main(sys.argv[1:]))"
    found = run_bare(program, *words)
    assert found.returncode == 0, found.stderr
    result = json.loads(out.read_text(encoding="utf8"))
    assert result["passed"]
    figures = {figure["name"]: figure for figure in result["parts"]["agreement"]["figures"]}
    assert {f"{stage}: first loss" for stage in ("baseline", "train", "cam")} < figures.keys()
    assert {"features of regions", "features of objects", "pseudo labels", "mIoU of spfl+srofb"} < figures.keys()
    assert figures["mIoU of spfl"]["bar"] == "≤ 0.05"
    assert "mIoU of cam " in found.stdout


def test_the_proof_continues_and_a_fault_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, measured = tmp_path / "gpu.json", []

    def part(name: str, value: float) -> Iterator[gpu.Figure]:
        measured.append(name)
        yield gpu._at_most(name, value, "mIoU")

    parts = {"a": partial(part, "a", 0.0), "b": partial(part, "b", 0.01), "c": partial(part, "c", float("nan"))}
    monkeypatch.setattr(gpu, "_parts", lambda *_, **__: parts)
    words = ["--device", "cpu", "--out", str(out)]
    assert gpu.main([*words, "--minutes", "-1"]) == 1
    assert measured == []
    assert gpu.main(words) == 1  # what is not a number is no agreement
    assert gpu.main(words) == 1
    assert measured == ["a", "b", "c"]
    printed = capsys.readouterr().out
    assert "a: not begun, since -1 minutes are over; run the same command again" in printed
    assert re.search(r"^c +nan +≤ 0.05  FAIL$", printed, re.M)
    result = json.loads(out.read_text(encoding="utf8"))
    del result["parts"]["c"]
    out.write_text(json.dumps(result), encoding="utf8")
    parts["c"] = partial(part, "c", 0.05)
    assert gpu.main(words) == 0
    out.write_text(json.dumps({**result, "machine": "another"}), encoding="utf8")
    assert gpu.main(words) == 0
    assert measured == [*"abcc", *"abc"]


def test_a_training_that_is_to_be_watched_says_what_it_lacks(project: Project, tmp_path: Path) -> None:
    words = ["baseline", "--params", project.params, *project.data(), "--weights", project.weights]
    words += ["--fold", 0, "--shot", 1, "--out", tmp_path / "out", "--live", tmp_path / "live"]
    # A fork, in which also what has been imported is absent.
    loaded = "*(name for name in sys.modules if name.partition('.')[0] in absent)"
    first = f"import sys\nabsent = {ABSENT.split()}\nsys.modules |= dict.fromkeys([*absent, {loaded}])\n"
    (tmp_path / "first.py").write_text(first)
    printed = call(ROOT, "python", "-m", "stages", *map(str, words), rc=2, RUN_FIRST=str(tmp_path / "first.py"))
    assert "--live needs dvclive, which is not installed here" in printed
