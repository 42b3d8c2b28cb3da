"""Windows of a large picture: how they lie, how they are blended, and which of them mark a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.composites import compose, cut_out
from benchmarks.views import Views
from novelseg import Segmenter
from novelseg.backbones.grid import PatchGrid
from novelseg.inference.enlarge import ABSENT, TILED_RANGE, PicturePredictor
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
    """A predictor whose views have a stated logit per class everywhere, and a stated presence."""

    calibration = UNCALIBRATED

    def __init__(self, logits: Sequence[Sequence[float]], presence: Sequence[Sequence[float]] | None) -> None:
        self._logits, self._presence = list(logits), None if presence is None else list(presence)

    def __call__(self, images: Images) -> list[Prediction]:
        return [self._next() for _ in images]

    def _next(self) -> Prediction:
        logits = torch.tensor(self._logits.pop(0))[:, None, None].expand(-1, 4, 4)
        return Prediction(logits, None if self._presence is None else torch.tensor(self._presence.pop(0)))

    def compare(self, predictions: list[Prediction]) -> list[Prediction]:
        return predictions


def viewed(
    logits: Sequence[Sequence[float]], presence: Sequence[Sequence[float]] | None, least: float | None, shown: float
) -> tuple[NDArray[np.float32], Prediction]:
    """Predict a picture of five windows of 16 px, and the whole of it if it is asked for."""
    predictor = PicturePredictor(
        StatedViews(logits, presence), "stated", PatchGrid(4), batch=2, side=16, tile=True, edges=False, presence=shown
    )
    (result,) = predictor.each(iter([np.zeros((16, 64, 3), np.uint8)]), least=least)
    return result


def blended(logits: Sequence[float]) -> NDArray[np.float32]:
    blend = Blend(1, 16, 64)
    for window, logit in zip(windows(16, 64, 16), logits, strict=True):
        blend.add(window, np.full((1, 16, 16), logit, np.float32))
    values: NDArray[np.float32] = blend.mean()[0]
    return values


PRESENCE = (-1.0, 1.1, 3.0, 0.9, -4.0)  # of five windows; 2 below the best one decides


@pytest.mark.parametrize(
    ("shown", "whole", "kept", "joined"),
    [
        (PRESENT, 0.5, [1, 2], False),
        (PRESENT, 1.5, [1, 2], True),  # the whole picture is a view as well
        (PRESENT, 5.2, [], True),  # and may be the best one
        (0.0, -9.0, [0, 1, 2, 3, 4], True),  # no decision
    ],
)
def test_views_much_less_likely_than_the_best_one_do_not_mark(
    shown: float, whole: float, kept: list[int], joined: bool
) -> None:
    logits, presence = [*[[3.0]] * 5, [1.0]], [[value] for value in (*PRESENCE, whole)]
    found, prediction = viewed(logits, presence, 0.0, shown)
    expected = blended([3.0 if number in kept else ABSENT for number in range(5)])
    np.testing.assert_allclose(found[0], np.maximum(expected, 1.0) if joined else expected)
    assert prediction.presence is not None
    assert float(prediction.presence[0]) == pytest.approx(max(whole, *PRESENCE))


def test_each_class_has_its_own_views() -> None:
    logits = [*[[3.0, 2.0]] * 5, [4.0, 5.0]]
    presence = [*zip(PRESENCE, (0.0, 0.0, 0.0, 9.0, 8.0), strict=True), (0.0, 7.5)]
    found, _ = viewed(logits, [list(one) for one in presence], 0.0, PRESENT)
    np.testing.assert_allclose(found[0], blended([ABSENT, 3.0, 3.0, ABSENT, ABSENT]))  # without the whole
    np.testing.assert_allclose(found[1], 5.0)  # the whole is larger everywhere


def test_windows_that_do_not_mark_a_class_do_not_at_a_low_threshold_either() -> None:
    least = -3.0
    found, _ = viewed([*[[3.0]] * 5, [1.0]], [[value] for value in (*PRESENCE, -9.0)], least, PRESENT)
    np.testing.assert_allclose(found[0], blended([least - 1, 3.0, 3.0, least - 1, least - 1]))
    assert (found[0, :, :8] < least).all()


def test_without_presence_or_masks_the_windows_are_averaged() -> None:
    logits = [[1.0], [2.0], [3.0], [4.0], [5.0]]
    presence = [[value] for value in PRESENCE]
    for found, _ in (viewed(logits, None, 0.0, PRESENT), viewed(logits, presence, None, PRESENT)):
        np.testing.assert_allclose(found[0], blended([1.0, 2.0, 3.0, 4.0, 5.0]))


def test_things_larger_than_a_window_keep_their_middle() -> None:
    image, mask = disc()
    large, truth = disc(side=256, middle=(128, 128))
    tiled = Segmenter(weights=WEIGHTS, side=64, tile=True).fit(image, mask)
    whole = Segmenter(weights=WEIGHTS, side=64).fit(image, mask)
    assert tiled.score(large, truth) > 0.9 * whole.score(large, truth) > 0.4


def test_views_that_are_known_give_the_masks_of_the_segmenter() -> None:
    image, mask = disc()
    large = disc(side=192, middle=(90, 70))[0]
    segmenter = Segmenter(weights=WEIGHTS, side=64, tile=True).fit(image, mask)
    views = Views(segmenter, large)
    np.testing.assert_array_equal(views.joined(TILED_RANGE, whole=True), segmenter.predict(large)[0])
    whole = Segmenter(weights=WEIGHTS, side=64).fit(image, mask).predict(large)[0]
    np.testing.assert_array_equal(views.whole(), whole)


def test_a_composite_shows_the_object_at_its_share_and_its_place() -> None:
    image, mask = disc()
    background = np.full((30, 40, 3), 7, np.uint8)
    picture, truth = compose(background, cut_out(image, mask, 1), np.random.default_rng(0), (200, 150), 0.05)
    assert picture.shape == (150, 200, 3)
    assert truth.mean() == pytest.approx(0.05, rel=0.1)
    assert (np.abs(picture[truth == 1].astype(int) - (230, 40, 30)) < 60).mean() > 0.9
    assert (picture[truth == 0] == 7).all(1).mean() > 0.95
