"""Training images → region hierarchies, one shard (A3).

Reads
    ``images`` (one shard), the learned weights of the region hierarchy, or a folder of label maps.
Writes
    ``hierarchies`` (HDF5): basins, tree and merge heights of every training image. Cutting is another stage, so that a
    new contour threshold recomputes nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic

from novelseg.core.errors import InputError
from novelseg.core.labels import TRAIN
from novelseg.core.options import Help
from novelseg.core.progress import track
from novelseg.core.threads import one_thread
from novelseg.data.labelmaps import read_label_map
from novelseg.data.store import read_rgb
from novelseg.formats import hdf5
from novelseg.formats.hierarchies import HIERARCHIES
from novelseg.formats.images import IMAGES
from novelseg.regions import ucm
from novelseg.regions.hierarchy import Hierarchy, TooManyRegionsError, fit_size, flat
from novelseg.regions.weights import load_model
from stages.options import ImageShard, Out
from stages.params.hierarchies import Params
from stages.provenance.digests import digest_once

# Image id and image → hierarchy.
Builder = Callable[[str, NDArray[np.uint8]], Hierarchy]


def _builder(params: Params, weights: Path | None, maps: Path | None) -> tuple[Builder, dict[str, Any]]:
    """The method's function, and what else its result depends on."""
    if params.method == "precomputed":
        if maps is None or not maps.is_dir():
            raise InputError(f"--maps is {maps}; expected the folder of hierarchies.maps, with one label map an image")
        return lambda name, image: flat(read_label_map(maps, name, (image.shape[0], image.shape[1]))), {}
    if params.method == "felzenszwalb":
        return lambda _, image: flat(felzenszwalb(image, scale=params.scale)), {"scale": params.scale}
    if params.method == "slic":
        return lambda _, image: flat(slic(image, n_segments=params.segments)), {"segments": params.segments}
    if weights is None:
        raise InputError("--weights is missing; give the file of hierarchies.weights")
    model = load_model(weights)
    return lambda _, image: ucm.build(image, model), {"weights": digest_once(weights)}


def _fitted(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    height, width = fit_size(image.shape[0], image.shape[1], longest)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def run(
    *,
    images: ImageShard,
    out: Out,
    weights: Annotated[Path | None, Help("weights of the learned hierarchy (method ucm)")] = None,
    maps: Annotated[Path | None, Help("folder of label maps (method precomputed)")] = None,
    params: Params,
) -> None:
    """Build the hierarchy of every training image of a shard."""
    ids, rows, sizes, trees, faults = [], [], [], [], []
    build, settings = _builder(params, weights, maps)
    if params.method != "precomputed":
        settings["longest_side"] = params.longest_side
    with hdf5.opened(images, IMAGES) as file, one_thread():
        names = hdf5.texts(file, "id")
        training = np.flatnonzero(file["split"][:] == TRAIN).tolist()
        for row in track(training, len(training), f"hierarchies {images.stem}", "image"):
            image = read_rgb(file, row)
            if params.method != "precomputed":
                image = _fitted(image, params.longest_side)
            try:
                trees.append(build(names[row], image))
            except InputError as fault:
                faults.append(str(fault))
            except TooManyRegionsError as fault:
                remedy = "make its label map coarser" if maps else "lower hierarchies.longest_side"
                faults.append(f"{images}: image '{names[row]}' has {fault}; {remedy}")
            ids.append(names[row])
            rows.append(row)
            sizes.append((int(file["height"][row]), int(file["width"][row]), *image.shape[:2]))
    if faults:
        more = f" ({len(faults) - 1} more of the shard's {len(ids)} training images are bad too)"
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
    hdf5.write(out, HIERARCHIES, arrays, {"method": params.method, "settings": settings})
