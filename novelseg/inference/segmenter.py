"""A segmenter after scikit-learn: ``Segmenter.load(bundle).fit(images, masks).predict(images)``."""

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
from novelseg.inference.inputs import OBJECT, Mask, Photo, colours, listed, named, shown, shown_pair, values_of
from novelseg.methods.bank import SupportBank
from novelseg.methods.contract import Case
from novelseg.methods.matching.predictor import MatchingPredictor
from novelseg.methods.variants import REFINED, SPFL, refined_names, refiners_of
from novelseg.ops.counts import object_iou

VARIANTS = (SPFL, *refined_names(SPFL))
SIDE_PX = 512


@dataclass
class _Resized:
    """Pictures as the network sees them, by number, and the masks of those that are supports."""

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
    """Segments, in new pictures, what a few pictures with masks show.

    Parameters
    ----------
    bundle
        A file that ``novelseg export`` wrote.
    variant
        ``spfl``: matching with prototypes of the supports (A, Eq. 3). ``spfl+srofb-support-only``: a classifier trained
        on the supports. ``spfl+srofb``: the same, refined with confident pixels of each query (A, Sec. 3.4).
        ``spfl+self-support``: matching again with prototypes that hold each query's confident pixels too.
    side
        Longest side at which the network sees a picture, px; larger ones are made smaller, masks come back at the
        picture's own size.
    device
        ``auto``, ``cpu`` or ``cuda``.
    seed, episode
        What the classifier's draws are keyed by, together with ``srofb.seed``. All queries share them, so that a mask
        does not depend on which other pictures are asked; with those of an episode list, masks are the pipeline's.

    Attributes
    ----------
    bundle_
        What the bundle holds.
    n_supports_
        Pictures that it was fitted with.

    Raises
    ------
    InputError
        By every method, for what it cannot use, in one sentence.
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
        """A segmenter whose bundle has been read and found whole."""
        made = cls(bundle, **params)
        made._open()
        return made

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's signature
        """Parameters of the constructor."""
        return {name: getattr(self, name) for name in ("bundle", "variant", "side", "device", "seed", "episode")}

    def set_params(self, **params: Any) -> Self:
        """Change parameters; they hold from the next ``fit`` on."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise InputError(f"the segmenter has no parameter '{name}'; expected one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def fit(self, images: Iterable[Photo], masks: Iterable[Mask]) -> Self:
        """Learn what to look for.

        Parameters
        ----------
        images
            Supports: (H, W, 3) or (H, W) uint8 arrays, PIL pictures, or paths.
        masks
            One each: (H, W) arrays of 1 (or true) the object, 0 the rest and 255 neither, or paths to such files
            (:func:`novelseg.inference.photos.read_mask`).
        """
        photos, labels = list(listed(images, "images")), list(listed(masks, "masks"))
        if len(photos) != len(labels) or not photos:
            raise InputError(f"{len(photos)} images, {len(labels)} masks; expected as many of both, and at least one")
        self._open()
        made = [
            shown_pair(colours(photo), values_of(mask, number), self.side, named(mask, f"mask {number}"))
            for number, (photo, mask) in enumerate(zip(photos, labels, strict=True))
        ]
        self._resized = _Resized(dict(enumerate(image for image, _ in made)), dict(enumerate(mask for _, mask in made)))
        self.n_supports_ = len(made)
        # The budget holds the supports, which every episode asks for, and the queries at hand.
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
        """The classifier learns from cells, and a cell's label is that of its middle pixel: some of both are needed."""
        held = {
            int(label) for image in self._resized.images for label in self._bank.support(image, OBJECT).labels.unique()
        }
        for label, what in ((OBJECT, "object"), (0, "background")):
            if label not in held:
                raise InputError(
                    f"at {self.side} px no mask shows {what} in the middle of a cell, from which the classifier "
                    f"learns; raise side, mark more of it, or take the variant {SPFL}"
                )

    def each(self, images: Iterable[Photo]) -> Iterator[NDArray[np.float32]]:
        """Logits of pictures, one after another, with a few of them held at a time: (H, W) float32, above zero object.

        See :meth:`decision_function`.
        """
        if not hasattr(self, "n_supports_"):
            raise InputError("the segmenter is not fitted; call fit(images, masks) first")
        return self._each(iter(listed(images, "images")))

    def _each(self, photos: Iterator[Photo]) -> Iterator[NDArray[np.float32]]:
        while chunk := list(islice(photos, self._extract.batch)):
            yield from self._predicted([colours(photo) for photo in chunk])

    def decision_function(self, images: Iterable[Photo]) -> list[NDArray[np.float32]]:
        """Logits of the object minus those of the rest, one (H, W) float32 a picture."""
        return list(self.each(images))

    def predict_proba(self, images: Iterable[Photo]) -> list[NDArray[np.float32]]:
        """Probabilities of the object, one (H, W) float32 in [0, 1] a picture; not calibrated."""
        return [probability(logits) for logits in self.each(images)]

    def predict(self, images: Iterable[Photo]) -> list[NDArray[np.uint8]]:
        """Masks, one (H, W) uint8 a picture: 1 the object."""
        return [(logits > 0).astype(np.uint8) for logits in self.each(images)]

    def score(self, images: Iterable[Photo], masks: Iterable[Mask]) -> float:
        """Mean over pictures of the object's IoU; void pixels do not count, and 1 where there is nothing to find."""
        photos, truths = list(listed(images, "images")), list(listed(masks, "masks"))
        if len(photos) != len(truths) or not photos:
            raise InputError(f"{len(photos)} images, {len(truths)} masks; expected as many of both, and at least one")
        found = []
        for number, (logits, truth) in enumerate(zip(self.each(photos), truths, strict=True)):
            mask = values_of(truth, number)
            if mask.shape != logits.shape:
                name = named(truth, f"mask {number}")
                raise InputError(f"{name}: of shape {mask.shape}, its picture {logits.shape}; make them equal")
            iou = object_iou((logits > 0).astype(np.uint8), mask)
            found.append(1.0 if iou is None else iou)
        return float(np.mean(found))

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

    def _predicted(self, images: list[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        variant, side, seed, episode = self._fitted
        supports = tuple(range(self.n_supports_))
        queries = {self.n_supports_ + place: image for place, image in enumerate(images)}
        self._resized.images |= {number: shown(image, side) for number, image in queries.items()}
        try:
            cases = [Case(seed, episode, number, OBJECT, supports) for number in queries]
            made = self._predictor(cases, SPFL)
            found = {one.case.query: one.logits for one in made if one.variant == variant}
        finally:
            self._bank.forget(set(queries))
            for number in queries:
                del self._resized.images[number]
        for number, image in queries.items():
            height, width = image.shape[:2]
            yield self._bank.grid.upsample(found.pop(number)[None, None].float(), (height, width))[0, 0].cpu().numpy()


def probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits to probabilities of the object."""
    return torch.from_numpy(logits).sigmoid().numpy()
