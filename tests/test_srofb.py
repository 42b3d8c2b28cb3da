"""The online classifier (A8)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.refinement import MATCHING, tables
from novelseg.backbones.grid import AlignedGrid
from novelseg.core.labels import VOID
from novelseg.methods.chain import Chain
from novelseg.methods.confident import confident_cells
from novelseg.methods.contract import Case, RefinementTask, SupportFeatures
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.refiners import REFINERS, RefinerSettings
from novelseg.methods.srofb import classifier as srofb
from novelseg.methods.srofb.classifier import (
    Cells,
    Task,
    classify,
    loss_weights,
    parameter_count,
    query_cells,
    support_cells,
)
from novelseg.methods.srofb.refiner import SrofbRefiner
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.ops import draws
from tests.makers import tiny_values

CPU = torch.device("cpu")


def params(**changes: object) -> SrofbSettings:
    """The demo's values, changed."""
    return SrofbSettings(**{**tiny_values()["srofb"], **changes})


def cells_of(counts: tuple[int, int], gap: float) -> Cells:
    """Background and foreground clouds whose means lie ``gap`` apart."""
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.randn((n, 8), generator=generator) + side * gap for side, n in enumerate(counts)]
    return of_support(torch.cat(clouds), torch.tensor([0] * counts[0] + [1] * counts[1]))


def of_support(features: Tensor, labels: Tensor) -> Cells:
    """Cells of one support."""
    return Cells(features, labels, torch.ones_like(labels))


def alone(cells: Cells, query: Tensor, steps: int, values: SrofbSettings, key: int = 0) -> Tensor:
    """Logits of one episode: foreground minus background."""
    return classify([Task(cells, query, key)], steps, values)[0]


def test_two_clouds_are_told_apart() -> None:
    query = torch.cat([torch.zeros(8, 4, 2), torch.full((8, 4, 2), 3.0)], dim=2)  # left ground, right object
    logits = alone(cells_of((200, 200), 3.0), query, 100, params(hidden=32))
    assert (logits > 0).tolist() == [[False, False, True, True]] * 4


def test_balance_keeps_a_rare_object_alive() -> None:
    query = torch.full((8, 1, 1), 1.5)
    cells = cells_of((2000, 20), 1.5)
    logit = {
        balance: float(alone(cells, query, 10, params(class_balance=balance), 1)) for balance in ("balanced", "none")
    }
    assert logit["balanced"] > 0 > logit["none"]


