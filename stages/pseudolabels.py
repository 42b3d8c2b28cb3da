"""Label every pixel with its nearest prototype at three levels, for one shard of a fold (A, Eq. 3).

Reads
    ``index``, ``images`` (one shard), the fold's 1-shot Baseline F_p, ``prototypes``.
Writes
    ``pseudolabels`` (HDF5): three uint8 maps per training image; fg 0…K−1, bg K…2K−1, 255 void.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray

from novelseg.backbones.encoder import load_encoder
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.compute import pick_device, use_threads
from novelseg.core.options import Help
from novelseg.data.index import read_index
from novelseg.data.store import read_mask, read_rgb, shard_number
from novelseg.formats import hdf5
from novelseg.formats.images import IMAGES
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.methods.spfl.prototypes import read_prototypes
from novelseg.methods.spfl.pseudolabels import pseudo_labels
from stages.options import Device, Encoder, Fold, ImageShard, IndexFile, Out, Threads
from stages.provenance.digests import digest_once


def run(
    *,
    index: IndexFile,
    images: ImageShard,
    encoder: Encoder,
    prototypes: Annotated[Path, Help("prototypes of the fold")],
    out: Out,
    fold: Fold,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Label every pixel of a shard's training images with its nearest prototype, level by level."""
    use_threads(threads)
    data, torch_device = read_index(index), pick_device(device)
    net, record = load_encoder(encoder, fold, data.base_names(fold))
    extract = FeatureExtractor(net, record.precision, torch_device)
    encoder_md5 = digest_once(encoder)
    levels = read_prototypes(prototypes, fold, encoder_md5, net.channels, torch_device)
    training_ids = {data.ids[i] for i in data.training_images(fold).tolist()}
    labels: dict[int, NDArray[np.uint8]] = {}
    with hdf5.opened(images, IMAGES) as file:
        names = hdf5.texts(file, "id")
        shard_number(data, names, images)
        shard = {name: hdf5.attribute(file, name) for name in hdf5.SHARD_ATTRS}
        training = [row for row, name in enumerate(names) if name in training_ids]

        def read(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            row = training[number]
            known = data.base_labels(read_mask(file, row), fold)
            return read_rgb(file, row), known

        sizes = [(int(file["height"][row]), int(file["width"][row])) for row in training]
        for number, known, features in extract.each(sizes, read, f"pseudolabels fold {fold} {images.stem}"):
            mask = torch.from_numpy(known).to(torch_device)
            labels[number] = (
                torch.stack([pseudo_labels(features, mask, *centres, net.grid) for centres in levels]).cpu().numpy()
            )
    maps = [labels[number] for number in range(len(training))]
    arrays = {
        "id": np.array([names[row] for row in training], object),
        "row": np.array(training, np.int32),
        "height": np.array([part.shape[1] for part in maps], np.int32),
        "width": np.array([part.shape[2] for part in maps], np.int32),
        **hdf5.Ragged.pack("labels", maps, "uint8"),
    }
    clusters = [len(foreground) for foreground, _ in levels]
    attrs = {"fold": fold, "encoder": encoder_md5, "clusters": clusters, **shard}
    hdf5.write(out, PSEUDOLABELS, arrays, attrs)
