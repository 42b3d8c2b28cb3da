"""Run the whole pipeline on a small random vision transformer under both engines, and compare what they make.

``python -m benchmarks.vit_pipeline --data $NOVELSEG_DATA/voc-subset --work DIR --out docs/results/vit-pipeline.md``

The network has patches of 14 px, registers, and random weights in a file of DINOv2's layout. One copy of the project is
run by Snakemake and one by DVC, on a few images of the VOC subset: first with the last blocks trained, then with
``encoder.train: none``. The page lists the jobs and seconds, and says whether the artifacts are the same bytes and both
engines are at rest afterwards. Both use one core. An interrupted run continues, and the page then has the jobs and
seconds of its last part. ``--arch dinov2-vits14 --train none`` does the same at a published network's true shapes, with
random weights and its preset's own layers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from novelseg.backbones.designs import VITS, ViTDesign
from novelseg.backbones.vit import ViT
from novelseg.core.files import digest
from workflow.plan import READS
from workflow.presets import resolve_preset

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Network:
    """A network with random weights: its name and design, and what differs from the preset's section ``encoder``."""

    arch: str
    design: ViTDesign
    changes: dict[str, Any]


SMALL = Network("vit-tiny14-reg", ViTDesign(14, 48, 3, 4, registers=4), {"layers": [2, 3]})
SIDE = 350  # px; smaller than the images of 375 px, so that they are reduced
LISTS, CLASSES, LEAST = ("train", "val"), 20, 1152
CHANGES: dict[str, dict[str, Any]] = {
    "plan": {"folds": [0], "shots": [1], "seeds": [0, 1]},
    "images": {"shards": 2},
    "encoder": {"precision": "fp32", "side": SIDE},
    "matching": {"geometry": "resize", "size": 127, "episodes": 2},
    "baseline": {"iterations": 60, "decay_every": 40},
    "prototypes": {"clusters": [8, 5, 3], "restarts": 2},
    "train": {"iterations": 60, "decay_every": 40, "extra_images": 4, "decoder_width": 16},
    "cam": {
        **{"iterations": 60, "decay_every": 20, "classifier_iterations": 40, "classifier_accuracy": 0.0, "size": 127},
        **{"episodes": 2, "objects": 4, "deconv_width": 8},
    },
    "episodes": {"count": 30},
    "evaluate": {"examples": 4},
    "report": {
        "images": 2,
        "episodes": 2,
        "crops": 2,
        "gallery_images": 40,
        "bootstrap": 200,
        "protocol": "random ViT",
    },
}
MODES: dict[str, int | str] = {"2": 2, "4": 4, "none": "none"}
ENGINES = ("snakemake", "dvc")
SAME = ("regions", "baseline", "features", "prototypes", "pseudolabels", "train", "cam", "episodes", "evaluate")


def select(data: Path, target: Path, per_class: Mapping[str, int]) -> None:
    """Copy some images of each class and list of a VOC folder, with masks and lists."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for name, wanted in per_class.items():
        counts, chosen = np.zeros(CLASSES + 1, np.int64), []
        for image in (data / f"ImageSets/Segmentation/{name}.txt").read_text(encoding="utf8").split():
            with Image.open(data / f"SegmentationClass/{image}.png") as mask:
                pixels = np.bincount(np.asarray(mask).reshape(-1), minlength=256)[: CLASSES + 1]
            large = np.flatnonzero(pixels >= LEAST)
            large = large[large > 0]
            if (counts[large] < wanted).any():
                counts[large] += 1
                chosen.append(image)
        for image in chosen:
            shutil.copy(data / f"JPEGImages/{image}.jpg", target / "JPEGImages")
            shutil.copy(data / f"SegmentationClass/{image}.png", target / "SegmentationClass")
        (target / f"ImageSets/Segmentation/{name}.txt").write_text("".join(f"{image}\n" for image in chosen))


def write_weights(path: Path, design: ViTDesign) -> None:
    """Write random weights in DINOv2's layout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(14)
        torch.save(ViT(design).state_dict(), path)


