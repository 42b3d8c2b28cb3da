"""Write one shard of the data set: checked images and masks, with pixel counts.

Reads
    the folder of the raw data in VOC's layout (and SBD's folder) or in COCO's; the built-in scenes are drawn instead.
Writes
    ``images`` (HDF5): the encoded bytes of every ``shards``-th image and mask, with pixel counts per class. Later
    stages read only this file, so that a team can share it and a GPU machine needs no raw data.
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
    root: Annotated[Path | None, Help("folder of the raw data; not used for the built-in scenes")] = None,
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
        with tempfile.TemporaryDirectory() as scratch:
            numbers = range(shard, scenes.train + scenes.val, params.shards)
            write_voc(Path(scratch), scenes.to(SceneSettings), numbers)
            write(Voc(Path(scratch), None, lists, list(CLASSES)), scratch)
        return
    for key, folder, setting in (("root", root, params.root), ("sbd", sbd, params.sbd)):
        if setting and (folder is None or not folder.is_dir()):
            raise InputError(f"{folder or setting}: no such folder; set images.{key} in params.yaml to the raw data")
    if root is None:
        raise InputError("--root is missing; give the folder that images.root in params.yaml names")
    if params.source == "voc":
        write(Voc(root, sbd, lists, params.classes or list(VOC), params.exclude), str(root))
        return
    reader = Coco(root, lists, params.classes, shard, params.shards, params.exclude)
    write(reader, str(root))
    if reader.hidden:
        say(f"images {shard}: {reader.hidden} objects have no visible pixel, since they are too small or hidden")
