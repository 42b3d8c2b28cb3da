"""The closed-form head beside plain definitions of its parts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from novelseg.methods.closed_form.head import (
    CHOICE,
    Head,
    average_over_similar,
    combine,
    fit,
    spherical_kmeans,
    statistics_of,
    support_cells,
)
from novelseg.methods.closed_form.presence import MEASURES, Expectation, expect, mask_measures
from novelseg.methods.closed_form.refiner import ClosedFormRefiner
from novelseg.methods.closed_form.settings import ClosedFormSettings
from novelseg.methods.contract import Case, RefinementTask, SupportFeatures

C, SIDE = 12, 8
PLAIN = ClosedFormSettings(affinity=0, object_prototypes=2, background_prototypes=3)


def pictures(seed: int, count: int, classes: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Features and labels of pictures in which each class has a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.eye(C)[: classes + 1] * 2
    made = []
    for number in range(count):
        labels = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
        label = 1 + number % classes
        labels[2:6, 1:5] = label
        labels[0, 0] = 255
        features = torch.randn(C, SIDE, SIDE, generator=generator)
        features += directions[torch.where(labels == 255, 0, labels).long()].permute(2, 0, 1)
        made.append((features, labels))
    return made


def head_of(made: list[tuple[Tensor, Tensor]], classes: int = 1, settings: ClosedFormSettings = PLAIN) -> Head:
    return fit([support_cells(*one) for one in made], classes, settings)


def test_the_discriminant_of_one_class_is_balanced_ridge_regression() -> None:
    made = pictures(1, 3)
    head = head_of(made)
    cells = [support_cells(*one) for one in made]
    x = torch.cat([one.features for one in cells]).double().numpy()
    y = np.where(torch.cat([one.labels for one in cells]).numpy() == 1, 1.0, -1.0)
    weight = np.where(y > 0, 0.5 / (y > 0).sum(), 0.5 / (y < 0).sum())
    mean = weight @ x
    centred = x - mean
    covariance = (centred * weight[:, None]).T @ centred
    penalty = PLAIN.ridge * np.trace(covariance) / C
    slope = np.linalg.solve(covariance + penalty * np.eye(C), (centred * weight[:, None]).T @ y)
    assert head.directions[0].numpy() == pytest.approx(slope, abs=1e-5)
    assert float(head.offsets[0]) == pytest.approx(weight @ y - slope @ mean, abs=1e-5)
    assert head.weights.tolist() == pytest.approx([3.0 * 2 / 3])


def test_scores_are_the_sum_of_three_plain_parts() -> None:
    head, (query, _) = head_of(pictures(2, 3)), pictures(3, 1)[0]
    scores = head.scores(query)[0]
    cells = [F.normalize(query[:, i, j], dim=0) for i in range(SIDE) for j in range(SIDE)]
    discriminant = [float(head.directions[0] @ cell + head.offsets[0]) for cell in cells]
    confidence = [1 / (1 + math.exp(-float(head.weights[0]) * value)) for value in discriminant]
    sides = ([1 - value > 0.6 for value in confidence], [value > 0.75 for value in confidence])
    assert all(any(side) for side in sides)
    chosen = [torch.stack([cell for cell, taken in zip(cells, side, strict=True) if taken]) for side in sides]
    own = [F.normalize(one.mean(0), dim=0) for one in chosen]
    joined = [F.normalize(head.means[side] + own[side], dim=0) for side in (0, 1)]
    background, objects = head.prototypes.split(head.counts)

    def soft(prototypes: Tensor, cell: Tensor) -> float:
        return 0.03 * math.log(sum(math.exp(float(one @ cell) / 0.03) for one in prototypes))

    for value, cell, rough in zip(scores.flatten(), cells, discriminant, strict=True):
        wanted = float(head.weights[0]) * rough
        wanted += 10 * (soft(objects, cell) - soft(background, cell))
        wanted += 10 * float((joined[1] - joined[0]) @ cell)
        assert float(value) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("height", "width", "reduction"), [(8, 8, 2), (7, 5, 2), (5, 9, 3), (4, 4, 1)])
def test_averaging_over_similar_cells_is_a_softmax_over_all_blocks(
    height: int, width: int, reduction: int, classes: int
) -> None:
    generator = torch.Generator().manual_seed(height)
    unit = F.normalize(torch.randn(C, height, width, generator=generator), dim=0)
    scores = torch.randn(classes, height, width, generator=generator)
    found = average_over_similar(unit, scores, 0.2, reduction)
    assert found.shape == scores.shape
    corners = [(i, j) for i in range(0, height, reduction) for j in range(0, width, reduction)]
    block = [F.normalize(unit[:, i : i + reduction, j : j + reduction].mean((1, 2)), dim=0) for i, j in corners]
    value = [scores[:, i : i + reduction, j : j + reduction].mean((1, 2)) for i, j in corners]
    averaged = []
    for one in block:
        cosine = [one @ other for other in block]
        level = mean_of(value, [math.exp(float(c) / 0.2) for c in cosine])
        if classes > 1:
            weights = [
                math.exp(float(c) / CHOICE) * float(v.max().sigmoid()) for c, v in zip(cosine, value, strict=True)
            ]
            choice = mean_of([v - v.mean() for v in value], weights)
            level = level.max() + choice - choice.max()
        averaged.append(level)
    rows, columns = math.ceil(height / reduction), math.ceil(width / reduction)
    coarse = torch.stack(averaged, 1).view(1, classes, rows, columns)
    size = (rows * reduction, columns * reduction)
    wanted = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[0, :, :height, :width]
    assert torch.allclose(found, wanted, atol=1e-5)


def mean_of(values: list[Tensor], weights: list[float]) -> Tensor:
    """Weighted mean."""
    total = torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum(0)
    return total / sum(weights)


def test_parts_of_one_object_get_the_class_of_most_of_them() -> None:
    parts = F.normalize(torch.tensor([[1.0, 0.2, 0.0], [1.0, -0.2, 0.0], [0.0, 0.0, 1.0]]), dim=1)
    unit = parts[torch.tensor([[0, 0, 0, 1, 1, 2, 2]])].permute(2, 0, 1)  # an object of two parts, and another one
    scores = torch.tensor([[2.0, 2, 2, 1, 1, -3, -3], [1.0, 1, 1, 1.5, 1.5, 2, 2]])[:, None]
    assert scores.argmax(0).tolist() == [[0, 0, 0, 1, 1, 1, 1]]
    found = average_over_similar(unit, scores, 0.02, 1)
    assert found.argmax(0).tolist() == [[0, 0, 0, 0, 0, 1, 1]]
    assert torch.allclose(found.amax(0), average_over_similar(unit, scores.amax(0)[None], 0.02, 1)[0], atol=0.1)


def test_several_classes_compete_and_each_wins_its_own_cells() -> None:
    head = head_of(pictures(4, 9, classes=3), classes=3, settings=ClosedFormSettings())
    for query, labels in pictures(5, 3, classes=3):
        logits = torch.cat([torch.zeros(1, SIDE, SIDE), head.scores(query)])
        known = labels != 255
        assert (logits.argmax(0)[known] == labels[known]).float().mean() > 0.85


def test_one_support_leaves_the_discriminant_out_of_the_sum() -> None:
    head = head_of(pictures(6, 1))
    assert head.weights.tolist() == [0.0]
    assert torch.isfinite(head.scores(pictures(7, 1)[0][0])).all()


def test_a_picture_without_the_object_teaches_the_background() -> None:
    made = pictures(8, 3)
    absent = (made[0][0] + 1.0, torch.zeros(SIDE, SIDE, dtype=torch.uint8))
    with_absent, without = head_of([*made, absent]), head_of(made)
    assert with_absent.counts[1] == without.counts[1]
    assert with_absent.counts[0] > without.counts[0]


def test_equal_supports_give_equal_heads_and_clusters_keep_their_number() -> None:
    first, second = head_of(pictures(9, 2)), head_of(pictures(9, 2))
    assert torch.equal(first.prototypes, second.prototypes)
    assert torch.equal(first.directions, second.directions)
    cells = F.normalize(torch.randn(40, C, generator=torch.Generator().manual_seed(1)), dim=1)
    centres = spherical_kmeans(cells, 4, 0)
    assert centres.shape == (4, C)
    assert torch.allclose(centres.norm(dim=1), torch.ones(4))
    assert torch.equal(spherical_kmeans(cells[:3], 4, 0), cells[:3])
    many = head_of(pictures(10, 30))
    assert many.counts == (64, 60)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="class 2 has no cell in any support"):
        head_of(pictures(11, 1, classes=2), classes=2)
    features, _ = pictures(12, 1)[0]
    with pytest.raises(ValueError, match="the background has no cell"):
        head_of([(features, torch.ones(SIDE, SIDE, dtype=torch.uint8))])
    with pytest.raises(ValueError, match=r"tau_fg is 1\.5; expected 0 to 1"):
        ClosedFormSettings(tau_fg=1.5)


def test_the_refiner_gives_the_scores_of_the_head() -> None:
    made, (query, _) = pictures(13, 2), pictures(14, 1)[0]
    supports = tuple(SupportFeatures(x, y, torch.zeros(2, C), int((y != 255).sum())) for x, y in made)
    task = RefinementTask(Case(0, 0, 9, 1, (0, 1)), supports, query, torch.zeros(2, SIDE, SIDE), 10.0)
    (refined,) = ClosedFormRefiner(PLAIN).refine([task])
    assert torch.equal(refined.logits, head_of(made).scores(query)[0])
    # An object between the centres of the cells: the rough result stays.
    nothing = replace(task, supports=tuple(replace(one, labels=0 * one.labels) for one in supports))
    rough = torch.stack([torch.zeros(SIDE, SIDE), query[0]])
    (kept,) = ClosedFormRefiner(PLAIN).refine([replace(nothing, rough=rough)])
    assert torch.equal(kept.logits, query[0])


# Presence


def test_measures_of_a_mask_are_those_of_a_loop() -> None:
    made = pictures(1, 4, classes=2)
    head = head_of(made, classes=2)
    unit = F.normalize(pictures(9, 1, classes=2)[0][0], dim=0)
    logits = head.scores_of(unit)
    found = mask_measures(head, unit, logits)
    cells, flat = unit.flatten(1).T, logits.flatten(1)
    assert found.shape == (2, len(MEASURES))
    for label in (0, 1):
        inside = [n for n in range(len(cells)) if flat[label, n] > 0 and flat[label, n] == flat[:, n].max()]
        if len(inside) < 8:
            inside = flat[label].argsort(descending=True)[:8].tolist()
        outside = [n for n in range(len(cells)) if n not in inside]
        shares = flat[label].sigmoid()
        mask = F.normalize(torch.stack([shares[n] * cells[n] for n in inside]).sum(0), dim=0)
        rest = F.normalize(torch.stack([(1 - shares[n]) * cells[n] for n in outside]).sum(0), dim=0)
        first, others = sum(head.counts[: label + 1]), head.prototypes[: head.counts[0]]
        own = head.prototypes[first : first + head.counts[label + 1]]
        coverage = np.mean([max(float(one @ cell) for cell in cells) for one in own])
        likeness, background = float(mask @ head.means[label + 1]), float(rest @ head.means[0])
        discriminants = [float(head.directions[label] @ cells[n] + head.offsets[label]) for n in inside]
        soft = PLAIN.temperature
        sums = [[float(((part @ cells[n]) / soft).exp().sum().log()) for part in (own, others)] for n in inside]
        margins = [soft * (mine - theirs) for mine, theirs in sums]
        values = [coverage, likeness, background, np.mean(discriminants), np.mean(margins)]
        assert found[label].tolist() == pytest.approx(values, abs=1e-5)


def test_supports_are_left_out_in_turn_and_measured_with_and_without_their_object() -> None:
    made = pictures(3, 4)
    cells, maps = [support_cells(*one) for one in made], [labels for _, labels in made]
    statistics = [statistics_of(one, 1, PLAIN) for one in cells]
    units = [F.normalize(features, dim=0) for features, _ in made]
    found = expect(statistics, units, maps, 1, PLAIN)
    values = []
    for number, (unit, labels) in enumerate(zip(units, maps, strict=True)):
        head = fit([one for position, one in enumerate(cells) if position != number], 1, PLAIN)
        logits = head.scores_of(unit)
        taken = [(i, j) for i in range(SIDE) for j in range(SIDE) if labels[i, j] in (1, 255)]
        far = [
            all(max(abs(i - row), abs(j - column)) > 2 for row, column in taken)
            for i in range(SIDE)
            for j in range(SIDE)
        ]
        # Without the object, the picture is the row of its cells that are far away from it.
        rest, own = unit.flatten(1)[:, far][:, None], logits.flatten(1)[:, far][:, None]
        values.append(0.75 * mask_measures(head, unit, logits) + 0.25 * mask_measures(head, rest, own))
    torch.testing.assert_close(found.reference, torch.stack(values).mean(0), rtol=1e-4, atol=1e-5)
    assert found.left_out.tolist() == [4]
    alone = expect(statistics[:1], units[:1], maps[:1], 1, PLAIN)
    assert (alone.left_out.tolist(), alone.reference.abs().sum().item()) == ([0], 0)


def test_a_support_that_its_object_fills_is_not_left_out() -> None:
    made = pictures(4, 3)
    made[0][1][:] = 1
    cells = [support_cells(*one) for one in made]
    statistics = [statistics_of(one, 1, PLAIN) for one in cells]
    units = [F.normalize(features, dim=0) for features, _ in made]
    assert expect(statistics, units, [labels for _, labels in made], 1, PLAIN).left_out.tolist() == [2]


def test_a_support_without_the_class_is_background_alone() -> None:
    made = pictures(5, 2)
    features = torch.randn(C, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    empty = (features, torch.zeros(SIDE, SIDE, dtype=torch.uint8))
    cells = [support_cells(*one) for one in [*made, empty]]
    statistics = [statistics_of(one, 1, PLAIN) for one in cells]
    head = combine(statistics, PLAIN)
    assert head.weights.tolist() == pytest.approx([3.0 / 2])  # of two supports of the class
    assert head.counts == (9, 4)
    units, maps = [F.normalize(one, dim=0) for one, _ in [*made, empty]], [own for _, own in [*made, empty]]
    found = expect(statistics, units, maps, 1, PLAIN)
    assert found.left_out.tolist() == [2]


def test_presence_uses_what_is_expected_only_where_it_is_known() -> None:
    measures = torch.rand(2, len(MEASURES), generator=torch.Generator().manual_seed(1))
    nothing = torch.zeros_like(measures)
    counts = [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]
    known, both, none = (
        Expectation(measures, torch.tensor(count), nothing, nothing).logits(measures) for count in counts
    )
    assert known.tolist() == [both[0].item(), none[1].item()]


def test_other_pictures_replace_what_is_expected() -> None:
    measures = torch.rand(9, 2, len(MEASURES), generator=torch.Generator().manual_seed(2))
    nothing = torch.zeros(2, len(MEASURES))
    relative = Expectation(nothing, torch.zeros(2), nothing, nothing).relative_to(measures)
    numbers = measures.numpy()
    away = (numbers[4] - np.median(numbers, 0)) / numbers.std(0)
    np.testing.assert_allclose(relative.standardised(measures[4]), away, rtol=1e-4, atol=1e-5)
    # The units of a measure do not matter any more.
    scaled = relative.relative_to(3 * measures + 5)
    torch.testing.assert_close(scaled.logits(3 * measures[4] + 5), relative.logits(measures[4]), rtol=1e-3, atol=1e-3)
    # With supports that were left out, they count as much as the other pictures.
    compared = Expectation(nothing, torch.ones(2), nothing, nothing).logits(measures[4])
    both = replace(relative, left_out=torch.ones(2)).logits(measures[4])
    torch.testing.assert_close(both, (compared + relative.logits(measures[4])) / 2)


def test_every_class_has_supports_that_are_left_out() -> None:
    made = pictures(7, 33, classes=11)
    cells = [support_cells(*one) for one in made]
    statistics = [statistics_of(one, 11, PLAIN) for one in cells]
    units, maps = [F.normalize(features, dim=0) for features, _ in made], [labels for _, labels in made]
    found = expect(statistics, units, maps, 11, PLAIN)
    assert found.left_out.tolist() == [2] * 11
