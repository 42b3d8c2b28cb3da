"""Build the region hierarchies of one shard of training images.

Reads
    ``images`` (one shard), the learned weights of the region hierarchy, or a folder of label maps.
Writes
    ``hierarchies`` (HDF5): basins, tree and merge heights of every training image. Cutting is another stage, so that a
    new contour threshold recomputes nothing here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN
from novelseg.core.options import Help
from novelseg.core.progress import track
from novelseg.core.threads import one_thread
from novelseg.data.store import read_rgb
from novelseg.formats import hdf5
from novelseg.formats.hierarchies import HIERARCHIES
from novelseg.formats.images import IMAGES
from novelseg.regions.builders import HierarchySettings, new_builder
from novelseg.regions.hierarchy import TooManyRegionsError
from stages.options import ImageShard, Out
from stages.params.hierarchies import Params


def run(
    *,
    images: ImageShard,
    out: Out,
    weights: Annotated[Path | None, Help("weights of the learned hierarchy (method ucm)")] = None,
    maps: Annotated[Path | None, Help("folder of label maps (method precomputed)")] = None,
    params: Params,
) -> None:
    """Build the hierarchy of every training image of a shard."""
    for method, option, path in (("ucm", "weights", weights), ("precomputed", "maps", maps)):
        if params.method == method and path is None:
            raise InputError(f"--{option} is missing; give the path of hierarchies.{option}")
    builder = new_builder(params.to(HierarchySettings), weights, maps)
    ids, rows, sizes, trees, faults = [], [], [], [], []
    with hdf5.opened(images, IMAGES) as file, one_thread():
        names = hdf5.texts(file, "id")
        shard = {name: hdf5.attribute(file, name) for name in hdf5.SHARD_ATTRS}
        training = np.flatnonzero(file["split"][:] == TRAIN).tolist()
        for row in track(training, len(training), f"hierarchies {images.stem}", "image"):
            try:
                tree = builder.build(names[row], read_rgb(file, row))
            except InputError as fault:
                faults.append(str(fault))
                continue
            except TooManyRegionsError as fault:
                remedy = "make its label map coarser" if maps else "lower hierarchies.longest_side"
                faults.append(f"{images}: image '{names[row]}' has {fault}; {remedy}")
                continue
            trees.append(tree)
            ids.append(names[row])
            rows.append(row)
            sizes.append((int(file["height"][row]), int(file["width"][row]), *tree.basins.shape))
    if faults:
        more = f" ({len(faults) - 1} more of the shard's {len(training)} training images have faults too)"
        raise InputError(faults[0] + (more if len(faults) > 1 else ""))
    size = np.array(sizes, np.int32).reshape(-1, 4)
    arrays = {
        "id": np.array(ids, object),
        "row": np.array(rows, np.int32),
        **{name: size[:, i] for i, name in enumerate(("height", "width", "work_height", "work_width"))},
        **hdf5.Ragged.pack("basins", [tree.basins for tree in trees], "uint16"),
        **hdf5.Ragged.pack("parents", [tree.parents for tree in trees], "int32"),
        **hdf5.Ragged.pack("heights", [tree.heights for tree in trees], "float32"),
    }
    hdf5.write(out, HIERARCHIES, arrays, {"method": params.method, "settings": builder.settings, **shard})
