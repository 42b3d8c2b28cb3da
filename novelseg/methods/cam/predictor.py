"""Predictions of the CAM prior's network (B): scores of masked supports, the map of the class, and the mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.errors import InputError
from novelseg.core.random import key_to_seed
from novelseg.data.index import Index
from novelseg.methods.bank import FeatureBank
from novelseg.methods.cam.equations import next_of_another_class
from novelseg.methods.cam.network import UPSCALE, CamNetwork, CamRecord
from novelseg.methods.cam.objects import masked_object
from novelseg.methods.contract import Case, Prediction
from novelseg.methods.variants import MAP
from novelseg.ops.draws import to_keys
from novelseg.ops.geometry import square

CHUNK = 16  # episodes of one query that are segmented at once

Decode = Callable[[int], NDArray[np.uint8]]
Colours = NDArray[np.uint8] | NDArray[np.float32]  # resized images are not rounded


class CamPredictor:
    """Predictor that uses a CAM prior's network. It reads the image of a query, but never the mask.

    Parameters
    ----------
    network, record
        A trained network and its record.
    fusion
        How several supports are combined: by the mean of their ``scores`` or of their ``maps``.
    threshold
        Value in (0, 1) above which the map alone, without the segmentation branch, predicts foreground.
    index
        The data set.
    image, support_mask
        Functions that decode an image of the index, and its mask; masks are read for supports only.
    device
        Device of the network.
    memory_mb
        Memory for features of queries, MiB; 0 for a default.

    Raises
    ------
    InputError
        In :meth:`blocks`, if a support's object has no pixel at the network's input size, or supports are to be
        exchanged and all episodes are of one class.
    """

    def __init__(
        self,
        network: CamNetwork,
        record: CamRecord,
        fusion: str,
        threshold: float,
        index: Index,
        image: Decode,
        support_mask: Decode,
        device: torch.device,
        memory_mb: int,
    ) -> None:
        self._network, self._fusion, self._threshold = network.to(device), fusion, threshold
        self._index, self._image, self._mask = index, image, support_mask
        self._side = record.size if record.geometry == "resize" else 0
        self._size = (lambda _: (self._side, self._side)) if self._side else index.size
        self._extract = FeatureExtractor(network.encoder, record.precision, device)
        self._bank = FeatureBank(self._extract, self._size, self._query, memory_mb)
        self._scores: dict[tuple[int, int], Tensor] = {}  # (support, class) → its scores, (n,)
        self._lenders: dict[Case, Case] = {}  # in an ablation, the episode whose supports replace an episode's own

    @property
    def count(self) -> int:
        """Number of predictions per episode: the network's, and that of its map alone."""
        return 2

    def _query(self, image: int) -> Colours:
        """Decode a query at the network's input size."""
        colours = self._image(image)
        return square(colours, np.zeros(colours.shape[:2], np.uint8), self._side)[0] if self._side else colours

    def _object(self, image: int, label: int) -> tuple[Colours, NDArray[np.uint8]]:
        """Decode a support with everything but the object set to black, and the mask of the object."""
        picture, mask = masked_object(self._image(image), self._mask(image), label, self._side)
        if not (mask == 1).any():
            raise InputError(
                f"support {self._index.ids[image]}: its '{self._index.classes[label - 1]}' has no pixel at a size of "
                f"{self._side} px; raise cam.size or index.min_object_pixels"
            )
        return picture, mask

    def blocks(self, cases: list[Case], label: str) -> list[list[Case]]:
        """Split episodes into blocks that are predicted one after another; the supports are scored here."""
        supports = sorted({(image, case.label) for case in cases for image in case.supports} - self._scores.keys())
        extracted = self._extract.each(
            [self._size(image) for image, _ in supports],
            lambda number: self._object(*supports[number]),
            f"{label}: supports",
        )
        with torch.inference_mode():
            for number, mask, features in extracted:
                masks = torch.from_numpy(mask).to(features.device)[None]
                self._scores[supports[number]] = self._network.scores(features[None], masks)[0]
        if self._network.prior == "other":
            self._lend(cases)
        return self._bank.blocks(cases, lambda case: {case.query}, label)

    def _lend(self, cases: list[Case]) -> None:
        """Exchange the supports of episodes, each for those of the next episode of another class."""
        lenders = next_of_another_class([case.label for case in cases])
        if any(cases[lender].label == case.label for case, lender in zip(cases, lenders, strict=True)):
            raise InputError("cam.prior is 'other', but all episodes are of one class; expected episodes of several")
        self._lenders = {case: cases[lender] for case, lender in zip(cases, lenders, strict=True)}

    @torch.inference_mode()
    def __call__(self, block: list[Case], variant: str) -> Iterator[Prediction]:
        """Predict a block of episodes with the whole network, and with its normalised map alone."""
        self._bank.load({case.query for case in block})
        for query, group in groupby(block, key=lambda case: case.query):
            cases = list(group)
            for first in range(0, len(cases), CHUNK):
                yield from self._predict(self._bank[query], cases[first : first + CHUNK], variant)

    def _predict(self, features: Tensor, cases: list[Case], variant: str) -> Iterator[Prediction]:
        """Predict a few episodes of one query from its features (C, h, w)."""
        priors = self._priors(features, cases)
        keys = to_keys([key_to_seed("cam", case.seed, case.episode) for case in cases], features.device)
        logits = self._network.segment(features.expand(len(cases), -1, -1, -1), priors, keys)
        differences = logits[:, 1] - logits[:, 0]
        for case, prior, difference in zip(cases, priors, differences, strict=True):
            yield Prediction(case, variant, difference, self._bank.grid.finer(UPSCALE), prior=prior)
            yield Prediction(case, MAP, prior - self._threshold, self._bank.grid)

    def _priors(self, features: Tensor, cases: list[Case]) -> Tensor:
        """Compute the normalised maps (E, h, w) of all episodes of one query."""
        sources = [self._lenders.get(case, case) for case in cases]
        scores = torch.stack(
            [torch.stack([self._scores[image, case.label] for image in case.supports]) for case in sources]
        )
        if self._fusion == "scores":
            return self._network.priors(features, scores.mean(1))
        maps = self._network.priors(features, scores.flatten(0, 1))
        fused: Tensor = maps.unflatten(0, scores.shape[:2]).mean(1)
        return fused
