"""A sheet of the maps of unseen classes (B, Fig. 2)."""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.camclassifier.cache import FOLDS, network_of, read_cache, roles
from benchmarks.camclassifier.episodes import Episodes, episodes_of
from benchmarks.camclassifier.parts import fit_classifier
from novelseg.ops.geometry import square


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw the outline of a mask in red."""
    inner = mask.copy()
    for axis, step in product((0, 1), (-2, 2)):
        inner &= np.roll(mask, step, axis)
    picture = image.copy()
    picture[mask & ~inner] = (255, 0, 0)
    return picture


def draw_sheet(options: argparse.Namespace) -> None:
    """Draw support, query, and its maps by its own and by another support, for the first episode of each class."""
    from PIL import Image

    cache = read_cache(options.cache)
    ((pooling, relu, _, iterations),) = options.settings
    val, rows, side = cache.voc.index.validation_images(), [], cache.side
    train = np.flatnonzero(cache.voc.index.split == 0)
    for fold in range(FOLDS):
        novel, _, known = roles(fold)
        network, part = network_of(cache.encoder, len(known), pooling, relu, options.seed), cache.rows(train, known)
        channels = torch.from_numpy(np.array([known.tolist().index(label) for label in cache.labels(part)]))
        fit_classifier(network, cache.taps[pooling, relu][part], channels, range(iterations), options.seed)
        drawn = episodes_of(cache, val, novel, options.episodes, "report", fold)
        episodes = Episodes(cache, [next(case for case in drawn if case.label == label) for label in novel.tolist()])
        maps = episodes.maps(network)
        priors = {support: episodes.priors(network, maps, support) for support in ("own", "other")}
        for label in novel.tolist():
            number = novel.tolist().index(label)
            case, cells = episodes.cases[number], []
            for image in (case.supports[0], case.query):
                picture, mask = square(cache.voc.image(image), cache.voc.mask(image), side)
                cells.append(outlined(picture.astype(np.uint8), mask == label))
            for prior in priors.values():
                fine = cache.encoder.grid.upsample(prior[number][None, None], (side, side))[0, 0].numpy()
                grey = cells[1].astype(np.float32) * (0.15 + 0.85 * fine[..., None])
                grey[..., 0] += 120 * fine
                cells.append(grey.clip(0, 255).astype(np.uint8))
            rows.append(np.concatenate(cells, axis=1))
    halves = [np.concatenate(rows[start::2]) for start in range(2)]
    Image.fromarray(np.concatenate(halves, axis=1)).save(options.picture)
