"""Cost of a job: work as a number that its parameters determine, and the measured costs of docs/cost.md.

Estimates are good to a factor of two or three until the same stage has run on this machine (:mod:`workflow.forecast`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Values = dict[str, dict[str, Any]]

START_S = 3.0  # start of a stage's process, PyTorch included
LIGHT_S = 0.3  # the same of a stage that needs no PyTorch
LIGHT_STAGES = ("images", "index", "regions", "prototypes", "episodes")
GPU_STAGES = ("baseline", "features", "pseudolabels", "train", "cam", "evaluate")
# Cost of an image through a network relative to ResNet-18, and megabytes of a network file (docs/cost.md); for vision
# transformers, in proportion to their weights.
RESNETS = {"resnet18": (1.0, 11.2), "resnet34": (1.9, 33.0), "resnet50": (3.0, 34.3), "resnet101": (9.0, 111.0)}
VITS = {"vits": (4.0, 88.0), "vitb": (14.0, 344.0), "vitl": (45.0, 1217.0)}
# Seconds per unit of `work`, one core of a CPU, from the unit costs of docs/cost.md.
CPU_S = {
    "images": 0.012,  # per image: 0.019 s at 640×480, 0.006 s for a drawing of 48 px
    "index": 0.0001,
    "hierarchies": 1.1,  # per megapixel: 0.125 s at 0.10, 0.21 s at 0.2
    "regions": 0.004,  # per image
    "baseline": 3.75,  # per megapixel of a training image, ResNet-18: 0.19 s at 225 px
    "features": 1.2,  # per megapixel, ResNet-18: 0.12 s at 0.10
    "prototypes": 1.8e-10,  # per vector, channel, cluster and iteration: 219 s for 480,000 · 1,024 · 50 · 50
    "pseudolabels": 1.5,  # per megapixel, ResNet-18
    "train": 5.9,  # per megapixel, ResNet-18: 0.30 s at 225 px
    "cam": 3.75,
    "episodes": 0.0005,  # per episode
    "evaluate": 0.011,  # per step of the online classifier, 256 channels, one support of 0.1 megapixels: 0.11 s for ten
    "report": 10.0,
}
# The same on a GPU of the H100 class in float32: 198 ms per step of 4 pairs with ResNet-50 at 473 px.
GPU_S = {
    "baseline": 0.037,
    "train": 0.037,
    "cam": 0.037,
    "features": 0.0007,
    "pseudolabels": 0.0007,
    "evaluate": 0.0006,
}
# Bytes on disk: per megapixel of the images (docs/cost.md, "Disk space"); per network, see `RESNETS`.
BYTES = {"images": 300e3, "hierarchies": 170e3, "regions": 30e3, "features": 110e3, "pseudolabels": 190e3}
OBJECTS = 1.5  # per training image
BACKGROUND_REGIONS = 10.5  # per training image


@dataclass(frozen=True)
class DataSize:
    """Size of a data set.

    Attributes
    ----------
    train, val
        Images in the two lists.
    megapixels
        Mean size of an image.
    """

    train: int
    val: int
    megapixels: float


def start(stage: str) -> float:
    """Return the seconds that the start of a stage's process takes."""
    return LIGHT_S if stage in LIGHT_STAGES else START_S


def _network(encoder: dict[str, Any]) -> tuple[float, float]:
    """Return the cost of an image relative to ResNet-18, and the bytes of a network file."""
    arch = encoder["arch"]
    if arch in RESNETS:
        share = (encoder["width"] / 64) ** 2
        cost, size = RESNETS[arch]
        return cost * max(share, 0.15), size * 1e6 * share  # narrow layers do not fill the processor
    cost, size = next((both for name, both in VITS.items() if name in arch), VITS["vitb"])
    return cost, size * 1e6


def _steps(values: dict[str, Any], images: float, side: int) -> float:
    """Return the megapixels that a training processes."""
    return float(values["iterations"] * images * side**2 / 1e6)