def test_first_weights_and_dropout_belong_to_the_episode() -> None:
    query, cells = torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(2)), cells_of((30, 30), 1.0)
    first, again, other = (alone(cells, query, 5, params(), key) for key in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def slow_weights(cells: Cells, values: SrofbSettings) -> Tensor:
    """The weight of every cell, cell by cell: the sides share the loss, then the groups of images of each side."""
    labels, images = cells.labels.tolist(), cells.images.tolist()
    width = {"union": 0, "image": len(labels), "half": 1}[values.query_weight]  # images above share a group
    keys = [
        (label if values.class_balance == "balanced" else 0, min(image, width))
        for label, image in zip(labels, images, strict=True)
    ]
    sides = {side for side, _ in keys}
    groups = {side: {key for key in keys if key[0] == side} for side in sides}
    weights = [1 / len(sides) / len(groups[key[0]]) / keys.count(key) for key in keys]
    assert sum(weights) == pytest.approx(1)
    return torch.tensor(weights, dtype=torch.float64)


def slow_training(task: Task, steps: int, values: SrofbSettings, support_steps: int = 0) -> Tensor:
    """The same classifier with torch's own layers, loss, gradient and optimiser, in double, one episode at a time."""
    channels, hidden = task.query.shape[0], values.hidden
    keys = draws.to_keys([task.key], CPU)
    layers = [torch.nn.Linear(channels, hidden).double(), torch.nn.Linear(hidden, 2).double()]
    for number, layer in enumerate(layers):
        inputs, outputs = layer.in_features, layer.out_features
        drawn = draws.uniform(draws.branch(keys, number), draws.counters((inputs + 1) * outputs, CPU))[0].double()
        drawn = ((2 * drawn - 1) * inputs**-0.5).view(inputs + 1, outputs)
        layer.load_state_dict({"weight": drawn[1:].T, "bias": drawn[0]})
    sgd = torch.optim.SGD([weight for layer in layers for weight in layer.parameters()], lr=values.learning_rate)
    cells, labels = task.cells.features.double(), task.cells.labels
    supports = task.cells.images > 0
    own = Cells(task.cells.features[supports], labels[supports], task.cells.images[supports])
    first = torch.zeros(len(labels), dtype=torch.float64)
    first[supports] = slow_weights(own, replace(values, query_weight="union"))
    weights = [first] * support_steps + [slow_weights(task.cells, values)] * steps
    counted = draws.counters(len(labels) * -(-hidden // 4), CPU)
    for step, weight in enumerate(weights):
        bytes_ = draws.octets(draws.branch(keys, 2 + step), counted).view(len(labels), -1)[:, :hidden]
        kept = (bytes_.int() < 256 * (1 - values.dropout)).double() / (1 - values.dropout)
        sgd.zero_grad()
        logits = layers[1](layers[0](cells).relu() * kept)
        (weight * torch.nn.functional.cross_entropy(logits, labels, reduction="none")).sum().backward()
        sgd.step()
    with torch.no_grad():
        found: Tensor = layers[1](layers[0](task.query.flatten(1).T.double()).relu())
    return (found[:, 1] - found[:, 0]).view(task.query.shape[1:])


def random_task(count: int, seed: int, channels: int = 8) -> Task:
    """Noise with a label that depends on it."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((count, channels), generator=generator)
    labels = (features[:, 0] > 0.5).long()
    labels[:2] = torch.tensor([0, 1])
    return Task(of_support(features, labels), torch.randn((channels, 3, 4), generator=generator), seed)


@pytest.mark.parametrize("rows", [256, 9])
@pytest.mark.parametrize("changes", [{}, {"dropout": 0.0}, {"dropout": 0.25, "class_balance": "none", "hidden": 7}])
def test_training_side_by_side_is_plain_training_one_by_one(
    changes: dict[str, object], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srofb, "MIN_ROWS", rows)
    monkeypatch.setitem(srofb.PART_KB, "cpu", 0)
    values = params(**{"hidden": 16, **changes})
    tasks = [random_task(count, seed) for seed, count in enumerate((50, 7, 31))]
    for found, task in zip(classify(tasks, 20, values), tasks, strict=True):
        assert torch.allclose(found.double(), slow_training(task, 20, values), atol=1e-5)


def mixed(task: Task, images: int) -> Task:
    """The same cells, spread over a query (0) and several supports of different sizes; one has background only."""
    owner = torch.arange(len(task.cells.labels)).sqrt().long() % (images + 1)
    labels = torch.where(owner == images, 0, task.cells.labels)
    return replace(task, cells=replace(task.cells, labels=labels, images=owner))


@pytest.mark.parametrize("query_weight", ["union", "image", "half"])
@pytest.mark.parametrize("balance", ["balanced", "none"])
@pytest.mark.parametrize("support_steps", [0, 7])
def test_weight_of_the_query_and_phases_are_those_of_plain_training(
    query_weight: str, balance: str, support_steps: int
) -> None:
    values = params(hidden=8, query_weight=query_weight, class_balance=balance)
    tasks = [mixed(random_task(count, seed), 3) for seed, count in enumerate((90, 40))]
    for found, task in zip(classify(tasks, 12, values, support_steps=support_steps), tasks, strict=True):
        assert torch.allclose(found.double(), slow_training(task, 12, values, support_steps), atol=1e-5)


def test_one_support_and_half_is_image_by_image() -> None:
    cells = mixed(random_task(60, 1), 2).cells
    two = replace(cells, images=cells.images.clamp(max=1))
    for balance in ("balanced", "none"):
        weights = {name: loss_weights(two, balance, name) for name in ("union", "image", "half")}
        assert torch.equal(weights["image"], weights["half"])
        assert not torch.allclose(weights["union"], weights["half"])


def episode_task(seed: int, shots: int = 2, channels: int = 6) -> RefinementTask:
    """An episode of noise in which the object's cells have one large channel; a support has void cells."""
    generator = torch.Generator().manual_seed(seed)
    supports = []
    for number in range(shots):
        features = torch.randn((channels, 5, 4), generator=generator)
        labels = (features[0] > 0).to(torch.uint8)
        labels[0, number] = VOID
        sides = [features[:, labels == side].mean(1) for side in (0, 1)]
        supports.append(SupportFeatures(features, labels, torch.stack(sides), int((labels != VOID).sum())))
    query = torch.randn((channels, 4, 5), generator=generator)
    rough = match_many(query, torch.stack([one.prototypes for one in supports]).mean(0)[None], 10.0)[0]
    return RefinementTask(Case(0, seed, 99, 1, tuple(range(shots))), tuple(supports), query, rough, 10.0)


def scaled(task: RefinementTask, factor: float) -> RefinementTask:
    """The same episode with all features multiplied by one number."""
    supports = [replace(one, features=factor * one.features) for one in task.supports]
    return replace(task, supports=tuple(supports), query=factor * task.query)


def mean_norm(task: RefinementTask) -> float:
    """Mean norm of the supports' cells that are not void, cell by cell."""
    norms = [
        float(one.features[:, row, column].norm())
        for one in task.supports
        for row in range(one.labels.shape[0])
        for column in range(one.labels.shape[1])
        if one.labels[row, column] != VOID
    ]
    return sum(norms) / len(norms)


@pytest.mark.parametrize("with_query", [False, True])
def test_feature_norm_is_scaling_by_hand(with_query: bool) -> None:
    raw, normed = (SrofbRefiner(params(hidden=8, feature_norm=norm), with_query=with_query) for norm in (0.0, 12.0))
    for seed in range(3):
        task = episode_task(seed)
        by_hand = raw.refine([scaled(task, 12 / mean_norm(task))])[0]
        found = normed.refine([task])[0]
        assert torch.allclose(found.logits, by_hand.logits, atol=1e-4)
        assert not torch.allclose(found.logits, raw.refine([task])[0].logits, atol=1e-3)
        # Encoders whose features differ by a factor only give the same result.
        assert torch.allclose(normed.refine([scaled(task, 0.01)])[0].logits, found.logits, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 100))
def test_an_episode_is_refined_the_same_in_any_batch(count: int, size: int, seed: int) -> None:
    values = params(hidden=8, feature_norm=20.0, query_weight="half", support_steps=2)
    tasks = [scaled(episode_task(seed + number, shots=1 + number % 2), 1.0 + number) for number in range(count)]
    alone_ = [SrofbRefiner(values, with_query=True).refine([task])[0] for task in tasks]
    together = SrofbRefiner(values, with_query=True, batch=size).refine(tasks)
    for one, other in zip(alone_, together, strict=True):
        assert torch.allclose(one.logits, other.logits, atol=1e-4)


def test_phases_are_for_the_classifier_that_sees_the_query() -> None:
    task = episode_task(3)
    for with_query, equal in ((False, True), (True, False)):
        found = [
            SrofbRefiner(params(hidden=8, support_steps=steps), with_query=with_query).refine([task])[0].logits
            for steps in (0, 5)
        ]
        assert torch.equal(*found) == equal


@pytest.mark.parametrize("name", ["self-support", "closed-form"])
def test_a_chain_starts_from_the_result_before(name: str) -> None:
    tasks = [episode_task(seed) for seed in range(3)]
    first, last = REFINERS[name](RefinerSettings()), SrofbRefiner(params(hidden=8), with_query=True)
    chain = REFINERS[f"{name}+srofb"](RefinerSettings(srofb=params(hidden=8)))
    assert chain.learns_from_cells
    for task, found in zip(tasks, chain.refine(tasks), strict=True):
        logits = first.refine([task])[0].logits
        by_hand = last.refine([replace(task, rough=torch.stack([torch.zeros_like(logits), logits]))])[0]
        assert torch.allclose(found.logits, by_hand.logits, atol=1e-5)
        assert found.confident is not None
        assert by_hand.confident is not None
        assert torch.equal(found.confident, by_hand.confident)
    plain = Chain([last]).refine(tasks)
    assert all(torch.equal(one.logits, other.logits) for one, other in zip(plain, last.refine(tasks), strict=True))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=1, max_size=7), st.integers(1, 7), st.integers(0, 1000))
