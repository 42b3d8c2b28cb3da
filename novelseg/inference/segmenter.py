"""Segmenter with scikit-learn's interface: ``Segmenter.load(bundle).fit(images, masks).predict(images)``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.compute import pick_device
from novelseg.core.errors import InputError
from novelseg.inference.bundle import load_bundle
from novelseg.inference.inputs import OBJECT, Mask, Photo, labels_of, name_of, resize, resize_pair, rgb_of, several
from novelseg.methods.bank import SupportBank
from novelseg.methods.contract import Case, require_finite
from novelseg.methods.matching.predictor import MatchingPredictor
from novelseg.methods.variants import REFINED, SPFL, refined_names, refiners_of
from novelseg.ops.counts import object_iou

VARIANTS = (SPFL, *refined_names(SPFL))
SIDE_PX = 512


@dataclass
class _ResizedImages:
    """Pictures at the size that the network sees, by number, and the masks of the supports among them."""

    images: dict[int, NDArray[np.uint8]]
    masks: dict[int, NDArray[np.uint8]]

    def size(self, number: int) -> tuple[int, int]:
        height, width = self.images[number].shape[:2]
        return height, width

    def image(self, number: int) -> NDArray[np.uint8]:
        return self.images[number]

    def mask(self, number: int) -> NDArray[np.uint8]:
        return self.masks[number]


class Segmenter:
    """Segmenter of an object that a few pictures with masks show.

    Parameters
    ----------
    bundle
        A file that ``novelseg export`` wrote.
    variant
        ``spfl``: matching with prototypes of the supports (A, Eq. 3). ``spfl+srofb-support-only``: a classifier trained
        on the supports. ``spfl+srofb``: the same, refined with confident pixels of each query (A, Sec. 3.4).
        ``spfl+self-support``: matching again with prototypes that include each query's confident pixels.
    side
        Longest side at which the network sees a picture, px. Larger pictures are reduced; masks have the pictures' own
        size.
    device
        ``auto``, ``cpu`` or ``cuda``.
    seed, episode
        Keys of the classifier's random draws, together with ``srofb.seed``. All queries share them, so that a mask does
        not depend on the other queries; with the keys of an episode list, masks are the same as in the pipeline.

    Attributes
    ----------
    bundle_
        Content of the bundle.
    n_supports_
        Number of supports that it was fitted with.

    Raises
    ------
    InputError
        By every method, if an input cannot be used.
    """

    def __init__(
        self,
        bundle: Path | str,
        *,
        variant: str = REFINED,
        side: int = SIDE_PX,
        device: str = "auto",
        seed: int = 0,
        episode: int = 0,
    ) -> None:
        self.bundle, self.variant, self.side, self.device = bundle, variant, side, device
        self.seed, self.episode = seed, episode

    @classmethod
    def load(cls, bundle: Path | str, **params: Any) -> Self:
        """Return a segmenter whose bundle has been read and checked."""
        segmenter = cls(bundle, **params)
        segmenter._open()
        return segmenter

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's signature
        """Return the parameters of the constructor."""
        return {name: getattr(self, name) for name in ("bundle", "variant", "side", "device", "seed", "episode")}

    def set_params(self, **params: Any) -> Self:
        """Change parameters, with effect from the next ``fit`` on."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise InputError(f"the segmenter has no parameter '{name}'; expected one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def fit(self, images: Iterable[Photo], masks: Iterable[Mask]) -> Self:
        """Learn the object from supports.

        Parameters
        ----------
        images
            Supports: (H, W, 3) or (H, W) uint8 arrays, PIL pictures, or paths.
        masks
            One mask per support: (H, W) arrays of 1 (or true) for the object, 0 for the rest and 255 for void pixels,
            PIL pictures, or paths (:func:`novelseg.inference.photos.read_mask`).
        """
        pairs = _pairs(images, masks)
        self._open()
        supports = [
            resize_pair(rgb_of(photo), labels_of(mask, number), self.side, name_of(mask, f"mask {number}"))
            for number, (photo, mask) in enumerate(pairs)
        ]
        self._resized = _ResizedImages(
            dict(enumerate(image for image, _ in supports)), dict(enumerate(mask for _, mask in supports))
        )
        self.n_supports_ = len(supports)
        # The budget always keeps the supports, which every episode needs, and the present queries.
        self._bank = SupportBank(
            self._extract, self._resized.size, self._resized.image, self._resized.mask, budget_mb=1
        )
        self._bank.load(set(self._resized.images))
        settings = replace(self.bundle_.refiners, half=self._extract.half)
        refiners = refiners_of(SPFL, [self.variant], settings)
        if any(refiner.learns_from_cells for refiner in refiners.values()):
            self._check_cells()
        self._predictor = MatchingPredictor(self._bank, self.bundle_.record.scale, refiners)
        self._fitted = self.variant, self.side, self.seed, self.episode
        return self

    def _check_cells(self) -> None:
        """Check that the masks give cells of object and of background, from which the classifier learns.

        The label of a cell is that of its middle pixel, so that a small object may have no cell.
        """
        labels = {
            int(label) for image in self._resized.images for label in self._bank.support(image, OBJECT).labels.unique()
        }
        for label, what in ((OBJECT, "object"), (0, "background")):
            if label not in labels:
                raise InputError(
                    f"at {self.side} px no mask has {what} in the middle of a feature cell, which the classifier "
                    f"needs; raise side, mark more of it, or choose the variant {SPFL}"
                )

    def each(self, images: Iterable[Photo]) -> Iterator[NDArray[np.float32]]:
        """Yield the logits of pictures one by one, (H, W) float32, with only a few pictures in memory.

        Logits above zero mean the object; see :meth:`decision_function`.
        """
        if not hasattr(self, "n_supports_"):
            raise InputError("the segmenter is not fitted; call fit(images, masks) first")
        return self._each(iter(several(images, "images")))

    def _each(self, photos: Iterator[Photo]) -> Iterator[NDArray[np.float32]]:
        while chunk := list(islice(photos, self._extract.batch)):
            yield from self._predict([rgb_of(photo) for photo in chunk])

    def decision_function(self, images: Iterable[Photo]) -> list[NDArray[np.float32]]:
        """Return the logits of the object minus those of the rest, one (H, W) float32 array per picture."""
        return list(self.each(images))

    def predict_proba(self, images: Iterable[Photo]) -> list[NDArray[np.float32]]:
        """Return the probabilities of the object, one (H, W) float32 array in [0, 1] per picture; not calibrated."""
        return [probability(logits) for logits in self.each(images)]

    def predict(self, images: Iterable[Photo]) -> list[NDArray[np.uint8]]:
        """Return the masks, one (H, W) uint8 array per picture, in which 1 is the object."""
        return [(logits > 0).astype(np.uint8) for logits in self.each(images)]

    def score(self, images: Iterable[Photo], masks: Iterable[Mask]) -> float:
        """Return the object's IoU, averaged over pictures.

        Void pixels do not count. A picture in which neither mask has the object counts as 1.
        """
        pairs = _pairs(images, masks)
        scores = []
        for number, (logits, (_, truth)) in enumerate(zip(self.each(photo for photo, _ in pairs), pairs, strict=True)):
            mask = labels_of(truth, number)
            if mask.shape != logits.shape:
                name = name_of(truth, f"mask {number}")
                raise InputError(
                    f"{name}: the mask has the shape {mask.shape}, its picture {logits.shape}; make them equal"
                )
            iou = object_iou((logits > 0).astype(np.uint8), mask)
            scores.append(1.0 if iou is None else iou)
        return float(np.mean(scores))

    def _open(self) -> None:
        """Read the bundle and check the parameters."""
        if self.variant not in VARIANTS:
            raise InputError(f"variant is '{self.variant}'; expected one of {', '.join(VARIANTS)}")
        if self.side < 1:
            raise InputError(f"side is {self.side}; expected at least 1 px")
        if getattr(self, "_opened", None) == (self.bundle, self.device):
            return
        self.bundle_ = load_bundle(Path(self.bundle))
        device = pick_device(self.device)
        self._extract = FeatureExtractor(self.bundle_.encoder, self.bundle_.record.precision, device)
        self._opened = self.bundle, self.device

    def _predict(self, images: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        variant, side, seed, episode = self._fitted
        supports = tuple(range(self.n_supports_))
        queries = {self.n_supports_ + position: image for position, image in enumerate(images)}
        self._resized.images |= {number: resize(image, side) for number, image in queries.items()}
        try:
            cases = [Case(seed, episode, number, OBJECT, supports) for number in queries]
            predictions = self._predictor(cases, SPFL)
            logits = {one.case.query: one.logits for one in predictions if one.variant == variant}
        finally:
            self._bank.forget(set(queries))
            for number in queries:
                del self._resized.images[number]
        for number, image in queries.items():
            require_finite(logits[number][None], [f"picture {number - self.n_supports_} with '{variant}'"])
            height, width = image.shape[:2]
            yield self._bank.grid.upsample(logits.pop(number)[None, None].float(), (height, width))[0, 0].cpu().numpy()


def _pairs(images: Iterable[Photo], masks: Iterable[Mask]) -> list[tuple[Photo, Mask]]:
    """Pair pictures with masks and refuse different numbers of both."""
    photos, labels = list(several(images, "images")), list(several(masks, "masks"))
    if len(photos) != len(labels) or not photos:
        raise InputError(f"{len(photos)} images, {len(labels)} masks; expected as many of both, and at least one")
    return list(zip(photos, labels, strict=True))


def probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert logits to probabilities of the object."""
    return torch.from_numpy(logits).sigmoid().numpy()
