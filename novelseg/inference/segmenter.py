"""Segmenter with scikit-learn's interface: ``Segmenter(weights="resnet50").fit(images, masks).predict(images)``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.compute import pick_device
from novelseg.core.errors import InputError
from novelseg.core.files import whole_file
from novelseg.core.labels import binary
from novelseg.inference.bundle import load_bundle, pretrained_bundle, save_bundle
from novelseg.inference.enlarge import PicturePredictor, decide_presence
from novelseg.inference.findings import Finding, expected_iou, least_logits, winners
from novelseg.inference.fitted import FitRecord, Fitted
from novelseg.inference.inputs import (
    Masks,
    Photo,
    Photos,
    class_count,
    class_labels_of,
    labels_of,
    listed,
    name_of,
    pairs_of,
    resize_pair,
    rgb_of,
)
from novelseg.inference.predictors import (
    LEAST_COMPARED,
    ClosedForm,
    MissingCellsError,
    PerClass,
    Predictor,
    fit_closed_form,
)
from novelseg.methods.refiners import REFINERS, SEGMENTER_VARIANTS
from novelseg.methods.variants import CLOSED_FORM, MATCHING
from novelseg.ops.components import keep_regions
from novelseg.ops.counts import object_iou

SIDE_PX = 512
PRESENT = 0.15  # probability, with that of presence, from which a pixel is marked; low, to lose few masks


class Segmenter:
    """Segmenter of one or several classes that a few pictures with masks show.

    Parameters
    ----------
    bundle
        A file that ``novelseg export`` wrote; or give ``weights``.
    weights
        Pretrained weights: a file, or a name such as ``resnet50`` (``resnet18``, ``34``, ``50``, ``101``) or
        ``dinov2-vits14`` (``vits14``, ``vitb14`` and ``vitl14``, each also with ``-reg``), downloaded at the first use;
        those of DINOv3 (``dinov3-vits16`` and others) have to be requested from their owners. Nothing is trained then.
    stem
        See :func:`novelseg.backbones.recognise.recognise`; for ``weights`` alone.
    variant
        ``closed-form``: discriminant, several prototypes and self-support, without training
        (:mod:`novelseg.methods.closed_form.head`). ``matching``: matching with prototypes of the supports (A, Eq. 3).
        ``self-support``: matching again with prototypes that include each query's confident pixels.
        ``srofb-support-only``: a classifier trained on the supports. ``srofb``: the same, refined with confident pixels
        of each query (A, Sec. 3.4). ``fssdino``, ``insid3``, ``foris``: training-free heads of other authors;
        ``fssdino-regions`` and so on need the extra ``[regions]``.
    side
        Longest side at which the network sees a picture, px. Larger pictures are reduced; masks have the pictures' own
        size. A vision transformer in a bundle reduces them further, to the side that it was exported with.
    tile
        Whether pictures larger than ``side`` are also predicted in overlapping windows of this side at their own
        resolution, to find small things. Presence is judged in each window and in the reduced picture; a view with a
        much lower score than the best one marks nothing, unless ``presence`` is 0. Variants that do not judge presence
        use the windows alone. Supports are always reduced.
    edges
        Whether the borders of masks follow those of the picture, by a guided filter of the probabilities
        (:mod:`novelseg.inference.edges`).
    threshold
        Sigmoid of the logit from which a pixel belongs to its class.
    presence
        Smallest probability of a marked pixel, that of the class's presence included; a class whose score of presence
        is smaller is not marked at all. 0 marks every class. Only the closed-form head gives such scores.
    min_area
        Smallest number of pixels of a connected region that is kept, at the size of the picture.
    largest
        Whether only the largest region of each class is kept.
    precision
        ``fp32`` or ``bf16``, in which the encoder computes; empty for that of the bundle, and fp32 for ``weights``.
        bf16 is faster on a GPU and on a CPU with bf16 units (ResNet-50: 0.43 of the time, mIoU within 0.1 points), and
        two to four times slower on other CPUs (docs/results/precision.md).
    device
        ``auto``, ``cpu`` or ``cuda``.
    seed, episode
        Keys of the classifier's random draws, together with ``srofb.seed``. All queries share them, so that a mask does
        not depend on the other queries; with the keys of an episode list, logits are the same as in the pipeline.

    Attributes
    ----------
    bundle_
        Content of the bundle.
    n_supports_
        Number of supports that it was fitted with.
    classes_
        Names of the classes that it was fitted with; None for a single class without a name.

    Raises
    ------
    InputError
        By every method, if an input cannot be used.
    """

    def __init__(
        self,
        bundle: Path | str | None = None,
        *,
        weights: Path | str | None = None,
        stem: str = "",
        variant: str = CLOSED_FORM,
        side: int = SIDE_PX,
        tile: bool = False,
        edges: bool = True,
        threshold: float = 0.5,
        presence: float = PRESENT,
        min_area: int = 0,
        largest: bool = False,
        precision: str = "",
        device: str = "auto",
        seed: int = 0,
        episode: int = 0,
    ) -> None:
        self.bundle, self.weights, self.stem, self.variant = bundle, weights, stem, variant
        self.side, self.device, self.seed, self.episode = side, device, seed, episode
        self.tile, self.edges, self.precision = tile, edges, precision
        self.threshold, self.presence, self.min_area, self.largest = threshold, presence, min_area, largest

    def __repr__(self) -> str:
        """Return the call that makes an equal segmenter, without the parameters that have their defaults."""
        defaults = Segmenter().get_params()
        given = [f"{name}={value!r}" for name, value in self.get_params().items() if value != defaults[name]]
        return f"Segmenter({', '.join(given)})"

    def __sklearn_tags__(self) -> Any:
        """Describe the estimator to scikit-learn, which calls this."""
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=True))

    @classmethod
    def load(cls, bundle: Path | str | None = None, **params: Any) -> Self:
        """Return a segmenter whose bundle or weights have been read and checked.

        If the bundle is of :meth:`save`, the segmenter is fitted; it sees pictures at the side of its supports.
        """
        segmenter = cls(bundle, **params)
        segmenter._open()
        if segmenter.bundle_.fitted:
            segmenter._restore(segmenter.bundle_.fitted)
        return segmenter

    def save(self, path: Path | str) -> None:
        """Write the fitted segmenter to one file, a bundle, which :meth:`load` reads without the supports.

        Raises
        ------
        InputError
            If the segmenter is not fitted, or its variant keeps the supports.
        """
        self._require_fitted()
        if not isinstance(self._predictor, ClosedForm):
            raise InputError(
                f"the variant {self._fitted_variant} needs its supports for every picture, so that it cannot be saved; "
                f"choose {CLOSED_FORM}"
            )
        head = self._predictor.head
        record = FitRecord(self.n_supports_, self._fitted_side, list(head.counts), self.classes_)
        refiners = replace(self.bundle_.refiners, closed_form=head.settings)
        fitted = Fitted(head, self._predictor.expectation, record)
        with whole_file(Path(path)) as scratch:
            save_bundle(scratch, replace(self.bundle_, refiners=refiners, fitted=fitted))

    def _restore(self, fitted: Fitted) -> None:
        """Take over what a saved segmenter has learned."""
        if self.variant != CLOSED_FORM:
            raise InputError(f"{self.bundle}: was fitted with {CLOSED_FORM}, not {self.variant}; give that variant")
        head, expectation = fitted.head.to(self._extract.device), fitted.expectation.to(self._extract.device)
        self._predictor: Predictor = ClosedForm(self._extract, head, expectation, fitted.record.supports)
        self.n_supports_, self.classes_ = fitted.record.supports, fitted.record.classes
        self._fitted_side, self._fitted_variant = fitted.record.side, CLOSED_FORM

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's signature
        """Return the parameters of the constructor."""
        network = ("bundle", "weights", "stem", "variant", "side", "tile", "precision")
        masks = ("edges", "threshold", "presence", "min_area", "largest")
        return {name: getattr(self, name) for name in (*network, *masks, "device", "seed", "episode")}

    def set_params(self, **params: Any) -> Self:
        """Change parameters, with effect from the next ``fit`` on; those of the masks have effect at once."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise InputError(f"the segmenter has no parameter '{name}'; expected one of {', '.join(known)}")
            setattr(self, name, value)
        return self

    def fit(self, images: Photos, masks: Masks, classes: Sequence[str] | None = None) -> Self:
        """Learn one or several classes from supports.

        Parameters
        ----------
        images
            Supports: (H, W, 3) or (H, W) uint8 arrays, PIL pictures, or paths. Here and in the other methods, a single
            one is taken as a list of one.
        masks
            One mask per support, as (H, W) arrays, PIL pictures or paths. For a single class: 1 (or true) is the
            object, 0 the rest and 255 void; of an array of 0 and 255 alone, 255 is the object. Files and PIL pictures
            are read as :func:`novelseg.inference.photos.read_mask` says. For several: 0 is the
            background, 1 … K are the classes, 255 is void (:func:`novelseg.inference.photos.read_class_mask`). A mask
            of background alone shows what the classes are not; the closed-form head learns from it.
        classes
            Names of several classes, in the order of their numbers; every mask then holds one or more of them.
        """
        pairs = pairs_of(images, masks)
        count = class_count(classes)
        self._open()
        labels = labels_of if classes is None else partial(class_labels_of, classes=count)
        supports = [
            resize_pair(rgb_of(photo), labels(mask, number), self.side, name_of(mask, f"mask {number}"))
            for number, (photo, mask) in enumerate(pairs)
        ]
        names = None if classes is None else list(classes)
        self._predictor = self._new_predictor([image for image, _ in supports], [mask for _, mask in supports], names)
        self.n_supports_, self.classes_ = len(supports), names
        self._fitted_side, self._fitted_variant = self.side, self.variant
        return self

    def adapt(self, images: Photos) -> Self:
        """Compare pictures with others without masks, to judge better whether a class is present.

        The measures that presence is judged from differ between encoders and classes. After ``fit`` alone they are
        compared with those of the supports; after this method with those of ``images``, which may be the pictures to
        segment. Logits are not changed.

        Parameters
        ----------
        images
            At least eight pictures like those to segment; each class is in some and not in others.

        Raises
        ------
        InputError
            If the segmenter is not fitted, its variant does not judge presence, or there are fewer pictures.
        """
        self._require_fitted()
        if not isinstance(self._predictor, ClosedForm):
            raise InputError(f"the variant {self._fitted_variant} does not judge presence; choose {CLOSED_FORM}")
        predictor = self._picture_predictor()
        measures = [one.measures for photo in listed(images) for one in predictor.predictions(rgb_of(photo))]
        found = [one for one in measures if one is not None]
        if len(found) < LEAST_COMPARED:
            raise InputError(f"{len(found)} pictures to adapt to; expected at least {LEAST_COMPARED}")
        self._predictor = self._predictor.adapted(torch.stack(found))
        return self

    def _new_predictor(
        self, images: list[NDArray[np.uint8]], masks: list[NDArray[np.uint8]], classes: list[str] | None
    ) -> Predictor:
        count = len(classes or [""])
        settings = replace(self.bundle_.refiners, half=self._extract.half)
        shown = {int(label) for mask in masks for label in np.unique(mask)}
        if absent := [label for label in range(1, count + 1) if label not in shown]:
            what = "an object" if classes is None else f"class {absent[0]}"
            raise InputError(f"no mask has {what}; give a support of each class")
        try:
            if self.variant == CLOSED_FORM:
                fitted = fit_closed_form(self._extract, images, masks, count, settings.closed_form)
                return ClosedForm(self._extract, *fitted, len(images))
            refiner = None if self.variant == MATCHING else REFINERS[self.variant](settings)
            keys = self.seed, self.episode
            return PerClass(self._extract, images, masks, count, self.bundle_.record.scale, refiner, keys)
        except MissingCellsError as error:
            what = "background" if not error.label else "object" if count == 1 else f"class {error.label}"
            raise InputError(
                f"at {self.side} px no mask has {what} in the middle of a feature cell, which {self.variant} needs; "
                f"raise side, mark more of it, or choose the variant {MATCHING}"
            ) from None

    def each(self, images: Photos) -> Iterator[NDArray[np.float32]]:
        """Yield the logits of pictures one by one, with only a few pictures in memory.

        See :meth:`decision_function`.
        """
        self._require_fitted()
        found = self._picture_predictor().each(iter(listed(images)), least=None)
        return (self._of_classes(logits) for logits, _ in found)

    def findings(self, images: Photos) -> Iterator[Finding]:
        """Yield what is found in pictures one by one: logits, masks, and scores of presence and quality."""
        self._require_fitted()
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold is {self.threshold}; expected a number above 0 and below 1")
        if not 0 <= self.presence <= 1:
            raise InputError(f"presence is {self.presence}; expected 0 to 1")
        return self._findings(iter(listed(images)))

    def _picture_predictor(self) -> PicturePredictor:
        return PicturePredictor(
            self._predictor,
            self._fitted_variant,
            self._extract.grid,
            self._extract.batch,
            self._fitted_side,
            tile=self.tile,
            edges=self.edges,
            presence=self.presence,
        )

    def _of_classes(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (K, H, W) as they are, or (H, W) of a single class without a name."""
        return logits[0] if self.classes_ is None else logits

    def _findings(self, photos: Iterator[Photo]) -> Iterator[Finding]:
        least = float(np.log(self.threshold / (1 - self.threshold)))
        calibration = self._predictor.calibration
        for logits, prediction in self._picture_predictor().each(photos, least=least):
            presence, present = decide_presence(prediction, self.presence)
            lowest = [least] * len(present)
            if presence is not None:
                own = least_logits(least, self.presence, presence, calibration)
                lowest = np.where(present, own, least).tolist()
            mask = winners(logits, np.where(present, lowest, np.inf).tolist())
            if self.min_area > 1 or self.largest:
                mask = keep_regions(mask, self.min_area, self.largest)
            quality = expected_iou(prediction.logits.float(), lowest, calibration).cpu().numpy()
            yield Finding(self._of_classes(logits), mask, calibration, presence, present, quality)

    def decision_function(self, images: Photos) -> list[NDArray[np.float32]]:
        """Return the logits of the classes against the background, one float32 array per picture.

        (H, W) for a single class, (K, H, W) for several, as the variant gives them: whether the object is in the
        picture at all is not a part of them, nor are ``edges``. With ``tile``, they are those of the windows alone.
        """
        return list(self.each(images))

    def predict_proba(self, images: Photos) -> list[NDArray[np.float32]]:
        """Return probabilities in [0, 1], one float32 array per picture.

        (H, W) for a single class; (K + 1, H, W) for several, of which the first is the background's. Those of the
        closed-form head are calibrated: for pictures of which one half show the object.
        """
        return [finding.probability for finding in self.findings(images)]

    def predict(self, images: Photos) -> list[NDArray[np.uint8]]:
        """Return the masks, one (H, W) uint8 array per picture: 0 background, 1 … K the classes."""
        return [finding.mask for finding in self.findings(images)]

    def score(self, images: Photos, masks: Masks) -> float:
        """Return the IoU of the object, or the mean of the classes', averaged over pictures.

        Void pixels do not count. A class that neither mask has does not count; a picture without any counts as 1.
        """
        pairs = pairs_of(images, masks)
        scores = []
        findings = self.findings([photo for photo, _ in pairs])
        for number, (finding, (_, truth)) in enumerate(zip(findings, pairs, strict=True)):
            count = len(self.classes_ or [""])
            mask = labels_of(truth, number) if self.classes_ is None else class_labels_of(truth, number, count)
            predicted, size = finding.mask, finding.mask.shape
            if mask.shape != size:
                name = name_of(truth, f"mask {number}")
                raise InputError(f"{name}: the mask has the shape {mask.shape}, its picture {size}; make them equal")
            ious = [object_iou(binary(predicted, label), binary(mask, label)) for label in range(1, count + 1)]
            known = [iou for iou in ious if iou is not None]
            scores.append(float(np.mean(known)) if known else 1.0)
        return float(np.mean(scores))

    def _require_fitted(self) -> None:
        if not hasattr(self, "n_supports_"):
            raise InputError("the segmenter is not fitted; call fit(images, masks) first")

    def _open(self) -> None:
        """Read the bundle or the weights and check the parameters."""
        if self.variant not in SEGMENTER_VARIANTS:
            raise InputError(f"variant is '{self.variant}'; expected one of {', '.join(SEGMENTER_VARIANTS)}")
        if self.side < 1:
            raise InputError(f"side is {self.side}; expected at least 1 px")
        if (self.bundle is None) == (self.weights is None):
            raise InputError(
                "expected either a bundle or weights; give weights='resnet50' to start with pretrained weights"
            )
        side = max(self.side, SIDE_PX) if self.weights is not None else 0  # that of a bundle is its own
        if self.precision not in ("", "fp32", "bf16"):
            raise InputError(f"precision is '{self.precision}'; expected fp32 or bf16, or nothing for the bundle's")
        opened = self.bundle, self.weights, self.stem, side, self.precision, self.device
        if getattr(self, "_opened", None) == opened:
            return
        device = pick_device(self.device)
        if self.bundle is not None:
            self.bundle_ = load_bundle(Path(self.bundle))
        elif self.weights is not None:
            self.bundle_ = pretrained_bundle(self.weights, self.stem, side)
        if self.bundle_.caution:
            warnings.warn(self.bundle_.caution, stacklevel=3)
        if self.precision:
            self.bundle_ = replace(self.bundle_, record=replace(self.bundle_.record, precision=self.precision))
        self._extract = FeatureExtractor(self.bundle_.encoder, self.bundle_.record.precision, device)
        self._opened = opened
