"""Windows of a large picture: how they lie, how they are blended, and which of them mark a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from novelseg import Segmenter
from novelseg.backbones.grid import PatchGrid
from novelseg.inference.enlarge import ABSENT, PicturePredictor
from novelseg.inference.findings import UNCALIBRATED
from novelseg.inference.predictors import Images, Prediction
from novelseg.inference.segmenter import PRESENT
from novelseg.inference.tiles import Blend, windows
from tests.commands import novelseg
from tests.conftest import WEIGHTS
from tests.pictures import disc, png


@pytest.mark.parametrize(("height", "width", "side"), [(10, 7, 16), (100, 33, 32), (65, 64, 64), (3, 40, 1)])
def test_windows_cover_a_picture_and_overlap(height: int, width: int, side: int) -> None:
    count = np.zeros((height, width), int)
    found = windows(height, width, side)
    for window in found:
        assert (window.height, window.width) == (min(side, height), min(side, width))
        count[window.slices] += 1
    assert count.min() >= 1
    for starts in ({window.top for window in found}, {window.left for window in found}):
        steps = np.diff(sorted(starts))
        assert (steps <= max(1, side - side // 4)).all()


def test_blended_windows_are_their_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    blend, sums, weights = Blend(2, 20, 31), np.zeros((2, 20, 31)), np.zeros((20, 31))
    for window in windows(20, 31, 8):
        logits = rng.normal(size=(2, window.height, window.width)).astype(np.float32)
        blend.add(window, logits)
        for y in range(window.height):
            for x in range(window.width):
                ends = [
                    min(at + 0.5, side - at - 0.5) * 2 / side for at, side in ((y, window.height), (x, window.width))
                ]
                weight = max(1e-3, min(ends))
                sums[:, window.top + y, window.left + x] += weight * logits[:, y, x]
                weights[window.top + y, window.left + x] += weight
    np.testing.assert_allclose(blend.mean(), sums / weights, rtol=1e-4, atol=1e-5)
    constant = Blend(1, 20, 31)
    for window in windows(20, 31, 8):
        constant.add(window, np.full((1, window.height, window.width), 3, np.float32))
    np.testing.assert_allclose(constant.mean(), 3, rtol=1e-6)


def test_windows_find_what_is_too_small_in_the_whole(tmp_path: Path) -> None:
    image, mask = disc()
    large, truth = disc(side=512, middle=(2000, 2000))[0], np.zeros((512, 512), np.uint8)
    large[200:264, 300:364], truth[200:264, 300:364] = image, mask
    whole = Segmenter(weights=WEIGHTS, side=64).fit(image, mask)
    tiled = Segmenter(weights=WEIGHTS, side=64, tile=True).fit(image, mask)
    assert tiled.score(large, truth) > 0.3 > whole.score(large, truth)
    np.testing.assert_array_equal(tiled.decision_function(image)[0], whole.decision_function(image)[0])
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", 255 * mask)
    png(tmp_path / "q.png", large)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q.png", "--side", 64, "--tile"]
    assert novelseg("segment", *words, "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "out/masks/q.png") as picture:
        np.testing.assert_array_equal(np.array(picture), 255 * tiled.predict(large)[0])


def test_windows_are_compared_with_each_other_if_there_are_eight() -> None:
    image, mask = disc()
    pictures = [disc(middle=(20 + 4 * number, 36))[0] for number in range(9)]
    predictor = Segmenter(weights=WEIGHTS).fit(image, mask)._predictor
    predictions = predictor(pictures)
    assert predictor.compare(predictions[:7]) == predictions[:7]
    compared = torch.stack([one.presence for one in predictor.compare(predictions) if one.presence is not None])
    adapted = Segmenter(weights=WEIGHTS).fit(image, mask).adapt(pictures)._predictor
    expected = torch.stack([one.presence for one in adapted(pictures) if one.presence is not None])
    torch.testing.assert_close(compared, expected, rtol=1e-3, atol=1e-3)
    assert adapted.compare(predictions) == predictions


class StatedViews:
    """A predictor whose views mark everything, with a stated logit and presence each."""

    calibration = UNCALIBRATED

    def __init__(self, views: Sequence[tuple[float, float | None]]) -> None:
        self._views = list(views)

    def __call__(self, images: Images) -> list[Prediction]:
        return [self._next() for _ in images]

    def _next(self) -> Prediction:
        logit, presence = self._views.pop(0)
        return Prediction(torch.full((1, 4, 4), logit), None if presence is None else torch.tensor([presence]))

    def compare(self, predictions: list[Prediction]) -> list[Prediction]:
        return predictions


def blended(logits: Sequence[float]) -> NDArray[np.float32]:
    """Blend the windows of a picture of 16 × 64 px."""
    blend = Blend(1, 16, 64)
    for window, logit in zip(windows(16, 64, 16), logits, strict=True):
        blend.add(window, np.full((1, 16, 16), logit, np.float32))
    return blend.mean()


PRESENCE = (-1.0, 1.1, 3.0, 0.9, -4.0)  # of five windows; 2 below the best one decides


@pytest.mark.parametrize(
    ("least", "whole", "kept", "joined"),
    [
        (PRESENT, 0.5, [1, 2], False),
        (PRESENT, 1.5, [1, 2], True),  # the whole picture is a view as well
        (PRESENT, 5.2, [], True),  # and may be the best one
        (0.0, -9.0, [0, 1, 2, 3, 4], True),  # no decision
        (PRESENT, None, [0, 1, 2, 3, 4], False),  # a variant that does not judge presence
    ],
)
def test_views_much_less_likely_than_the_best_one_do_not_mark(
    least: float, whole: float | None, kept: list[int], joined: bool
) -> None:
    picture = np.zeros((16, 64, 3), np.uint8)
    views = [(3.0, None if whole is None else presence) for presence in PRESENCE]
    shape: dict[str, Any] = {
        "name": "stated",
        "grid": PatchGrid(4),
        "batch": 2,
        "side": 16,
        "tile": True,
        "edges": False,
    }
    for for_masks in (True, False):
        predictor = PicturePredictor(StatedViews([*views, (1.0, whole)]), presence=least, **shape)
        ((logits, prediction),) = predictor.each(iter([picture]), for_masks=for_masks)
        expected = blended([3.0 if number in kept or not for_masks else ABSENT for number in range(5)])
        if joined and for_masks:
            expected = np.maximum(expected, 1.0)
        np.testing.assert_allclose(logits, expected)
        score = None if prediction.presence is None else pytest.approx(float(prediction.presence[0]))
        assert score == (None if whole is None else max(whole, *PRESENCE))
