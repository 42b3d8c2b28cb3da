"""Random access to images and masks across shards, with one item in memory at a time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.data.encoded import decode_mask, decode_rgb
from novelseg.data.index import Index
from novelseg.formats import hdf5
from novelseg.formats.images import IMAGES


class OpenShards:
    """HDF5 shards that are opened together, and closed together at the end of a ``with`` block."""

    def __init__(self, paths: list[Path], spec: hdf5.Spec) -> None:
        self._stack = ExitStack()
        self.files: list[hdf5.Artifact] = []
        with ExitStack() as opening:
            self.files = [opening.enter_context(hdf5.opened(path, spec)) for path in paths]
            self._stack = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _decode(file: hdf5.Artifact, name: str, row: int) -> NDArray[np.uint8]:
    try:
        data = hdf5.Ragged.get(file, name, row)
        return decode_rgb(data) if name == "image" else decode_mask(data)
    except (OSError, SyntaxError, ValueError) as error:
        image_id = hdf5.texts(file, "id")[row]
        raise InputError(
            f"{file.filename}: the {name} of '{image_id}' does not decode ({error}); delete the file and rerun `images`"
        ) from None


def read_rgb(file: hdf5.Artifact, row: int) -> NDArray[np.uint8]:
    """Read the image in a row of a shard, (H, W, 3) uint8 RGB.

    Raises
    ------
    InputError
        If its bytes are damaged; the message names shard and image.
    """
    return _decode(file, "image", row)


def read_mask(file: hdf5.Artifact, row: int) -> NDArray[np.uint8]:
    """Read the mask in a row of a shard, (H, W) uint8; errors are those of :func:`read_rgb`."""
    return _decode(file, "mask", row)


def shard_number(index: Index, ids: list[str], path: Path) -> int:
    """Return the number that a shard with these images has in the index.

    Raises
    ------
    InputError
        If no shard of the index has these images in this order.
    """
    first = index.ids.index(ids[0]) if ids and ids[0] in index.ids else -1
    number = int(index.shard[first])
    members = np.flatnonzero(index.shard == number)
    if first < 0 or ids != [index.ids[image] for image in members[np.argsort(index.row[members])]]:
        raise InputError(f"{path}: not a shard of the index; give the shards that it was made from, or rerun `index`")
    return number


class ImageStore(OpenShards):
    """Images and masks, by their number in the index; the order of the shards does not matter."""

    def __init__(self, paths: list[Path], index: Index) -> None:
        shard_count = int(index.shard.max()) + 1
        if len(paths) != shard_count:
            raise InputError(
                f"--images: got {len(paths)} shards, but the index was made from {shard_count}; give all, each once"
            )
        super().__init__(paths, IMAGES)
        self._index = index
        by_number = {shard_number(index, hdf5.texts(file, "id"), file.path): file for file in self.files}
        absent = sorted(set(range(shard_count)) - by_number.keys())
        if absent:
            raise InputError(
                f"{paths[0].parent}: shard {absent[0]} of the index is missing, and another is given twice; give all, "
                "each once"
            )
        self.files = [by_number[number] for number in range(shard_count)]

    def image(self, image: int) -> NDArray[np.uint8]:
        """Return an image, (H, W, 3) uint8 RGB."""
        return read_rgb(self.files[self._index.shard[image]], int(self._index.row[image]))

    def mask(self, image: int) -> NDArray[np.uint8]:
        """Return the labels of an image as annotated, (H, W) uint8: 0 background, 1…C, 255 void."""
        return read_mask(self.files[self._index.shard[image]], int(self._index.row[image]))

    def with_mask(self, image: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an image, and its mask as a stack of one label map, (1, H, W)."""
        return self.image(image), self.mask(image)[None]
