"""A sheet of the maps of unseen classes (B, Fig. 2)."""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.camclassifier.cache import FOLDS, network_of, read_cache, roles
from benchmarks.camclassifier.episodes import Episodes, episodes_of
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
    """Draw support, query, and the maps by its own and by another support, for the first episode of each class."""
    from PIL import Image

    cache = read_cache(options.cache)
    ((pooling, relu, detach, _),) = options.settings
    val, rows, side = cache.voc.index.validation_images(), [], cache.side
    for fold in range(FOLDS):
        novel, _, known = roles(fold)
        network = network_of(cache.encoder, len(known), pooling, relu, options.seed)
        network.load_state_dict(
            torch.load(options.cache / f"trained-{fold}-{options.seed}-{detach:g}.pt", weights_only=True)
        )
        episodes = Episodes(cache, episodes_of(cache, val, novel, options.episodes, "report", fold))
        maps = episodes.maps(network)
        priors = {support: episodes.priors(network, maps, support) for support in ("own", "other")}
        for label in novel.tolist():
            number = next(n for n, case in enumerate(episodes.cases) if case.label == label)
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
