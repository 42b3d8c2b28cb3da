"""Regions and objects → one pooled feature vector each, one shard of a fold (A4).

Reads
    ``index``, ``images`` and ``regions`` (one shard), the fold's 1-shot Baseline F_p.
Writes
    ``features`` (HDF5): R_bg, one vector per region ∩ background; R_fg, one per (image, base class).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import hdf5
from stages.artifacts.formats.features import FEATURES
from stages.artifacts.formats.images import IMAGES
from stages.artifacts.formats.regions import REGIONS
from stages.core.compute import pick_device, use_threads
from stages.core.digests import digest_once
from stages.core.progress import track
from stages.data.index import read_index
from stages.data.pairs import decode_mask, decode_rgb
from stages.models.encoder import FeatureExtractor, load_encoder
from stages.ops.pooling import pool, splat_labels
from stages.sections.features import Params


@dataclass
class _Corpus:
    """Vectors of one side while they are gathered."""

    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    image: list[str] = field(default_factory=list)
    number: list[NDArray[np.int32]] = field(default_factory=list)
    area: list[NDArray[np.int64]] = field(default_factory=list)
    box: list[NDArray[np.int32]] = field(default_factory=list)

    def add(self, features: Tensor, labels: NDArray[np.int32], numbers: NDArray[np.int64], image_id: str) -> None:
        """Pool over the pixels of each of ``numbers`` in a label map."""
        compact = np.full(int(labels.max(initial=0)) + 2, -1, np.int32)
        compact[numbers] = np.arange(len(numbers))
        compacted = compact[labels]
        height, width = features.shape[-2:]
        weights = torch.from_numpy(splat_labels(compacted, len(numbers), (height, width))).unflatten(1, (height, width))
        self.vectors.append(pool(features, weights.to(features)).cpu().numpy())
        self.image += [image_id] * len(numbers)
        self.number.append(numbers.astype(np.int32))
        self.area.append(np.bincount(compacted[compacted >= 0], minlength=len(numbers)).astype(np.int64))
        self.box.append(boxes(compacted, len(numbers)))

    def arrays(self, side: str, number: str, channels: int) -> dict[str, NDArray[np.generic]]:
        """Datasets of one side."""
        return {
            f"{side}/vectors": np.concatenate([np.zeros((0, channels), np.float32), *self.vectors]),
            f"{side}/image": np.array(self.image, object),
            f"{side}/{number}": np.concatenate([np.zeros(0, np.int32), *self.number]),
            f"{side}/area": np.concatenate([np.zeros(0, np.int64), *self.area]),
            f"{side}/box": np.concatenate([np.zeros((0, 4), np.int32), *self.box]),
        }


def boxes(labels: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Bounding boxes (count, 4) of labels 0…count−1: top, left, bottom, right, ends exclusive."""
    found = np.zeros((count, 4), np.int32)
    u, v = np.nonzero(labels >= 0)
    owner = labels[u, v]
    for column, place, pick in (
        (0, u, np.minimum),
        (1, v, np.minimum),
        (2, u + 1, np.maximum),
        (3, v + 1, np.maximum),
    ):
        limit = np.full(count, np.iinfo(np.int32).max if pick is np.minimum else 0, np.int64)
        pick.at(limit, owner, place)
        found[:, column] = limit
    return found


def run(
    *,
    index: Path,
    images: Path,
    regions: Path,
    encoder: Path,
    out: Path,
    fold: int,
    params: Params,
    device: str = "auto",
    threads: int = 0,
) -> None:
    """Pool every background region and every base-class mask of a shard's training images."""
    use_threads(threads)
    data = read_index(index)
    net, about = load_encoder(encoder, fold)
    extract = FeatureExtractor(net, about["precision"], pick_device(device))
    wanted = {data.ids[i] for i in data.training_images(fold).tolist()}
    background, objects = _Corpus(), _Corpus()
    dropped = np.zeros(2, np.int64)
    with hdf5.opened(images, IMAGES) as pictures, hdf5.opened(regions, REGIONS) as cuts:
        ids = hdf5.texts(cuts, "id")
        for number in track(range(len(ids)), len(ids), f"features fold {fold} {images.stem}", "image"):
            if ids[number] not in wanted:
                continue
            row = int(cuts["row"][number])
            features = extract(decode_rgb(hdf5.Ragged.get(pictures, "image", row)))
            known = data.base_labels(decode_mask(hdf5.Ragged.get(pictures, "mask", row)), fold)
            region = hdf5.Ragged.get(cuts, "labels", number).reshape(known.shape).astype(np.int32)
            region[known != 0] = -1
            area = np.bincount(region[region >= 0], minlength=1)
            small = (area > 0) & (area < params.min_region_area)
            dropped += (int(small.sum()), int(area[small].sum()))
            background.add(features, region, np.flatnonzero(area >= params.min_region_area), ids[number])
            classes = np.intersect1d(np.unique(known), data.base(fold))
            objects.add(features, known.astype(np.int32), classes, ids[number])
    hdf5.write(
        out,
        FEATURES,
        {**background.arrays("bg", "region", net.channels), **objects.arrays("fg", "class", net.channels)},
        {
            "fold": fold,
            "encoder": digest_once(encoder),
            "dropped_regions": int(dropped[0]),
            "dropped_pixels": int(dropped[1]),
        },
    )
