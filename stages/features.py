"""Pool one feature vector per region and object, for one shard of a fold.

Reads
    ``index``, ``images`` and ``regions`` (one shard), the fold's 1-shot Baseline F_p; or, if no encoder is trained, a
    pretrained weight file.
Writes
    ``features`` (HDF5): R_bg, one vector per region ∩ background; R_fg, one per (image, base class).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from novelseg.backbones.contract import Backbone
from novelseg.backbones.encoder import load_encoder, pretrained_encoder
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.compute import pick_device, use_threads
from novelseg.core.errors import InputError
from novelseg.core.options import Help
from novelseg.data.index import Index, read_index
from novelseg.data.store import read_mask, read_rgb, shard_number
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.formats.images import IMAGES
from novelseg.formats.record import EncoderRecord
from novelseg.formats.regions import REGIONS
from novelseg.methods.spfl.corpus import PooledVectors, corpus_arrays, pool_labels
from stages.options import Device, Fold, ImageShard, IndexFile, Out, Threads
from stages.params.encoder import EncoderParams
from stages.params.features import Params
from stages.provenance.digests import digest_once


def _load(
    encoder: Path | None, weights: Path | None, backbone: EncoderParams, fold: int, data: Index
) -> tuple[Path, Backbone, EncoderRecord]:
    """Load the Baseline or, if nothing is trained, the pretrained encoder; return its file too."""
    if encoder is not None and weights is None:
        return encoder, *load_encoder(encoder, fold, data.base_names(fold))
    if weights is not None and encoder is None:
        return weights, *pretrained_encoder(backbone.spec, weights, precision=backbone.precision)
    raise InputError("expected either --encoder, the weights of a Baseline, or --weights, those of the backbone alone")


def run(
    *,
    index: IndexFile,
    images: ImageShard,
    regions: Annotated[Path, Help("the shard's regions")],
    encoder: Annotated[Path | None, Help("weights of the Baseline; or give --weights")] = None,
    weights: Annotated[Path | None, Help("pretrained weights of the backbone, if encoder.train is none")] = None,
    out: Out,
    fold: Fold,
    params: Params,
    backbone: EncoderParams,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Pool every background region and every base-class object of a shard's training images."""
    use_threads(threads)
    data = read_index(index)
    used, net, record = _load(encoder, weights, backbone, fold, data)
    extract = FeatureExtractor(net, record.precision, pick_device(device))
    training_ids = {data.ids[i] for i in data.training_images(fold).tolist()}
    background, objects = dict[int, PooledVectors](), dict[int, PooledVectors]()
    dropped = np.zeros(2, np.int64)
    with hdf5.opened(images, IMAGES) as image_file, hdf5.opened(regions, REGIONS) as region_file:
        names, rows = hdf5.texts(region_file, "id"), region_file["row"][:]
        image_names = hdf5.texts(image_file, "id")
        shard_number(data, image_names, images)
        if any(row >= len(image_names) or image_names[row] != name for row, name in zip(rows, names, strict=True)):
            raise InputError(f"{regions}: not the regions of the images in {images}; give the same shard of both")
        shard = {name: hdf5.attribute(image_file, name) for name in hdf5.SHARD_ATTRS}
        training = [number for number, name in enumerate(names) if name in training_ids]

        def read(position: int) -> tuple[NDArray[np.uint8], tuple[NDArray[np.uint8], NDArray[np.int32]]]:
            row = int(rows[training[position]])
            known = data.base_labels(read_mask(image_file, row), fold)
            region = hdf5.Ragged.get(region_file, "labels", training[position]).astype(np.int32)
            if region.size != known.size:
                name = names[training[position]]
                raise region_file.wrong(f"the label map of '{name}' differs in size from its image")
            region = region.reshape(known.shape)
            region[known != 0] = -1
            return read_rgb(image_file, row), (known, region)

        sizes = [(int(image_file["height"][row]), int(image_file["width"][row])) for row in rows[training]]
        for position, (known, region), features in extract.each(sizes, read, f"features fold {fold} {images.stem}"):
            area = np.bincount(region[region >= 0], minlength=1)
            small = (area > 0) & (area < params.min_region_area)
            dropped += (int(small.sum()), int(area[small].sum()))
            large = np.flatnonzero(area >= params.min_region_area)
            background[position] = pool_labels(features, region, large, extract.grid)
            classes = np.intersect1d(np.unique(known), data.base(fold))
            objects[position] = pool_labels(features, known.astype(np.int32), classes, extract.grid)
    ids = [names[number] for number in training]
    sides = [("bg", "region", background), ("fg", "class", objects)]
    arrays = [
        corpus_arrays(side, number, [vectors[position] for position in range(len(ids))], ids, net.channels)
        for side, number, vectors in sides
    ]
    hdf5.write(
        out,
        FEATURES,
        arrays[0] | arrays[1],
        {
            "fold": fold,
            "encoder": digest_once(used),
            "dropped_regions": int(dropped[0]),
            "dropped_pixels": int(dropped[1]),
            **shard,
        },
    )
