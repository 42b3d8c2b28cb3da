"""Images and masks → one shard of the data set, checked and counted.

Reads
    the raw folder in VOC layout (and SBD's) or in COCO's, or draws the built-in scenes.
Writes
    ``images`` (HDF5): the encoded bytes of every ``shards``-th image and mask, with pixel counts per class. Later
    stages read only this, so a team can share it and a GPU machine needs no raw folder.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

from novelseg.core.errors import InputError
from novelseg.core.options import Help
from novelseg.core.progress import say
from novelseg.data.classes import VOC
from novelseg.data.coco import Coco
from novelseg.data.scenes import CLASSES, SceneSettings, write_voc
from novelseg.data.shards import write_shard
from novelseg.data.voc import Voc
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
    write = partial(
        write_shard,
        out,
        shard=shard,
        shards=params.shards,
        source=f"{params.source}+sbd" if params.sbd else params.source,
        lists=lists,
        excluded=params.exclude,
    )
    if params.source == "scenes":
        with tempfile.TemporaryDirectory() as folder:
            numbers = range(shard, scenes.train + scenes.val, params.shards)
            write_voc(Path(folder), scenes.to(SceneSettings), numbers)
            write(Voc(Path(folder), None, lists, list(CLASSES)), folder)
        return
    for key, given, wanted in (("root", root, params.root), ("sbd", sbd, params.sbd)):
        if wanted and (given is None or not given.is_dir()):
            raise InputError(f"{given or wanted}: no such folder; set images.{key} in params.yaml to the raw data")
    if root is None:
        raise InputError("--root is missing; give the folder of images.root")
    if params.source == "voc":
        write(Voc(root, sbd, lists, params.classes or list(VOC), params.exclude), str(root))
        return
    reader = Coco(root, lists, params.classes, shard, params.shards, params.exclude)
    write(reader, str(root))
    if reader.hidden:
        say(f"images {shard}: {reader.hidden} objects leave no pixel: too small, or wholly below smaller ones")