def work(stage: str, values: Values, options: dict[str, int], data: DataSize) -> float:
    """Return the work of a job, in the units of :data:`CPU_S`.

    Parameters
    ----------
    stage
        The stage.
    values
        All sections of the parameters.
    options
        ``shot`` of the job, where it has one.
    data
        Size of the data set.
    """
    return float(_work(stage, values, options, data))


def _work(stage: str, values: Values, options: dict[str, int], data: DataSize) -> Any:
    shards, shot = values["images"]["shards"], options.get("shot", 1)
    training_pixels = data.train * data.megapixels / shards
    network, _ = _network(values["encoder"])
    matching, train, cam = values["matching"], values["train"], values["cam"]
    pairs = matching["episodes"] * (shot + 1)
    if stage in ("images", "index"):
        return (data.train + data.val) / (shards if stage == "images" else 1)
    if stage == "hierarchies":
        return training_pixels
    if stage == "regions":
        return data.train / shards
    if stage in ("features", "pseudolabels"):
        return training_pixels * network
    if stage == "baseline":
        return _steps(values["baseline"], pairs, matching["size"]) * network
    if stage == "train":
        extra = train["extra_images"] if shot == 1 else train["extra_images_many_shots"]
        return _steps(train, pairs + extra, matching["size"]) * network
    if stage == "cam":
        objects = 2 * OBJECTS * data.train * cam["size"] ** 2 / 1e6
        later = {"iterations": cam["iterations"] - cam["classifier_iterations"]}
        return (objects + _steps(later, 2 * cam["episodes"], cam["size"])) * network
    if stage == "prototypes":
        options_of = values["prototypes"]
        vectors = 0.75 * data.train * (OBJECTS + BACKGROUND_REGIONS)
        runs = options_of["restarts"] * options_of["iterations"] * options_of["clusters"][0]
        return float(min(vectors, 2 * options_of["max_vectors"]) * 256 * max(network, 1) ** 0.5 * runs)
    episodes = values["episodes"]["count"]
    if stage == "episodes":
        return float(episodes)
    if stage == "evaluate":
        return len(values["plan"]["seeds"]) * episodes * _classifier_steps(values, shot, data)
    return 1.0


def _channels(encoder: dict[str, Any]) -> float:
    """Return the number of feature channels."""
    arch = encoder["arch"]
    if arch in RESNETS:
        return float(encoder["width"] * (16 if arch in ("resnet50", "resnet101") else 4))
    return float(next((count for name, count in {"vits": 384, "vitl": 1024}.items() if name in arch), 768))


def _classifier_steps(values: Values, shot: int, data: DataSize) -> float:
    """Return the steps of online classifiers per episode, relative to those that were measured.

    These had 256 channels and hidden units and 1.5 images of 0.108 megapixels. A small step costs three hundredths of
    such a one, and what is not a classifier half a step to two.
    """
    srofb, chosen = values["srofb"], values["evaluate"]["refinements"]
    steps = srofb["steps_one_shot"] if shot == 1 else srofb["steps_many_shots"]
    trained = sum("srofb" in name for name in chosen)
    cells = (shot + 0.5) / 1.5 * data.megapixels / 0.108
    size = cells * _channels(values["encoder"]) / 256 * srofb["hidden"] / 256
    return float(0.5 + 15 * data.megapixels + trained * steps * (0.03 + size))


def disk(stage: str, values: Values, data: DataSize) -> float:
    """Return the bytes of a job's outputs."""
    shards = int(values["images"]["shards"])
    if stage == "images":
        return BYTES[stage] * (data.train + data.val) * data.megapixels / shards
    if stage in BYTES:
        return BYTES[stage] * data.train * data.megapixels / shards
    if stage in ("baseline", "train", "cam"):
        return _network(values["encoder"])[1]
    return {"report": 10e6, "index": 50.0 * (data.train + data.val), "prototypes": 200e3}.get(stage, 100e3)
