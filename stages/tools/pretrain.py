"""Pretrain a small encoder on generated pictures of classes other than the eight built-in ones.

This is not a pipeline stage: the result is committed. Run ``python -m stages pretrain --out weights/…safetensors``.

Writes
    a weight file (safetensors, with torchvision's parameter names, up to layer3) and, beside it, a JSON file with its
    origin.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from novelseg.backbones.contract import MEAN, STD
from novelseg.backbones.resnet import ResNet
from novelseg.core.compute import use_threads
from novelseg.core.files import digest, whole_file
from novelseg.core.options import Help
from novelseg.core.progress import say, track
from novelseg.core.random import key_to_seed, numpy_generator
from novelseg.data.drawing.kinds import Kind, other_kinds
from novelseg.data.scenes import draw
from stages.options import Out, Seed, Threads

SIDE, BATCH, LEARNING_RATE, WEIGHT_DECAY = 96, 48, 0.1, 1e-4


def _batch(seed: int, iteration: int, kinds: Sequence[Kind]) -> tuple[Tensor, Tensor]:
    """Draw a batch: normalised images (B, 3, S, S) and labels at stride 8 (B, S/8, S/8), with 255 on borders."""
    numbers = range(iteration * BATCH, (iteration + 1) * BATCH)
    pairs = [draw(numpy_generator(seed, "pretrain", number), kinds, SIDE, SIDE) for number in numbers]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).float() / 255
    images = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    labels = torch.from_numpy(np.stack([label for _, label in pairs]))[:, 4::8, 4::8].long()
    return images, labels


def run(
    *,
    out: Out,
    arch: Annotated[str, Help("residual network to train")] = "resnet18",
    width: Annotated[int, Help("channels of layer1's 3×3 convolutions")] = 16,
    classes: Annotated[int, Help("number of classes to generate")] = 56,
    iterations: Annotated[int, Help("training iterations")] = 1500,
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """Train an encoder and a classifier of its cells from random weights, and write the encoder."""
    use_threads(threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_to_seed(seed, "first weights"))
        net = ResNet(arch=arch, stem="torchvision", width=width, frozen=False)
        head = nn.Conv2d(net.channels, classes + 1, 1)
    weights = [*net.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(weights, LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, iterations)
    kinds, accuracies = other_kinds(seed, classes), list[float]()
    for iteration in track(range(iterations), iterations, "pretrain", "iteration"):
        images, labels = _batch(seed, iteration, kinds)
        logits = head(F.relu(net(images)))
        loss = F.cross_entropy(logits, labels, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        objects = (labels > 0) & (labels != 255)
        accuracies.append(float((logits.argmax(1) == labels)[objects].float().mean()))
        if iteration % 100 == 99:
            recent = 100 * np.mean(accuracies[-100:])
            say(f"pretrain: iteration {iteration + 1}, accuracy on object cells {recent:.1f} %")
    state = {name: value.contiguous() for name, value in net.state_dict().items() if "num_batches" not in name}
    with whole_file(out) as scratch:
        save_file(state, scratch)
    about = {
        "made by": f"python -m stages pretrain --arch {arch} --width {width} --classes {classes}"
        f" --iterations {iterations} --seed {seed}",
        "source": "scenes",
        "pictures": "novelseg/data/scenes.py, classes of several breeds and of other shapes than the built-in eight",
        "object cells right, last 100 iterations": round(float(np.mean(accuracies[-100:])), 4),
        "torch": torch.__version__,
        "md5": digest(out),
        "license": "MIT, as the code",
    }
    with whole_file(out.with_suffix(".json")) as scratch:
        scratch.write_text(json.dumps(about, indent=1) + "\n", encoding="utf8")
