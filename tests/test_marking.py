"""What is marked: whether a class is there at all, from which probability, and which regions are kept."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.inference.findings import Calibration, Finding, expected_iou, least_logits, probability, winners
from novelseg.ops.components import keep_regions
from tests.commands import novelseg
from tests.conftest import WEIGHTS
from tests.pictures import RED, disc, png, result_rows


def test_a_picture_without_the_object_teaches_what_it_is_not() -> None:
    image, mask = disc(colour=RED)
    other, _ = disc(colour=(230, 90, 30))
    plain = Segmenter(weights=WEIGHTS, presence=0, edges=False).fit([image], [mask])
    taught = Segmenter(weights=WEIGHTS, presence=0, edges=False).fit([image, other], [mask, 0 * mask])
    assert taught.n_supports_ == 2
    assert taught.predict(other)[0].mean() < 0.5 * plain.predict(other)[0].mean()
    assert taught.score(image, mask) > 0.5


def test_an_absent_class_is_not_marked(tmp_path: Path) -> None:
    pairs = [disc(middle=(28 + 4 * number, 32)) for number in range(3)]
    images, masks = [image for image, _ in pairs], [mask for _, mask in pairs]
    empty = disc(middle=(2000, 2000))[0]
    segmenter = Segmenter(weights=WEIGHTS).fit(images, masks)
    there, absent = segmenter.findings([pairs[0][0], empty])
    assert there.presence is not None
    assert absent.presence is not None
    assert float(there.presence[0]) > float(absent.presence[0])
    between = float(there.presence[0] + absent.presence[0]) / 2
    segmenter.set_params(presence=between)
    there, absent = segmenter.findings([pairs[0][0], empty])
    assert (there.present.tolist(), absent.present.tolist()) == ([True], [False])
    assert there.mask.any()
    assert not absent.mask.any()
    for number, image in enumerate(images):
        png(tmp_path / f"s/images/{number}.png", image)
        png(tmp_path / f"s/masks/{number}.png", 255 * masks[number])
    png(tmp_path / "q/a.png", pairs[0][0])
    png(tmp_path / "q/b.png", empty)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q", "--out", tmp_path / "out"]
    assert novelseg("segment", *words, "--presence", between) == 0
    first, second = result_rows(tmp_path / "out")
    assert (first["present"], second["present"], second["object_px"]) == ("1", "0", "0")
    with (tmp_path / "out/review.tsv").open(encoding="utf8", newline="") as file:
        review = list(csv.DictReader(file, delimiter="\t"))
    assert [float(row["certainty"]) for row in review] == sorted(float(row["certainty"]) for row in (first, second))


def test_presence_is_judged_relative_to_pictures_without_masks(tmp_path: Path, capfd: Any) -> None:
    image, mask = disc()
    shown = [disc(middle=(20 + 4 * number, 36))[0] for number in range(4)]
    empty = [disc(middle=(2000, 2000 + number))[0] for number in range(5)]
    fitted = Segmenter(weights=WEIGHTS).fit([image], [mask])
    before = next(fitted.findings(empty[0])).presence
    adapted = Segmenter(weights=WEIGHTS).fit([image], [mask]).adapt(iter([*shown, *empty]))
    scores = [
        float(finding.presence[0]) for finding in adapted.findings([*shown, *empty]) if finding.presence is not None
    ]
    assert min(scores[:4]) > max(scores[4:])
    assert before is not None
    assert scores[4] != float(before[0])
    np.testing.assert_array_equal(adapted.decision_function(image)[0], fitted.decision_function(image)[0])
    adapted.save(tmp_path / "adapted.safetensors")
    again = Segmenter.load(tmp_path / "adapted.safetensors")
    assert [float(one.presence[0]) for one in again.findings(shown) if one.presence is not None] == scores[:4]
    with pytest.raises(InputError, match="7 pictures to adapt to; expected at least 8"):
        fitted.adapt([*shown, *empty[:3]])
    with pytest.raises(InputError, match="the variant matching does not judge presence; choose closed-form"):
        Segmenter(weights=WEIGHTS, variant="matching").fit(image, mask).adapt(shown)
    # The command: scores in the table are those of Python.
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", 255 * mask)
    for number, picture in enumerate([*shown, *empty]):
        png(tmp_path / f"new/{number}.png", picture)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "new", "--out", tmp_path / "out"]
    assert novelseg("segment", *words, "--adapt", tmp_path / "new") == 0
    assert [float(row["presence"]) for row in result_rows(tmp_path / "out")] == pytest.approx(scores, abs=1e-3)
    capfd.readouterr()
    assert novelseg("segment", *words) == 2
    assert "contains results of other pictures, supports or settings" in capfd.readouterr().err


def test_threshold_smallest_region_and_largest_region(tmp_path: Path) -> None:
    labels = np.zeros((6, 20), np.uint8)
    labels[:2, :2], labels[:3, 5:8], labels[4, 10:] = 1, 1, 1  # 4, 9 and 10 px
    assert [keep_regions(labels, least, False).sum() for least in (0, 5, 11)] == [23, 19, 0]
    assert [keep_regions(labels, least, True).sum() for least in (0, 11)] == [10, 0]
    image, mask = disc()
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", 255 * mask)
    png(tmp_path / "q.png", image)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q.png", "--largest"]
    words.append("--no-edges")
    assert novelseg("segment", *words, "--min-area", 9999, "--out", tmp_path / "none") == 0
    assert novelseg("segment", *words, "--threshold", 0.9, "--out", tmp_path / "some") == 0
    assert [int(row["object_px"]) for row in result_rows(tmp_path / "none")] == [0]
    segmenter = Segmenter(weights=WEIGHTS, edges=False, largest=True, threshold=0.9).fit(image, mask)
    expected = keep_regions((segmenter.decision_function(image)[0] > np.log(9)).astype(np.uint8), 0, True)
    np.testing.assert_array_equal(segmenter.predict(image)[0], expected)
    assert [int(row["object_px"]) for row in result_rows(tmp_path / "some")] == [expected.sum()]
    for name, value, told in (("threshold", 1, "above 0 and below 1"), ("presence", 2, "0 to 1")):
        with pytest.raises(InputError, match=f"{name} is {value}; expected (a number )?{told}"):
            Segmenter(weights=WEIGHTS).fit(image, mask).set_params(**{name: value}).predict(image)


def test_expected_iou_is_that_of_the_probabilities() -> None:
    logits = torch.tensor([[[2.0, -1.0, 0.5, -4.0]], [[1.0, -2.0, 1.5, -4.0]]])
    calibration = Calibration(0.5, -0.25)
    shares = torch.cat([torch.zeros(1, 1, 4), 0.5 * logits - 0.25]).softmax(0)[1:, 0]
    # The first class is marked in the first cell, the second one in the third.
    first = shares[0, 0] / (1 + shares[0, 1:].sum())
    second = shares[1, 2] / (1 + shares[1, [0, 1, 3]].sum())
    torch.testing.assert_close(expected_iou(logits, [0, 0], calibration), torch.stack([first, second]))
    assert expected_iou(logits - 9, [0, 0], calibration).tolist() == [0, 0]


def test_a_pixel_needs_the_least_probability_with_that_of_presence() -> None:
    presence, calibration = np.array([0.9, 0.3], np.float32), Calibration(0.5, -1.0)
    for logit, score in zip(least_logits(-9.0, 0.2, presence, calibration), presence, strict=True):
        assert score / (1 + np.exp(1 - 0.5 * logit)) == pytest.approx(0.2, rel=1e-5)
    assert least_logits(0.5, 0.0, presence, calibration) == [0.5, 0.5]


def test_probability_includes_presence_and_certainty_the_decision() -> None:
    logits = np.array([[[1.0, -1.0]], [[-2.0, 3.0]]], np.float32)
    presence, present = np.array([0.8, 0.25], np.float32), np.array([True, False])
    quality = np.array([0.5, 0.9], np.float32)
    finding = Finding(logits, winners(logits, [0, 0]), Calibration(0.5, -1.0), presence, present, quality)
    shares = probability(0.5 * logits - 1)
    np.testing.assert_allclose(finding.probability[1:], shares[1:] * presence[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(finding.probability.sum(0), 1, rtol=1e-6)
    np.testing.assert_allclose(finding.certainty, [0.4, 0.75], rtol=1e-6)


def regions_one_by_one(labels: NDArray[Any], least: int, largest: bool) -> NDArray[Any]:
    """The slow and obvious way: flood every region, pixel by pixel."""
    height, width = labels.shape
    open_, found = {(y, x) for y in range(height) for x in range(width) if labels[y, x]}, []
    for start in sorted(open_):
        if start not in open_:
            continue
        pending, region = [start], []
        open_.remove(start)
        while pending:
            y, x = pending.pop()
            region.append((y, x))
            for near in ((y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)):
                if near in open_ and labels[near] == labels[y, x]:
                    open_.remove(near)
                    pending.append(near)
        found.append(region)
    kept = np.zeros_like(labels)
    for label in {labels[region[0]] for region in found}:
        own = [region for region in found if labels[region[0]] == label]
        for region in [max(own, key=len)] if largest else own:
            if len(region) >= least:
                kept[tuple(np.transpose(region))] = label
    return kept


def test_regions_are_those_of_a_flood() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        size = rng.integers(1, 14, 2)
        labels = (rng.integers(0, 3, size) * (rng.random(size) < rng.random())).astype(np.uint8)
        for least, largest in ((0, True), (3, False), (3, True)):
            np.testing.assert_array_equal(
                keep_regions(labels, least, largest), regions_one_by_one(labels, least, largest)
            )
