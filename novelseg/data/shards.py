"""Writing of one shard of a data set: its images are read, checked, counted and stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN, VAL
from novelseg.core.progress import say, track
from novelseg.data.pairs import Pair, Reader
from novelseg.formats import hdf5
from novelseg.formats.images import IMAGES, list_digest


def _read_pairs(reader: Reader, where: str, shard: int, shards: int) -> list[Pair]:
    """Read all pairs of a shard; the error for faulty pairs states the first fault and the number of others."""
    entries = reader.entries[shard::shards]
    if not entries:
        raise InputError(f"{where}: shard {shard} of {shards} is empty; lower images.shards")
    pairs, faults = [], []
    for entry in track(entries, len(entries), f"images {shard}", "image"):
        try:
            pairs.append(reader.read(entry))
        except InputError as fault:
            faults.append(str(fault))
    if faults:
        others = f" ({len(faults) - 1} more of the shard's {len(entries)} images are faulty too)"
        raise InputError(faults[0] + (others if len(faults) > 1 else ""))
    return pairs


def _list_digests(reader: Reader) -> list[str]:
    """Return the MD5 of the ids of each list, in order."""
    return [list_digest(entry.name for entry in reader.entries if entry.split == split) for split in (TRAIN, VAL)]


def write_shard(
    out: Path,
    reader: Reader,
    where: str,
    *,
    shard: int,
    shards: int,
    source: str,
    lists: tuple[str, str],
    excluded: list[str],
) -> None:
    """Write a shard of a data set: every ``shards``-th image, starting with number ``shard``.

    Parameters
    ----------
    out
        Path of the artifact ``images``.
    reader
        Reader of the data set.
    where
        Folder of the data set, for messages.
    shard, shards
        Number of the shard, and the number of shards.
    source
        Kind of the data set.
    lists
        Names of the training and the validation list.
    excluded
        Ids that the reader left out; the first shard prints them.

    Raises
    ------
    InputError
        If the shard is empty or an image is faulty.
    """
    if excluded and shard == 0:
        say(f"images: {len(excluded)} left out (images.exclude): {', '.join(excluded)}")
    unprintable = [name for name in reader.names if not name.isprintable()]
    if unprintable:
        raise InputError(
            f"images.classes names {unprintable[0]!a}, which holds a character that cannot be printed; rename the class"
        )
    pairs = _read_pairs(reader, where, shard, shards)
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
    digests = _list_digests(reader)
    attrs = {"classes": reader.names, "source": source, "lists": list(lists), "list_digests": digests}
    hdf5.write(out, IMAGES, arrays, {**attrs, "shard": shard, "shards": shards})