def values(work: Path, network: Network, train: int | str) -> dict[str, Any]:
    """Return the parameters of a run."""
    sections = resolve_preset("voc-subset-dinov2")
    for section, entries in CHANGES.items():
        sections[section].update(entries)
    sections["images"]["root"] = str((work / "voc").resolve())
    sections["encoder"].update(network.changes, arch=network.arch, train=train)
    sections["encoder"]["weights"] = str((work / "random.pth").resolve())
    return sections


def call(project: Path, *words: str) -> str:
    """Run a module's command in a project and return what it printed."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "NOVELSEG_DATA"},
        "PYTHONPATH": str(project),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", *words]
    process = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(
            f"{' '.join(words)}: exit code {process.returncode}\n{(process.stdout + process.stderr)[-4000:]}"
        )
    return process.stdout + process.stderr


def new_project(project: Path, network: Network) -> None:
    """Copy the project, add the network to its designs if it is none of them, and make it a git repository."""
    if (project / ".git").exists():
        return
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    (project / "dvc.lock").unlink(missing_ok=True)
    profile = project / "profiles/default/config.yaml"  # of both engines; threads can change the last digit
    profile.write_text(profile.read_text(encoding="utf8").replace("cores: all", "cores: 1"), encoding="utf8")
    if network.arch not in VITS:
        with (project / "novelseg/backbones/designs.py").open("a", encoding="utf8") as file:
            file.write(f"\nVITS[{network.arch!r}] = {network.design!r}\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "copy")  # DVCLive requires a commit


def use(project: Path, sections: dict[str, Any]) -> None:
    """Write the parameter file."""
    (project / "params.yaml").write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf8")


def jobs(printed: str) -> dict[str, int]:
    """Return the jobs by rule that Snakemake has run in all of its runs."""
    ran = re.findall(r"^(?:local)?rule (\w+):$", printed, re.MULTILINE)
    return {stage: ran.count(stage) for stage in READS if stage in ran}


def artifacts(project: Path) -> dict[str, str]:
    """Return the digests of the artifacts that do not depend on time, by path."""
    files = [path for stage in SAME for path in sorted((project / "artifacts" / stage).rglob("*")) if path.is_file()]
    files += sorted(path for path in (project / "report").rglob("*") if path.is_file())
    return {path.relative_to(project).as_posix(): digest(path) for path in files if path.name[0] != "."}


def finished(project: Path, engine: str, sections: dict[str, Any]) -> dict[str, Any]:
    """Run an engine and return its jobs, the digests of what it has made, and whether both engines are at rest."""
    use(project, sections)
    if engine == "snakemake":
        call(project, "workflow", "prune")
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if engine == "snakemake":
        printed = call(project, "snakemake") + call(project, "workflow", "record")
    else:
        printed = call(project, "dvc", "repro")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "jobs": jobs(printed),
        "seconds": time.perf_counter() - start,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "files": artifacts(project),
        "table": call(project, "workflow", "table"),
        **at_rest(project),
        "clone": cloned(project) if engine == "snakemake" else {},
    }


def at_rest(project: Path) -> dict[str, bool]:
    """Return whether Snakemake and DVC have nothing to do."""
    idle = "Nothing to be done" in call(project, "snakemake", "-n")
    return {"idle": idle, "clean": "Data and pipelines are up to date" in call(project, "dvc", "status")}


def cloned(project: Path) -> dict[str, bool]:
    """Publish the artifacts to a folder, clone and pull, and return whether both engines are at rest in the clone."""
    remote, clone = project.parent / "shared", project.parent / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    call(project, "dvc", "remote", "add", "--force", "--default", "shared", str(remote.resolve()))
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "run")
    call(project, "workflow", "push")
    git(project.parent, "clone", "-q", project.name, clone.name)
    call(clone, "workflow", "pull")
    return at_rest(clone)


def git(folder: Path, *words: str) -> None:
    """Run git."""
    who = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True)


def run(work: Path, network: Network, mode: str) -> Iterator[str]:
    """Run both engines in one mode and yield lines of the page."""
    results = {}
    sections = values(work, network, MODES[mode])
    for engine in ENGINES:
        path = work / f"{engine}-{mode}.json"
        if not path.exists():  # a finished run is not started again
            new_project(work / engine, network)
            path.write_text(json.dumps(finished(work / engine, engine, sections)), encoding="utf8")
        results[engine] = json.loads(path.read_text(encoding="utf8"))
        print(mode, engine, results[engine]["jobs"], flush=True)
    first, second = (results[engine]["files"] for engine in ENGINES)
    differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    yield from ("", f"## `encoder.train: {mode}`", "", "| stage | jobs, Snakemake | jobs, DVC |", "|---|---|---|")
    for stage in READS:
        yield f"| `{stage}` | {' | '.join(str(results[engine]['jobs'].get(stage, 0)) for engine in ENGINES)} |"
    yield ""
    for engine, result in results.items():
        total = sum(result["jobs"].values())
        yield f"* {engine}: {total} jobs, {result['seconds']:.0f} s, {result['cpu']:.0f} s of CPU time."
    yield f"* Artifacts and report files compared: {len(first)}; different bytes: {', '.join(differing) or 'none'}."
    states = {f"After the run by {engine}": result for engine, result in results.items()}
    states["In a clone, after `python -m workflow pull`"] = results["snakemake"]["clone"]
    for where, state in states.items():
        idle, clean = "nothing" if state["idle"] else "JOBS", "clean" if state["clean"] else "NOT CLEAN"
        yield f"* {where}: `snakemake -n` has {idle} to do, `dvc status` is {clean}."
    yield from ("", "```", *results["snakemake"]["table"].splitlines(), "```")


def page(work: Path, data: Path, network: Network, modes: list[str], per_class: Mapping[str, int]) -> str:
    """Run everything and return the page."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "voc").exists():
        select(data, work / "voc.part", per_class)
        (work / "voc.part").rename(work / "voc")
        write_weights(work / "random.pth", network.design)
    counts = [len((work / f"voc/ImageSets/Segmentation/{name}.txt").read_text().split()) for name in per_class]
    design, layers = network.design, network.changes.get("layers")
    of = "the last two blocks" if layers else "the last block"
    title = "a small random vision transformer" if network is SMALL else f"{network.arch} with random weights"
    command = "python -m benchmarks.vit_pipeline --data $NOVELSEG_DATA/voc-subset --work DIR"
    chosen = "" if network is SMALL else f"--arch {network.arch} --train {' '.join(modes)} "
    chosen += f"--per-class {' '.join(map(str, per_class.values()))}"
    lines = [
        f"# The pipeline on {title}",
        "",
        f"A ViT with patches of {design.patch} px, {design.channels} channels, {design.depth} blocks and "
        f"{design.registers} registers; features of {of}, images reduced",
        f"to {SIDE} px; {counts[0]} training and {counts[1]} validation images of the VOC subset, fold 0, 1-shot. The "
        "weights are random: **the",
        "scores say nothing about vision transformers**. The page shows which stages run under both engines, what they",
        "cost on one core of a shared machine, and whether they give the same bytes.",
        "",
        "```",
        f"{command} \\",
        f"  {chosen} --out FILE.md",
        "```",
    ]
    for mode in modes:
        lines += run(work, network, mode)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="VOC folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for the projects, which are kept")
    parser.add_argument("--arch", choices=[name for name in VITS if name.startswith("dinov2")], help="or a small one")
    parser.add_argument("--train", nargs="+", choices=MODES, default=["2", "none"], help="trained parts of the encoder")
    parser.add_argument(
        "--per-class",
        nargs=2,
        type=int,
        default=[4, 3],
        metavar="N",
        help="training and validation images of each class",
    )
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    options = parser.parse_args()
    chosen = Network(options.arch, VITS[options.arch], {}) if options.arch else SMALL
    text = page(options.work, options.data, chosen, options.train, dict(zip(LISTS, options.per_class, strict=True)))
    options.out.write_text(text, encoding="utf8")