def test_an_episode_learns_the_same_in_any_batch(counts: list[int], size: int, seed: int) -> None:
    tasks = [random_task(count, seed + number) for number, count in enumerate(counts)]
    values = params(hidden=8)
    expected = [classify([task], 10, values)[0] for task in tasks]
    found = [
        logits for first in range(0, len(tasks), size) for logits in classify(tasks[first : first + size], 10, values)
    ]
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_half_precision_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srofb, "MIN_ROWS", 30)  # several parts, the last a short one, and rows that only fill up
    monkeypatch.setitem(srofb.PART_KB, "cpu", 0)
    tasks = [random_task(count, count, 32) for count in (200, 170)]
    exact, near = (classify(tasks, 10, params(), half=half) for half in (False, True))
    for one, other in zip(exact, near, strict=True):
        assert 0 < float((one - other).abs().max()) < 0.05 * float(one.abs().max())


def test_confident_cells_pass_thresholds_or_are_the_best_few() -> None:
    foreground = torch.tensor([[0.95, 0.75, 0.65], [0.45, 0.35, 0.10]])
    none_sure = torch.tensor([[0.55, 0.58, 0.52], [0.5, 0.56, 0.45]])
    both = torch.stack([torch.stack([1 - part, part]).log() for part in (foreground, none_sure)])
    values = params(fallback_cells=2)
    chosen = confident_cells(both, tau_fg=values.tau_fg, tau_bg=values.tau_bg, fallback_cells=values.fallback_cells)
    assert chosen[0].tolist() == [[2, 2, 0], [0, 1, 1]]  # above 0.7, or under 0.4
    assert chosen[1].tolist() == [[0, 2, 0], [1, 2, 1]]
    kept = query_cells(torch.arange(6.0).view(1, 2, 3), chosen[1])
    assert kept.features.flatten().tolist() == [1, 3, 4, 5]
    assert kept.labels.tolist() == [1, 0, 1, 0]


