"""Compare fast implementations with plain reference implementations: seconds, ratio, peak memory.

``python -m benchmarks.speed`` prints a table, measured on a GPU if there is one. A plain implementation uses float32,
upsamples features before they are pooled or labelled, processes one image or episode at a time, decodes images whenever
they are used, and computes gradients by autograd. Each implementation runs in a separate process, for which the peak
memory is measured; inputs are prepared before the time is measured. ``--only TEXT`` selects rows whose name contains
the text; ``--only kmeans`` compares k-means with scikit-learn and plain PyTorch.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks import plain
from novelseg.backbones.contract import Backbone
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.grid import AlignedGrid
from novelseg.backbones.registry import new_backbone
from novelseg.core.labels import VOID
from novelseg.core.random import numpy_generator
from novelseg.evaluation.scoring import count_many
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.formats.record import BackboneSpec
from novelseg.methods.losses import upsampled_cross_entropy
from novelseg.methods.matching.learner import MatchingLearner
from novelseg.methods.matching.prototypes import match_many, support_prototypes
from novelseg.methods.spfl import augment
from novelseg.methods.spfl.clustering import _kmeans, nearest, normalise
from novelseg.methods.spfl.learner import JointLearner
from novelseg.methods.spfl.pseudolabels import pseudo_labels
from novelseg.methods.srofb.classifier import Cells, Task, classify, parameter_count
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.ops.geometry import PackedImages, gather, pack, squares, windows
from novelseg.ops.pooling import pool
from novelseg.training.loop import compile_parts
from stages.params.augmentation import Augmentation as AugmentationParams
from workflow.presets import resolve_preset

CELLS, CHANNELS, REGIONS, CLUSTERS = 60, 1024, 30, (50, 25, 15)
SIDE = 473
GRID = AlignedGrid(8)
SROFB = SrofbSettings()  # the values of the paper


@dataclass(frozen=True)
class Size:
    """Size of the inputs for a kind of device, so that a row takes seconds to minutes.

    Attributes
    ----------
    arch
        Architecture of the backbone.
    side
        Side of training images, px.
    extra
        Number of extra images in a joint training step.
    width
        Width of the decoders.
    episodes
        Number of episodes; the fast implementation of matching has 16 times as many.
    repeats
        Number of measured runs.
    """

    arch: str
    side: int
    extra: int
    width: int
    episodes: int
    repeats: int


SIZES = {"cpu": Size("resnet18", 225, 8, 256, 4, 2), "cuda": Size("resnet50", 473, 16, 256, 64, 5)}
Work = Callable[[], object]


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def photograph(number: int, height: int = 375, width: int = 500) -> bytes:
    """Return a JPEG of smooth noise at several scales, about as detailed as a photograph."""
    rng = numpy_generator("photograph", number)
    image = np.zeros((height, width, 3))
    for cells in (4, 16, 64):
        grid = Image.fromarray(rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
        image += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) / cells**0.5
    buffer = io.BytesIO()
    Image.fromarray((image / image.max() * 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG to (H, W, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def box_mask(height: int, width: int) -> NDArray[np.uint8]:
    """Return a mask (H, W) with an object in the middle, surrounded by void."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = VOID
    mask[height // 4 + 3 : 3 * height // 4 - 3, width // 4 + 3 : 3 * width // 4 - 3] = 1
    return mask


# ---- pooling, labelling and loss, from given features


def map_row(device: torch.device, _: Size) -> tuple[Work, Work]:
    """Prepare masked average pooling of 30 regions; like all rows, return the fast and the plain implementation."""
    features = _noise(CHANNELS, CELLS, CELLS).to(device)
    rows, columns = np.indices((SIDE, SIDE))
    labels = ((rows * 5 // SIDE) * 6 + columns * 6 // SIDE).astype(np.int32)
    return (
        lambda: pool(features, GRID.region_weights(labels, REGIONS, features)),
        lambda: plain.pool(features, labels, REGIONS),
    )


def labels_row(device: torch.device, _: Size) -> tuple[Work, Work]:
    """Prepare pseudo labels of one image at three levels."""
    features = _noise(CHANNELS, CELLS, CELLS).to(device)
    mask = torch.from_numpy(box_mask(SIDE, SIDE)).to(device)
    levels = [(_noise(k, CHANNELS, seed=k).to(device), _noise(k, CHANNELS, seed=-k).to(device)) for k in CLUSTERS]
    return (
        lambda: [pseudo_labels(features, mask, *level, GRID) for level in levels],
        lambda: [plain.pseudo_labels(features, mask, *level) for level in levels],
    )


def loss_row(device: torch.device, size: Size) -> tuple[Work, Work]:
    """Prepare the pseudo-label loss of the extra images with 100 classes, and its gradient."""
    cells = -(-size.side // 8)
    logits = _noise(size.extra, 100, cells, cells).to(device).requires_grad_()
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 100, (size.extra, size.side, size.side), generator=generator).to(torch.uint8).to(device)
    return (
        lambda: torch.autograd.grad(upsampled_cross_entropy(logits, labels, GRID), logits),
        lambda: torch.autograd.grad(plain.cross_entropy(logits, labels), logits),
    )


# ---- training


@cache
def strengths() -> augment.Augmentation:
    """Return the settings of strong augmentation in the presets."""
    return AugmentationParams.model_validate(resolve_preset("demo")["augmentation"]).to(augment.Augmentation)


def _step(learner: nn.Module, batch: Callable[[], dict[str, Tensor]], device: torch.device) -> Work:
    learner.to(device).train()
    weights = [weight for weight in learner.parameters() if weight.requires_grad]
    sgd = torch.optim.SGD(weights, 1e-3, momentum=0.9)

    def step() -> None:
        sgd.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = learner(batch())[0]
        loss.backward()
        sgd.step()

    return step


def _learner(size: Size, joint: bool) -> nn.Module:
    torch.manual_seed(0)
    net = new_backbone(BackboneSpec(size.arch))
    if not joint:
        return MatchingLearner(net, 10.0)
    return JointLearner(net, 10.0, list(CLUSTERS), size.width, [0.5, 1.0, 1.0])


def training_row(joint: bool, device: torch.device, size: Size) -> tuple[Work, Work]:
    """Prepare a training step from encoded images: four pairs, and the extra images of the joint training."""
    count = 8 + (size.extra if joint else 0)
    encoded = [photograph(number) for number in range(count)]
    mask = box_mask(375, 500)
    maps = np.stack([mask, *(numpy_generator(n).integers(0, k, mask.shape) for n, k in enumerate(CLUSTERS))])
    maps = maps.astype(np.uint8)
    draws = torch.rand((count, 20), generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    @cache  # created in the measuring process, by the run before the measured ones
    def fast() -> Work:
        items = [(torch.from_numpy(decode(data)), torch.from_numpy(maps)) for data in encoded]
        pictures = pack([(375, 500)] * count, items, device)  # decoded once
        learner = _learner(size, joint)
        if device.type == "cuda":
            compile_parts(learner)
        return _step(learner, partial(_views, pictures, draws.to(device), joint, size.side), device)

    @cache
    def slow() -> Work:
        return plain.Training(
            _learner(size, joint), encoded, maps, size.side, draws[:, 4:].float(), strengths(), device
        ).step

    return lambda: fast()(), lambda: slow()()


def _views(pictures: PackedImages, draws: Tensor, joint: bool, side: int) -> dict[str, Tensor]:
    """Return views of four pairs of images and, in the joint training, augmented views of the extra images."""
    mirrored = draws[:, 0] < 0.5
    pairs, labels = gather(pictures, squares(pictures, list(range(8)), mirrored[:8], side), side)
    batch = {"images": pairs.unflatten(0, (4, 2)), "masks": labels[:, 0].unflatten(0, (4, 2))}
    if joint:
        numbers = list(range(8, len(draws)))
        settings = strengths()
        low, high = settings.scales
        views = windows(pictures, numbers, mirrored[8:], draws[8:, :4], side, scales=(low, high))
        images, levels = gather(pictures, views, side)
        batch["extra"], batch["labels"] = augment.strong(images, levels[:, 1:], draws[8:, 4:], settings)
    return batch


# ---- features, matching, the online classifier


def _frozen(size: Size) -> Backbone:
    return new_backbone(BackboneSpec(size.arch)).eval().requires_grad_(False)


def features_row(device: torch.device, size: Size) -> tuple[Work, Work]:
    """Prepare features of 16 encoded photographs at their original size."""
    encoded = [photograph(number) for number in range(16)]
    net = _frozen(size)
    extract = FeatureExtractor(net, "bf16" if device.type == "cuda" else "fp32", device)

    def fast() -> None:
        list(extract.each([(375, 500)] * 16, lambda number: (decode(encoded[number]), None), ""))

    return fast, lambda: [plain.features(net, decode(data), device) for data in encoded]


def matching_row(shot: int, device: torch.device, size: Size) -> tuple[Work, Work]:
    """Prepare matching of episodes on 20 images, from encoded images to pixel counts."""
    encoded, mask = [photograph(number) for number in range(20)], box_mask(375, 500)
    net = _frozen(size)
    rng = numpy_generator("episodes", shot)
    episodes = [rng.choice(20, shot + 1, replace=False).tolist() for _ in range(16 * size.episodes)]
    extract = FeatureExtractor(net, "bf16" if device.type == "cuda" else "fp32", device)
    on_device = torch.from_numpy(mask).to(device)

    def fast() -> Tensor:
        maps = extract.each([(375, 500)] * 20, lambda number: (decode(encoded[number]), None), "")
        features = {number: value for number, _, value in maps}
        prototypes = {n: support_prototypes(f[None, None], on_device[None, None], GRID)[0] for n, f in features.items()}
        counts = []
        for query in range(20):
            support_sets = [supports for first, *supports in episodes if first == query]
            for block in (support_sets[n : n + 32] for n in range(0, len(support_sets), 32)):
                pairs = torch.stack([torch.stack([prototypes[n] for n in supports]).mean(0) for supports in block])
                logits = match_many(features[query], pairs, 10.0)
                counts.append(count_many(logits[:, 1] - logits[:, 0], on_device.expand(len(block), -1, -1), GRID))
        return torch.cat(counts).cpu()

    def slow() -> None:
        for query, *supports in episodes[: size.episodes]:  # a sixteenth of the episodes; ROWS contains the factor
            plain.episode(net, [decode(encoded[n]) for n in (*supports, query)], mask, device)

    return fast, slow


def srofb_row(steps: int, supports: int, device: torch.device, size: Size) -> tuple[Work, Work]:
    """Prepare the online classifier on given cells: 47 × 36 per support, and half as many of the query."""
    channels = 1024 if size.arch == "resnet50" else 256
    cells = 47 * 36 * supports + 47 * 18
    tasks = []
    for number in range(size.episodes):
        features = _noise(cells, channels, seed=number).to(device)
        labels = (features[:, 0] > 0.7).long()
        tasks.append(
            Task(
                Cells(features, labels, torch.ones_like(labels)),
                _noise(channels, 47, 36, seed=-number).to(device),
                number,
            )
        )
    batch = 32 if device.type == "cuda" else 1

    def fast() -> None:
        for first in range(0, len(tasks), batch):
            classify(tasks[first : first + batch], steps, SROFB, half=device.type == "cuda")

    return fast, lambda: [plain.classifier(task, steps, SROFB) for task in tasks]


ROWS: dict[str, tuple[Callable[[torch.device, Size], tuple[Work, Work]], int]] = {
    # Name → function that prepares both implementations, and how many times as much work the fast one does.
    "MAP of 30 regions, 1,024 channels, 473 px": (map_row, 1),
    "pseudo labels, three levels, 473 px": (labels_row, 1),
    "pseudo-label loss, one level of 50": (loss_row, 1),
    "Baseline step, 4 pairs": (partial(training_row, False), 1),
    "joint step, 4 pairs and extra images": (partial(training_row, True), 1),
    "features of 16 images, 500 × 375": (features_row, 1),
    "matching, 1-shot episodes": (partial(matching_row, 1), 16),
    "matching, 5-shot episodes": (partial(matching_row, 5), 16),
    "SROFB, 10 steps, 1 support": (partial(srofb_row, 10, 1), 1),
    "SROFB, 100 steps, 5 supports": (partial(srofb_row, 100, 5), 1),
}


def _measure(name: str, form: int, device_name: str, threads: int, pipe: Any) -> None:
    torch.set_num_threads(threads)
    device, size = torch.device(device_name), SIZES[device_name]
    work = ROWS[name][0](device, size)[form]
    wait: Work = torch.cuda.synchronize if device_name == "cuda" else lambda: None
    work()  # compiles and fills caches
    wait()
    if device_name == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(size.repeats):
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    peak = (
        torch.cuda.max_memory_allocated()
        if device_name == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    pipe.send((min(times), peak / 2**20))


def measure(name: str, form: int, device_name: str, threads: int) -> tuple[float, float]:
    """Return the seconds of the fastest run and the peak memory in MiB, measured in a new process.

    ``form`` is 0 for the fast implementation and 1 for the plain one.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(name, form, device_name, threads, sender))
    process.start()
    sender.close()
    seconds, memory = receiver.recv()
    process.join()
    return seconds, memory


def _corpus(features: list[Path]) -> NDArray[np.float32]:
    """Return the normalised background vectors (N, C) of feature shards; without shards, noise around 200 centres."""
    if features:
        return normalise(np.concatenate([_background(path) for path in features]))
    rng = numpy_generator("kmeans")
    centres = rng.normal(size=(200, 256))
    return normalise((centres[rng.integers(200, size=20_000)] + rng.normal(size=(20_000, 256))).astype(np.float32))


def _background(path: Path) -> NDArray[np.float32]:
    with hdf5.opened(path, FEATURES) as file:
        vectors: NDArray[np.float32] = file["bg/vectors"][:]
        return vectors


def kmeans(features: list[Path]) -> None:
    """Print seconds and inertia of three implementations of k-means, with 50 clusters and 50 iterations."""
    from sklearn.cluster import KMeans

    vectors = _corpus(features)

    def ours() -> NDArray[np.float32]:
        return _kmeans(vectors, 50, 1, 50, 0)

    def sklearn() -> NDArray[np.float32]:
        model = KMeans(50, n_init=1, max_iter=50, random_state=0, init="random", tol=0).fit(vectors)
        return np.asarray(model.cluster_centers_, np.float32)

    size = f"{len(vectors):,} × {vectors.shape[1]:,}"
    print(f"\n{f'k-means, {size}, K = 50, 50 iterations':<46} {'s':>8} {'inertia':>10}")
    for name, work in (
        ("faiss (ours)", ours),
        ("scikit-learn", sklearn),
        ("plain torch", lambda: plain.kmeans(vectors, 50, 50)),
    ):
        start = time.perf_counter()
        centres = work()
        seconds = time.perf_counter() - start
        print(f"{name:<46} {seconds:>8.2f} {nearest(vectors, centres)[1].sum(dtype=np.float64):>10.1f}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=tuple(SIZES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--features", nargs="*", type=Path, default=[], help="feature shards, for k-means")
    options = parser.parse_args()
    size = SIZES[options.device]
    inputs = f"training and episodes: {size.arch}, {size.side} px, {size.extra} extra images, {size.episodes} episodes"
    print(f"{options.device}, {options.threads} thread(s); {inputs}")
    print(f"{'':<46} {'fast s':>8} {'plain s':>8} {'ratio':>6} {'fast MiB':>9} {'plain MiB':>9}")
    for name, (_, factor) in ROWS.items():
        if options.only in name:
            fast, slow = (measure(name, form, options.device, options.threads) for form in (0, 1))
            seconds = slow[0] * factor
            print(
                f"{name:<46} {fast[0]:>8.3f} {seconds:>8.3f} {seconds / fast[0]:>6.1f} {fast[1]:>9.0f} {slow[1]:>9.0f}",
                flush=True,
            )
    if options.only in "kmeans":
        kmeans(options.features)
    print(f"\nSROFB: {parameter_count(1024, 256):,} parameters beside the encoder.")


if __name__ == "__main__":
    main()
