"""Images and masks → one shard of the data set, checked and counted.

Reads
    the raw folder in VOC layout (and SBD's) or in COCO's, or draws the built-in scenes.
Writes
    ``images`` (HDF5): the encoded bytes of every ``shards``-th image and mask, with pixel counts per class. Later
    stages read only this, so a team can share it and a GPU machine needs no raw folder.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN, VAL
from novelseg.core.options import Help
from novelseg.core.progress import say, track
from novelseg.data.classes import VOC
from novelseg.data.coco import Coco
from novelseg.data.pairs import Pair, Reader
from novelseg.data.scenes import CLASSES, SceneSettings, write_voc
from novelseg.data.voc import Voc
from novelseg.formats import hdf5
from novelseg.formats.images import IMAGES
from stages.options import Out
from stages.params.images import Params
from stages.params.scenes import Scenes


def run(
    *,
    root: Annotated[Path | None, Help("raw folder; not for the built-in data")] = None,
    sbd: Annotated[Path | None, Help("folder of SBD")] = None,
    out: Out,
    shard: Annotated[int, Help("number of the shard, from 0")],
    params: Params,
    scenes: Scenes,
) -> None:
    """Write shard number ``shard`` (0…shards−1): every ``shards``-th image of the lists, from that number on."""
    lists = (params.train_list, params.val_list)
    if params.source == "scenes":
        with tempfile.TemporaryDirectory() as folder:
            total = scenes.train + scenes.val
            write_voc(Path(folder), scenes.to(SceneSettings), range(shard, total, params.shards))
            _write_shard(Voc(Path(folder), None, lists, list(CLASSES)), folder, out, shard, params)
        return
    for key, given, wanted in (("root", root, params.root), ("sbd", sbd, params.sbd)):
        if wanted and (given is None or not given.is_dir()):
            raise InputError(f"{given or wanted}: no such folder; set images.{key} in params.yaml to the raw data")
    if root is None:
        raise InputError("--root is missing; give the folder of images.root")
    if params.source == "voc":
        _write_shard(Voc(root, sbd, lists, params.classes or list(VOC), params.exclude), str(root), out, shard, params)
        return
    reader = Coco(root, lists, params.classes, shard, params.shards, params.exclude)
    _write_shard(reader, str(root), out, shard, params)
    if reader.hidden:
        say(f"images {shard}: {reader.hidden} objects leave no pixel: too small, or wholly below smaller ones")


def _pairs(reader: Reader, where: str, shard: int, params: Params) -> list[Pair]:
    """All pairs of a shard; or the first fault, and how many more there are."""
    entries = reader.entries[shard :: params.shards]
    if not entries:
        raise InputError(f"{where}: shard {shard} of {params.shards} is empty; lower images.shards")
    if params.exclude and shard == 0:
        say(f"images: {len(params.exclude)} of images.exclude left out: {', '.join(params.exclude)}")
    pairs, faults = [], []
    for entry in track(entries, len(entries), f"images {shard}", "image"):
        try:
            pairs.append(reader.read(entry))
        except InputError as fault:
            faults.append(str(fault))
    if faults:
        more = f" ({len(faults) - 1} more of the shard's {len(entries)} images are bad too)" if len(faults) > 1 else ""
        raise InputError(faults[0] + more)
    return pairs


def _list_digests(reader: Reader) -> list[str]:
    """MD5 of the ids of the training and of the validation list, one a line, in order."""
    texts = ["".join(f"{entry.name}\n" for entry in reader.entries if entry.split == split) for split in (TRAIN, VAL)]
    return [hashlib.md5(text.encode()).hexdigest() for text in texts]


def _write_shard(reader: Reader, where: str, out: Path, shard: int, params: Params) -> None:
    pairs = _pairs(reader, where, shard, params)
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
    attrs = {
        "classes": reader.names,
        "source": f"{params.source}+sbd" if params.sbd else params.source,
        "lists": [params.train_list, params.val_list],
        "list_digests": _list_digests(reader),
    }
    hdf5.write(out, IMAGES, arrays, attrs)