def test_the_fallback_of_the_foreground_replaces_confident_background() -> None:
    foreground = torch.tensor([[0.2, 0.1, 0.05]])  # every cell is confident background
    logits = torch.stack([1 - foreground, foreground]).log()[None]
    assert confident_cells(logits, tau_fg=0.7, tau_bg=0.6, fallback_cells=1).tolist() == [[[2, 1, 1]]]
    assert confident_cells(logits, tau_fg=0.7, tau_bg=0.6, fallback_cells=3).tolist() == [[[2, 2, 2]]]


def test_support_cells_take_the_pixel_under_them_and_leave_void_out() -> None:
    mask = torch.zeros(9, 9, dtype=torch.uint8)
    mask[0, 8], mask[8, 8] = 1, VOID
    labels = AlignedGrid(8).labels_at_cells(mask, (3, 3))
    assert labels.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, VOID]]
    cells = support_cells([torch.arange(9.0).view(1, 3, 3)], [labels])
    assert cells.features.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert cells.labels.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_parameter_count_is_the_papers() -> None:
    assert round((parameter_count(1024, 256) + 8_667_072) / 1e6, 2) == 8.93


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_sided_supports_train_without_nan(labels: list[int]) -> None:
    cells = of_support(torch.ones(3, 8), torch.tensor(labels))
    logits = alone(cells, torch.ones(8, 2, 2), 5, params())
    assert bool(logits.isfinite().all())


def measured(setting: str, label: int, episode: int, intersection: int, union: int) -> dict[str, str]:
    """One row of ``benchmarks.refinement measure``."""
    values = {"class": label, "episode": episode, "intersection": intersection, "union": union, "cpu_ms": 7}
    words = {"encoder": "resnet18", "list": "train", "shots": 1, "seed": 0, "setting": setting, "mean_norm": 5.5}
    return {key: str(value) for key, value in {**words, **values, "fg_cells": "", "bg_cells": ""}.items()}


def test_tables_of_the_benchmark_compare_settings_on_the_episodes_that_both_have() -> None:
    counts = [(1, 0, 10, 100), (1, 1, 30, 100), (2, 0, 50, 100), (2, 1, 0, 0)]  # class, episode, intersection, union
    rows = [measured(MATCHING, *row) for row in counts]
    rows += [measured("better", label, episode, 2 * inside, union) for label, episode, inside, union in counts]
    rows += [measured("partly", *row) for row in counts[2:3]]
    every, some = tables(rows, "better")
    assert "| matching | 35.0 |  |  |  | 7 |" in every  # classes: 40 / 200 and 50 / 100
    assert "| better | 70.0 | +35.0 [" in every
    assert "partly" not in every
    assert "| partly | 50.0 | +0.0 [+0.0, +0.0] | -50.0 [-50.0, -50.0] |  | 7 |" in some
    assert ": 1 episodes" in some
