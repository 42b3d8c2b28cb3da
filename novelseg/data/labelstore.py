"""Random access to pseudo labels across shards, with one image's in memory at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.store import OpenShards
from novelseg.formats import hdf5
from novelseg.formats.pseudolabels import PSEUDOLABELS


class PseudoLabelStore(OpenShards):
    """Pseudo-label maps, by image id; the order of the shards does not matter."""

    def __init__(self, paths: list[Path], fold: int) -> None:
        super().__init__(paths, PSEUDOLABELS)
        encoder = hdf5.attribute(self.files[0], "encoder")
        for path, file in zip(paths, self.files, strict=True):
            hdf5.require(path, file, "fold", fold)
            hdf5.require(path, file, "encoder", encoder)
        self.clusters: list[int] = hdf5.attribute(self.files[0], "clusters")
        self._rows: dict[str, tuple[hdf5.Artifact, int]] = {}
        for path, file in zip(paths, self.files, strict=True):
            hdf5.require(path, file, "clusters", self.clusters)
            for row, name in enumerate(hdf5.texts(file, "id")):
                if name in self._rows:
                    raise InputError(
                        f"{path}: has pseudo labels of '{name}', as does {self._rows[name][0].path}; give every shard "
                        "once"
                    )
                self._rows[name] = file, row

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._rows

    def require(self, ids: list[str]) -> None:
        """Check that every image has pseudo labels.

        Raises
        ------
        InputError
            If an image has none; the message names the first.
        """
        absent = [name for name in ids if name not in self._rows]
        if absent:
            raise InputError(
                f"{len(absent)} training images have no pseudo labels in the given shards, '{absent[0]}' among them; "
                "give all shards, or rerun `pseudolabels`"
            )

    def labels(self, image_id: str) -> NDArray[np.uint8]:
        """Return the labels of an image at the three levels, (3, H, W) uint8."""
        file, row = self._rows[image_id]
        flat = hdf5.Ragged.get(file, "labels", row)
        labels = flat.reshape(3, int(file["height"][row]), int(file["width"][row]))
        for level, count in zip(labels, self.clusters, strict=True):
            if ((level >= 2 * count) & (level != VOID)).any():
                raise file.wrong(f"the pseudo labels of '{image_id}' name prototypes that do not exist")
        return labels
