"""What the experiments read: an index of a VOC folder, features of its images, pooled features of its objects."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.contract import Backbone
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.registry import new_backbone
from novelseg.core.progress import track
from novelseg.core.random import new_layers
from novelseg.data.index import Index
from novelseg.formats.record import BackboneSpec
from novelseg.inference.photos import read_class_mask, read_photo
from novelseg.methods.cam.network import CamNetwork
from novelseg.methods.cam.objects import TAPS, masked_object
from novelseg.ops.geometry import square

CLASSES, FOLDS, MIN_PIXELS = 20, 4, 1152
SETTINGS = tuple(product(("image", "object"), (False, True)))  # pooling, relu
CPU = torch.device("cpu")
WIDTH = 64


class Voc:
    """Images and masks of both lists of a folder in VOC's layout, and their index."""

    def __init__(self, voc: Path) -> None:
        lists = [
            (voc / f"ImageSets/Segmentation/{name}.txt").read_text(encoding="utf8").split() for name in ("train", "val")
        ]
        self._voc, self.ids = voc, [*lists[0], *lists[1]]
        masks = [self.mask(number) for number in range(len(self.ids))]
        count = len(self.ids)
        self.index = Index(
            ids=self.ids,
            split=np.repeat(np.arange(2, dtype=np.uint8), [len(part) for part in lists]),
            shard=np.zeros(count, np.int32),
            row=np.arange(count, dtype=np.int32),
            height=np.array([mask.shape[0] for mask in masks], np.int32),
            width=np.array([mask.shape[1] for mask in masks], np.int32),
            pixels=np.stack([np.bincount(mask.reshape(-1), minlength=256)[: CLASSES + 1] for mask in masks]),
            class_fold=np.repeat(np.arange(FOLDS, dtype=np.int32), CLASSES // FOLDS),
            classes=[f"class{label}" for label in range(1, CLASSES + 1)],
            source="voc",
            lists=["train", "val"],
            list_digests=["", ""],
            folds=FOLDS,
            layout="contiguous",
            min_object_pixels=MIN_PIXELS,
            novel_images="keep",
            held_out=-1,
        )

    def image(self, number: int) -> NDArray[np.uint8]:
        return read_photo(self._voc / "JPEGImages" / f"{self.ids[number]}.jpg")

    def mask(self, number: int) -> NDArray[np.uint8]:
        return read_class_mask(self._voc / "SegmentationClass" / f"{self.ids[number]}.png", CLASSES)

    def objects(self) -> list[tuple[int, int]]:
        """Return every image and class of which it holds enough pixels."""
        large = self.index.pixels[:, 1:] >= MIN_PIXELS
        return [(int(image), int(label) + 1) for image, label in np.argwhere(large)]


@dataclass(frozen=True)
class Cache:
    """What ``features`` computed."""

    voc: Voc
    features: NDArray[np.float16]  # (N, C, h, w) of all images, as squares
    members: list[tuple[int, int]]
    taps: dict[tuple[str, bool], Tensor]  # (pooling, relu) → (M, 9, C + 1)
    encoder: Backbone
    side: int

    def rows(self, images: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the objects of some classes in some images."""
        inside, wanted = set(images.tolist()), set(labels.tolist())
        return np.array([n for n, (image, label) in enumerate(self.members) if image in inside and label in wanted])

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([self.members[row][1] for row in rows])

    def query(self, images: Iterable[int]) -> Tensor:
        """Return the features of some images, (B, C, h, w) float32."""
        return torch.from_numpy(self.features[list(images)].astype(np.float32))

    def mask(self, image: int) -> Tensor:
        """Return the labels of an image as a square, (S, S)."""
        colours = np.zeros((*self.voc.index.size(image), 3), np.uint8)
        return torch.from_numpy(square(colours, self.voc.mask(image), self.side)[1])


def network_of(encoder: Backbone, classes: int, pooling: str, relu: bool, seed: int, prior: str = "map") -> CamNetwork:
    """Build a network with new branches; the encoder's weights are not used."""
    with new_layers(seed, "branches"):
        shape: dict[str, Any] = {"wiring": "sum", "weighting": "scores", "width": WIDTH}
        return CamNetwork(encoder, classes=classes, prior=prior, pooling=pooling, relu=relu, **shape)


def compute_features(options: argparse.Namespace) -> None:
    """Compute the cache; a run that was interrupted goes on in the next."""
    voc, folder = Voc(options.voc), options.cache
    folder.mkdir(parents=True, exist_ok=True)
    encoder = new_backbone(BackboneSpec(options.arch, options.stem)).eval().requires_grad_(False)
    encoder.load_pretrained(options.weights)
    extract = FeatureExtractor(encoder, "fp32", CPU)
    cells = encoder.grid.cells((options.side, options.side))
    members = voc.objects()
    about = {"voc": str(options.voc), "side": options.side, "weights": str(options.weights)}
    about |= {"arch": options.arch, "stem": options.stem}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf8")
    networks = {name: network_of(encoder, 2, *name, 0) for name in SETTINGS}
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "features": ((len(voc.ids), encoder.channels, *cells), np.float16)
    }
    shapes["taps"] = ((len(SETTINGS), len(members), TAPS, encoder.channels + 1), np.float32)
    arrays = {}
    for name, (shape, kind) in shapes.items():
        path = folder / f"{name}.npy"
        mode = "r+" if path.exists() else "w+"
        arrays[name] = np.lib.format.open_memmap(path, mode=mode, dtype=kind, shape=shape)
    done = folder / "done.txt"
    start = int(done.read_text(encoding="utf8")) if done.exists() else 0
    jobs: list[tuple[int, int]] = [*((image, 0) for image in range(len(voc.ids))), *members]
    chunk = 64
    for first in track(range(start, len(jobs), chunk), -(-(len(jobs) - start) // chunk), "features", "chunk"):
        part = jobs[first : first + chunk]

        def read(number: int, part: list[tuple[int, int]] = part) -> tuple[NDArray[Any], NDArray[np.uint8]]:
            image, label = part[number]
            if label:
                return masked_object(voc.image(image), voc.mask(image), label, options.side)
            return square(voc.image(image), voc.mask(image), options.side)

        for number, mask, features in extract.each([(options.side, options.side)] * len(part), read, ""):
            if part[number][1]:
                row = first + number - len(voc.ids)
                for place, network in enumerate(networks.values()):
                    arrays["taps"][place, row] = network.pooled(features, torch.from_numpy(mask)).numpy()
            else:
                arrays["features"][part[number][0]] = features.numpy()
        for array in arrays.values():
            array.flush()
        done.write_text(str(first + len(part)), encoding="utf8")


def read_cache(folder: Path) -> Cache:
    """Open the cache."""
    about = json.loads((folder / "about.json").read_text(encoding="utf8"))
    voc = Voc(Path(about["voc"]))
    encoder = new_backbone(BackboneSpec(about["arch"], about["stem"])).eval().requires_grad_(False)
    taps = np.load(folder / "taps.npy", mmap_mode="r")
    return Cache(
        voc,
        np.load(folder / "features.npy", mmap_mode="r"),
        voc.objects(),
        {name: torch.from_numpy(np.array(taps[place])) for place, name in enumerate(SETTINGS)},
        encoder,
        about["side"],
    )


def roles(fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the novel classes of a fold, those that act as unseen, and the known ones."""
    labels = np.arange(1, CLASSES + 1).reshape(FOLDS, -1)
    return labels[fold], labels[(fold + 1) % FOLDS], np.concatenate([labels[(fold + 2) % 4], labels[(fold + 3) % 4]])
