"""Training images → region hierarchies, one shard (A3).

Reads
    ``images`` (one shard).
Writes
    ``hierarchies`` (HDF5): basins, tree and merge heights of every training image. Cutting is another stage, so that a
    new contour threshold recomputes nothing here.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stages.artifacts import hdf5
from stages.artifacts.formats.hierarchies import HIERARCHIES
from stages.artifacts.formats.images import IMAGES
from stages.core.labels import TRAIN
from stages.core.progress import track
from stages.data.voc import decode_rgb
from stages.ops import hierarchy
from stages.sections.hierarchies import Params


def run(*, images: Path, out: Path, params: Params) -> None:
    """Build the hierarchy of every training image of a shard."""
    cv2.setNumThreads(1)
    ids, rows, sizes, trees = [], [], [], []
    with hdf5.opened(images, IMAGES) as file:
        names = hdf5.texts(file, "id")
        training = np.flatnonzero(file["split"][:] == TRAIN).tolist()
        for row in track(training, len(training), f"hierarchies {images.stem}", "image"):
            image = decode_rgb(hdf5.Ragged.get(file, "image", row))
            height, width = hierarchy.fit_size(image.shape[0], image.shape[1], params.longest_side)
            if (height, width) != image.shape[:2]:
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
            trees.append(hierarchy.build(image))
            ids.append(names[row])
            rows.append(row)
            sizes.append((int(file["height"][row]), int(file["width"][row]), height, width))
    size = np.array(sizes, np.int32).reshape(-1, 4)
    arrays = {
        "id": np.array(ids, object),
        "row": np.array(rows, np.int32),
        **{name: size[:, i] for i, name in enumerate(("height", "width", "work_height", "work_width"))},
        **hdf5.Ragged.pack("basins", [tree.basins for tree in trees], "uint16"),
        **hdf5.Ragged.pack("parents", [tree.parents for tree in trees], "int32"),
        **hdf5.Ragged.pack("heights", [tree.heights for tree in trees], "float32"),
    }
    hdf5.write(out, HIERARCHIES, arrays, {"method": params.method})
