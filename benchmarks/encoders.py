"""Measure time and memory of every encoder on a CPU.

``OMP_NUM_THREADS=1 python -m benchmarks.encoders --out docs/results/encoders-cpu.md`` writes a table. Time and memory
do not depend on the values of weights, which are random. Memory is measured in a process of its own, for the features
of one image through `FeatureExtractor`, as `novelseg segment` and the stage `features` compute them, and for one step
of the Baseline's training, with all parts of the encoder and with the last ones. The times of the features are those of
one process in which the encoder in float32, the encoder in bfloat16 and ResNet-50 take turns, so that their ratios hold
on a busy machine too. With ``--arch NAME``, one encoder is measured again, and the other rows of the page are kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from novelseg.backbones.contract import Backbone
from novelseg.backbones.designs import VITS
from novelseg.backbones.encoder import freeze
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.registry import ARCHITECTURES, new_backbone
from novelseg.formats.record import BackboneSpec
from novelseg.methods.matching.learner import MatchingLearner

SIZE = (375, 500)  # px, of VOC
TRAINING = 238  # px; 17 patches of 14, about half of the presets' side
EPISODES, LAST = 1, 4
REFERENCE = "resnet50"
SLOW = 3.0  # s; what takes longer is measured once only
CPU = torch.device("cpu")
HEAD = (
    *(
        "encoder",
        "parameters, M",
        "channels",
        "cells",
        "features, ms",
        "of ResNet-50's",
        "bf16, of fp32's",
        "memory, MiB",
    ),
    *("step, all, ms", "memory, MiB", "step, last, ms", "memory, MiB"),
)


def fastest(*actions: Callable[[], object], repeats: int = 3) -> list[float]:
    """Return the milliseconds of CPU time of the fastest of some runs of each action, which take turns.

    The first turn, which prepares the kernels, is not counted; after a slow one, there is only one more.
    """
    times: list[list[float]] = [[] for _ in actions]
    for turn in range(1 + repeats):
        if turn > 1 and sum(own[0] for own in times) > SLOW:
            break
        for own, action in zip(times, actions, strict=True):
            start = time.process_time()
            action()
            own.append(time.process_time() - start)
    return [1000 * min(own[1:]) for own in times]


def peak() -> float:
    """Return the largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def some_image() -> NDArray[np.uint8]:
    """Return an image of random values."""
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def new_frozen(arch: str) -> Backbone:
    """Return an encoder with random weights that computes features only."""
    return new_backbone(BackboneSpec(arch)).eval().requires_grad_(False)


def features(arch: str) -> tuple[float, list[str]]:
    """Return the memory of the features of one image, and facts about the encoder."""
    before = peak()
    net = new_frozen(arch)
    shape = FeatureExtractor(net, "fp32", CPU)([some_image()]).shape
    parameters = sum(weight.numel() for weight in net.parameters()) / 1e6
    return peak() - before, [f"{parameters:.1f}", f"{net.channels:,}", f"{shape[2]}×{shape[3]}"]


def times(arch: str) -> list[float]:
    """Return the milliseconds of the features of one image: in float32, in bfloat16, and those of ResNet-50."""
    net, image = new_frozen(arch), some_image()
    extractors = [FeatureExtractor(net, "fp32", CPU), FeatureExtractor(net, "bf16", CPU)]
    extractors.append(FeatureExtractor(new_frozen(REFERENCE), "fp32", CPU))
    return fastest(*(lambda extract=extract: extract([image]) for extract in extractors))


def step(arch: str, trained: int | None) -> tuple[float, float]:
    """Return milliseconds and memory of a step of the Baseline's training: one pair, forward, backward and SGD."""
    before = peak()
    net: Backbone = new_backbone(BackboneSpec(arch))
    freeze(net, trained)
    learner = MatchingLearner(net, 10.0)
    weights = [weight for weight in learner.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(weights, 1e-3, momentum=0.9)
    draws = torch.Generator().manual_seed(0)
    batch = {
        "images": torch.rand(EPISODES, 2, 3, TRAINING, TRAINING, generator=draws),
        "masks": (torch.rand(EPISODES, 2, TRAINING, TRAINING, generator=draws) > 0.5).to(torch.uint8),
    }

    def run() -> None:
        optimiser.zero_grad()
        learner(batch)[0].backward()
        optimiser.step()

    return fastest(run, repeats=2)[0], peak() - before


def row(arch: str) -> str:
    """Measure one encoder, each quantity in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        memory, facts = pool.apply(features, (arch,))
        single, half, reference = pool.apply(times, (arch,))
        steps = [pool.apply(step, (arch, trained)) for trained in (None, LAST if arch in VITS else 1)]
    cells = [f"{single:,.0f}", f"{single / reference:.2f}", f"{half / single:.2f}", f"{memory:,.0f}"]
    cells += [f"{value:,.0f}" for one in steps for value in one]
    return "| " + " | ".join([arch, *facts, *cells]) + " |"


def page(archs: list[str], old: Path) -> str:
    """Return the page; rows of other encoders on an existing page are kept."""
    kept = {}
    for line in old.read_text(encoding="utf8").splitlines() if old.exists() else []:
        kept[line.removeprefix("| ").partition(" ")[0]] = line
    for arch in archs:
        kept[arch] = row(arch)
        print(kept[arch], flush=True)
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf8")
    bf16 = ", ".join(name for name in ("avx512f", "avx512_bf16", "amx_bf16") if f" {name} " in cpu) or "no AVX-512"
    threads = torch.get_num_threads()
    text = (
        f"Random weights, {threads} thread{'s' * (threads > 1)}, {platform.machine()} ({bf16}), PyTorch "
        f"{torch.__version__}. Times are the process's own CPU time, of the fastest of up to three runs. Other work on "
        "the machine slows them: the milliseconds of two rows compare roughly only. The ratios are of runs that took "
        "turns; that of ResNet-50 to itself shows their error. *Features*: one image of "
        f"{SIZE[1]}×{SIZE[0]} px. *Step*: forward, backward and SGD with momentum for one pair of {TRAINING} px, with "
        f"all parts of the encoder or its last ones: {LAST} blocks, or layer3 of a ResNet. *Memory*: the growth of the "
        "process, weights included. A cell has 8 px in ResNets, 14 px in DINOv2 and 16 px in DINOv3."
    )
    lines = [
        "# Time and memory of the encoders on a CPU",
        "",
        *textwrap.wrap(text, 120),
        "",
        "Command: `OMP_NUM_THREADS=1 python -m benchmarks.encoders --out docs/results/encoders-cpu.md`, with `--arch`.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + len(HEAD) * "---|",
        *(kept[arch] for arch in ARCHITECTURES if arch in kept),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    parser.add_argument("--arch", action="append", choices=tuple(ARCHITECTURES), help="encoders; by default, all")
    options = parser.parse_args()
    options.out.write_text(page(options.arch or list(ARCHITECTURES), options.out), encoding="utf8")
