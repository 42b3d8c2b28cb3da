"""Cut the region hierarchies of one shard at a contour threshold into label maps.

Reads
    ``hierarchies`` (one shard).
Writes
    ``regions`` (HDF5): a label map at image resolution for every training image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np

from novelseg.core.options import Help
from novelseg.core.progress import track
from novelseg.formats import hdf5
from novelseg.formats.hierarchies import HIERARCHIES
from novelseg.formats.regions import REGIONS
from novelseg.regions.hierarchy import Hierarchy, cut, tree_fault
from stages.options import Out
from stages.params.regions import Params


def run(*, hierarchies: Annotated[Path, Help("one shard of region hierarchies")], out: Out, params: Params) -> None:
    """Cut every hierarchy of a shard."""
    labels = []
    with hdf5.opened(hierarchies, HIERARCHIES) as file:
        same = {name: file[name][:] for name in ("row", "height", "width")}
        ids = hdf5.texts(file, "id")
        shard = {name: hdf5.attribute(file, name) for name in hdf5.SHARD_ATTRS}
        work = np.stack([file["work_height"][:], file["work_width"][:]], 1)
        for number in track(range(len(ids)), len(ids), f"regions {hierarchies.stem}", "image"):
            parts = {name: hdf5.Ragged.get(file, name, number) for name in ("basins", "parents", "heights")}
            tree = Hierarchy(parts["basins"].reshape(work[number]), parts["parents"], parts["heights"])
            if fault := tree_fault(tree):
                raise file.wrong(f"the tree of '{ids[number]}' is not a hierarchy: {fault}")
            labels.append(cut(tree, params.tau, (int(same["height"][number]), int(same["width"][number]))))
    arrays = {
        **same,
        "id": np.array(ids, object),
        "count": np.array([int(part.max()) + 1 for part in labels], np.int32),
        **hdf5.Ragged.pack("labels", labels, "uint16"),
    }
    hdf5.write(out, REGIONS, arrays, {"tau": params.tau, **shard})
