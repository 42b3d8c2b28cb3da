"""Predictors of a fitted segmenter: the logits of a few pictures at the size that the network sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.extraction import FeatureExtractor, groups_by_size
from novelseg.inference.findings import UNCALIBRATED, Calibration
from novelseg.methods.bank import SupportBank
from novelseg.methods.closed_form.head import Head, combine, statistics_of, support_cells
from novelseg.methods.closed_form.presence import Expectation, expect
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.contract import Case, Refiner
from novelseg.methods.matching.predictor import MatchingPredictor

Images = list[NDArray[np.uint8]]
# Of the closed-form head's logits with one support and with several.
CALIBRATION_ONE, CALIBRATION_SEVERAL = Calibration(0.96, -0.45), Calibration(0.90, -0.27)

LEAST_COMPARED = 8  # pictures or windows whose measures can be compared with each other


class MissingCellsError(ValueError):
    """Error about a label that is at the centre of no feature cell of the supports, where some methods learn.

    Attributes
    ----------
    label
        0 background, 1 … K classes.
    """

    def __init__(self, label: int) -> None:
        super().__init__(f"label {label} is at the centre of no cell")
        self.label = label


def _require_cells(labels: Sequence[Tensor], classes: int) -> None:
    """Check that each class, and the background, is at the centre of a cell."""
    shown = {int(label) for part in labels for label in part.unique()}
    for label in (*range(1, classes + 1), 0):
        if label not in shown:
            raise MissingCellsError(label)


class Prediction(NamedTuple):
    """Prediction of one picture.

    Attributes
    ----------
    logits : (K, h, w)
        Logits of the classes against the background.
    presence : (K,)
        Logits of the classes' presence; None if the method gives none.
    measures : (K, 5)
        The five measures from which presence was judged (``presence.MEASURES``); None if the method gives none.
    """

    logits: Tensor
    presence: Tensor | None = None
    measures: Tensor | None = None


class Predictor(Protocol):
    """A fitted method; its calibration is that of its logits."""

    calibration: Calibration

    def __call__(self, images: Images) -> list[Prediction]:
        """Predict pictures, (H, W, 3) RGB at the size that the network sees, and return one result each, in order."""

    def compare(self, predictions: list[Prediction]) -> list[Prediction]:
        """Judge presence in the windows of a picture in comparison to each other."""


class ClosedForm:
    """The closed-form head, fitted to the supports of all classes; it keeps nothing of them.

    Parameters
    ----------
    extract
        The encoder.
    head
        The fitted head.
    expectation
        Reference values with which the measures of a picture's masks are compared.
    supports
        Number of supports that it was fitted to.
    """

    def __init__(self, extract: FeatureExtractor, head: Head, expectation: Expectation, supports: int) -> None:
        self._extract, self._supports = extract, supports
        self.head, self.expectation = head, expectation
        self.calibration = CALIBRATION_ONE if supports == 1 else CALIBRATION_SEVERAL

    def adapted(self, measures: Tensor) -> ClosedForm:
        """Return a predictor that judges presence in comparison to pictures with these measures, (N, K, 5)."""
        return ClosedForm(self._extract, self.head, self.expectation.relative_to(measures), self._supports)

    def __call__(self, images: Images) -> list[Prediction]:
        """See :class:`Predictor`."""
        return [self._predict(features) for features in features_of(self._extract, images)]

    def compare(self, predictions: list[Prediction]) -> list[Prediction]:
        """See :class:`Predictor`; few windows, or an adapted predictor, leave presence as it is."""
        measures = [one.measures for one in predictions if one.measures is not None]
        if len(measures) < LEAST_COMPARED or bool(self.expectation.spread.any()):
            return predictions
        expectation = self.expectation.relative_to(torch.stack(measures))
        return [one._replace(presence=expectation.logits(own)) for one, own in zip(predictions, measures, strict=True)]

    def _predict(self, features: Tensor) -> Prediction:
        unit = F.normalize(features, dim=0)
        logits = self.head.scores_of(unit)
        measures = self.expectation.measures(self.head, unit, logits)
        return Prediction(logits, self.expectation.logits(measures), measures)


def fit_closed_form(
    extract: FeatureExtractor, images: Images, masks: Images, classes: int, settings: ClosedFormSettings
) -> tuple[Head, Expectation]:
    """Fit the closed-form head, and the reference values for presence.

    Parameters
    ----------
    extract
        The encoder.
    images, masks
        Supports, (H, W, 3) and (H, W) each: 0 background, 1 … K classes, 255 void.
    classes
        Number K of classes.
    settings
        Settings of the head.

    Raises
    ------
    MissingCellsError
        If a class, or the background, is at the centre of no cell.
    """
    units = [F.normalize(features, dim=0) for features in features_of(extract, images)]
    return fit_to_features(extract, units, masks, classes, settings)


def fit_to_features(
    extract: FeatureExtractor, units: Sequence[Tensor], masks: Images, classes: int, settings: ClosedFormSettings
) -> tuple[Head, Expectation]:
    """Fit the closed-form head to the features of supports, (C, h, w) each, of unit length.

    The masks have the size that the encoder saw; see :func:`fit_closed_form` for the rest.
    """
    labels = [
        extract.grid.labels_at_cells(torch.from_numpy(mask).to(unit.device), (unit.shape[1], unit.shape[2]))
        for unit, mask in zip(units, masks, strict=True)
    ]
    supports = [support_cells(unit, own) for unit, own in zip(units, labels, strict=True)]
    _require_cells([one.labels for one in supports], classes)
    statistics = [statistics_of(one, classes, settings) for one in supports]
    return combine(statistics, settings), expect(statistics, units, labels, classes, settings)


def features_of(extract: FeatureExtractor, images: Images) -> Iterator[Tensor]:
    """Yield the features (C, h, w) of pictures in their order; pictures of one size are extracted together."""
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    features: dict[int, Tensor] = {}
    for group in groups_by_size(sizes, extract.batch, extract.batch * max(h * w for h, w in sizes)):
        features |= dict(zip(group, extract([images[number] for number in group]), strict=True))
    for number in range(len(images)):
        yield features.pop(number)


class PerClass:
    """Matching and its refinements, for one class after the other.

    Parameters
    ----------
    extract
        The encoder.
    images, masks
        Supports, (H, W, 3) and (H, W): 0 background, 1 … K classes, 255 void.
    classes
        Number K of classes.
    scale
        Factor of the cosine.
    refiner
        Refinement; None for matching alone.
    keys
        Seed and episode, the keys of random draws.

    Raises
    ------
    MissingCellsError
        If the refinement learns from cells, and a class or the background is at the centre of none.
    """

    def __init__(
        self,
        extract: FeatureExtractor,
        images: Images,
        masks: Images,
        classes: int,
        scale: float,
        refiner: Refiner | None,
        keys: tuple[int, int],
    ) -> None:
        self._images, self._masks = dict(enumerate(images)), masks
        self._supports = [
            tuple(number for number, mask in enumerate(masks) if (mask == label).any())
            for label in range(1, classes + 1)
        ]
        # The budget always keeps the supports, which every episode needs, and the present queries.
        self._bank = SupportBank(extract, self._size, self._images.__getitem__, masks.__getitem__, budget_mb=1)
        self._bank.load(set(self._images))
        if refiner is not None and refiner.learns_from_cells:
            for label, supports in enumerate(self._supports, 1):
                shown = {int(one) for number in supports for one in self._bank.support(number, label).labels.unique()}
                if not {0, 1} <= shown:
                    raise MissingCellsError(label if 1 not in shown else 0)
        self._predictor = MatchingPredictor(self._bank, scale, {"": refiner} if refiner else {})
        self._keys = keys
        self.calibration = UNCALIBRATED

    def _size(self, number: int) -> tuple[int, int]:
        height, width = self._images[number].shape[:2]
        return height, width

    def __call__(self, images: Images) -> list[Prediction]:
        """See :class:`Predictor`."""
        queries = {len(self._masks) + position: image for position, image in enumerate(images)}
        self._images |= queries
        try:
            classes = [self._predict(list(queries), label) for label in range(1, len(self._supports) + 1)]
            return [Prediction(torch.stack([logits[number] for logits in classes])) for number in queries]
        finally:
            self._bank.forget(set(queries))
            for number in queries:
                del self._images[number]

    def compare(self, predictions: list[Prediction]) -> list[Prediction]:
        """See :class:`Predictor`; presence is not judged."""
        return predictions

    def _predict(self, queries: list[int], label: int) -> dict[int, Tensor]:
        """Return the logits (h, w) of one class in each query; of several predictions, the last is the refined one."""
        cases = [Case(*self._keys, number, label, self._supports[label - 1]) for number in queries]
        return {one.case.query: one.logits for one in self._predictor(cases, "matching")}
