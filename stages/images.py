"""Images and masks → one shard of the data set, checked and counted.

Reads
    the raw folder in VOC layout (or draws the built-in scenes).
Writes
    ``images`` (HDF5): the encoded bytes of every ``shards``-th image and mask, with pixel counts per class. Later
    stages read only this, so a team can share it and a GPU machine needs no raw folder.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from stages.artifacts import hdf5
from stages.artifacts.formats.images import IMAGES
from stages.core.errors import InputError
from stages.core.progress import track
from stages.data import classes, voc
from stages.data.scenes import CLASSES, write_voc
from stages.sections.images import Params
from stages.sections.scenes import Scenes

READERS = {"scenes": CLASSES, "voc": classes.VOC}


def run(*, root: Path | None = None, out: Path, shard: int, params: Params, scenes: Scenes) -> None:
    """Write shard number ``shard`` (0…shards−1): every ``shards``-th image of the lists, from that number on."""
    if params.source == "scenes":
        with tempfile.TemporaryDirectory() as folder:
            total = scenes.train + scenes.val
            write_voc(Path(folder), scenes, range(shard, total, params.shards))
            _write_shard(Path(folder), out, shard, params)
        return
    if root is None or not root.is_dir():
        raise InputError(
            f"{root or params.root}: no such folder; set images.root in params.yaml to a folder in VOC layout"
        )
    _write_shard(root, out, shard, params)


def _write_shard(root: Path, out: Path, shard: int, params: Params) -> None:
    names = READERS[params.source]
    entries = voc.read_lists(root, params.train_list, params.val_list)[shard :: params.shards]
    if not entries:
        raise InputError(f"{root}: shard {shard} of {params.shards} is empty; lower images.shards")
    pairs, faults = [], []
    for entry in track(entries, len(entries), f"images {shard}", "image"):
        try:
            pairs.append(voc.read_pair(root, entry, len(names)))
        except InputError as fault:
            faults.append(str(fault))
    if faults:
        more = f" ({len(faults) - 1} more of the shard's {len(entries)} images are bad too)" if len(faults) > 1 else ""
        raise InputError(faults[0] + more)
    arrays = {
        "id": np.array([pair.entry.name for pair in pairs], object),
        "position": np.array([pair.entry.position for pair in pairs], np.int32),
        "split": np.array([pair.entry.split for pair in pairs], np.uint8),
        "height": np.array([pair.height for pair in pairs], np.int32),
        "width": np.array([pair.width for pair in pairs], np.int32),
        "pixels": np.stack([pair.pixels for pair in pairs]),
        "void": np.array([pair.void for pair in pairs], np.int64),
        **hdf5.Ragged.pack("image", [pair.image for pair in pairs], "uint8"),
        **hdf5.Ragged.pack("mask", [pair.mask for pair in pairs], "uint8"),
    }
    hdf5.write(
        out,
        IMAGES,
        arrays,
        {"classes": list(names), "source": params.source, "lists": [params.train_list, params.val_list]},
    )
