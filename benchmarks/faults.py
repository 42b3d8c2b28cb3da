"""Show when both engines notice faults that used to stop a run after hours: ``python -m benchmarks.faults``.

The built-in scenes are drawn to a folder in VOC's layout, and a project is made of them. Each fault is written to its
``params.yaml`` in turn. Snakemake and ``dvc repro`` must stop with one sentence before the first job; seconds from
start to end, the number of jobs begun, and the sentence are printed. What only the index shows is tried twice: with an
index that is current, and with one that has to be made, after which both must stop at once.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.planning import copy_tracked, environment, timed
from novelseg.data.scenes import CLASSES, SceneSettings, write_voc
from workflow.presets import resolve_preset

ROOT = Path(__file__).parent.parent
SCENES = SceneSettings(seed=0, train=60, val=40, size=96)
ENGINES = {"Snakemake": ("snakemake", "--cores", "1"), "DVC": ("dvc", "repro")}
# Fault → parameters; of the last two, the index knows first.
EARLY: dict[str, dict[str, dict[str, Any]]] = {
    "a list that does not exist": {"images": {"train_list": "trian"}},
    "weights of another architecture": {"encoder": {"arch": "resnet50"}},
    "the title of another preset": {"report": {"protocol": resolve_preset("voc-subset-cpu")["report"]["protocol"]}},
}
INDEXED: dict[str, dict[str, dict[str, Any]]] = {
    "more clusters than objects": {"prototypes": {"clusters": [127, 10, 6]}},
    "too few images for the supports": {"plan": {"shots": [1, 40]}},
}


def _values() -> dict[str, dict[str, Any]]:
    values = resolve_preset("demo")
    lists = {"train_list": "train", "val_list": "val", "classes": list(CLASSES)}
    values["images"].update(source="voc", root="raw", **lists)
    values["report"].update(protocol="scenes in VOC's layout")
    return values


def _set(project: Path, changes: dict[str, dict[str, Any]]) -> None:
    values = {name: {**section, **changes.get(name, {})} for name, section in _values().items()}
    (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf8")


def _stopped(project: Path, engine: str) -> str:
    """Run an engine, which must fail, and return the cells of its row."""
    start = time.perf_counter()
    command = [sys.executable, "-m", *ENGINES[engine]]
    process = subprocess.run(
        command, cwd=project, env=environment(project), capture_output=True, text=True, check=False
    )
    seconds, printed = time.perf_counter() - start, process.stdout + process.stderr
    begun = re.findall(r"^(?:local)?rule (\w+):", printed, re.M)
    sentences = re.findall(r"^(?:error: )(.+)$", printed, re.M)
    if not process.returncode or not sentences:
        raise SystemExit(f"{engine} did not stop with a sentence\n{printed[-3000:]}")
    return f"{engine} | {seconds:.1f} | {', '.join(begun) or 'none'} | {sentences[0]}"


def rows(project: Path) -> Iterator[str]:
    """Yield a row per fault and engine."""
    for fault, changes in EARLY.items():
        _set(project, changes)
        for engine in ENGINES:
            yield f"{fault} | {_stopped(project, engine)}"
    for fault, changes in INDEXED.items():
        _set(project, changes)
        for engine in ENGINES:
            for folder in ("artifacts/index", "provenance/index"):
                shutil.rmtree(project / folder, ignore_errors=True)
            yield f"{fault}, index to be made | {_stopped(project, engine)}"
        _set(project, {})
        timed(project, sys.executable, "-m", "snakemake", "--cores", "1", "index_all")
        _set(project, changes)
        for engine in ENGINES:
            yield f"{fault}, index current | {_stopped(project, engine)}"


def main() -> None:
    """Create the project, provoke every fault, and print the table."""
    with tempfile.TemporaryDirectory() as top:
        project = Path(top) / "project"
        copy_tracked(ROOT, project)
        write_voc(project / "raw", SCENES, range(SCENES.train + SCENES.val))
        for command in (["git", "init", "-q"], ["git", "config", "user.email", "b@b"]):
            subprocess.run(command, cwd=project, check=True)
        print("| fault | engine | s | jobs begun | sentence |\n|---|---|---|---|---|", flush=True)
        for row in rows(project):
            print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
