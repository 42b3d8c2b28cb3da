"""The online classifier (A8)."""

from __future__ import annotations

import pytest
import torch

from stages.core.labels import VOID
from stages.core.random import torch_generator
from stages.models.srofb import (
    Cells,
    classify,
    confident_cells,
    mask_at_cells,
    parameter_count,
    query_cells,
    support_cells,
)
from stages.sections.srofb import SrofbParams
from tests.makers import tiny_values


def params(**changes: object) -> SrofbParams:
    """The demo's values, changed."""
    return SrofbParams.model_validate({**tiny_values()["srofb"], **changes})


def cells_of(counts: tuple[int, int], gap: float) -> Cells:
    """Background and foreground clouds whose means lie ``gap`` apart."""
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.randn((n, 8), generator=generator) + side * gap for side, n in enumerate(counts)]
    return Cells(torch.cat(clouds), torch.tensor([0] * counts[0] + [1] * counts[1]))


def test_two_clouds_are_told_apart() -> None:
    query = torch.cat([torch.zeros(8, 4, 2), torch.full((8, 4, 2), 3.0)], dim=2)  # left ground, right object
    logits = classify(cells_of((200, 200), 3.0), query, 100, params(hidden=32), torch_generator(0))
    assert logits.argmax(0).tolist() == [[0, 0, 1, 1]] * 4


def test_balance_keeps_a_rare_object_alive() -> None:
    query = torch.full((8, 1, 1), 1.5)
    cells = cells_of((2000, 20), 1.5)
    foreground = {
        balance: float(classify(cells, query, 10, params(class_balance=balance), torch_generator(1)).softmax(0)[1])
        for balance in ("balanced", "none")
    }
    assert foreground["balanced"] > 0.5 > foreground["none"]


def test_first_weights_and_dropout_belong_to_the_episode() -> None:
    query, cells = torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(2)), cells_of((30, 30), 1.0)
    first, again, other = (
        classify(cells, query, 5, params(), torch_generator(0, "srofb", 0, episode)) for episode in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def slow_training(cells: Cells, query: torch.Tensor, steps: int, values: SrofbParams) -> torch.Tensor:
    """The same classifier with torch's own modules and optimiser, dropout off."""
    net = torch.nn.Sequential(torch.nn.Linear(8, values.hidden), torch.nn.ReLU(), torch.nn.Linear(values.hidden, 2))
    generator = torch_generator(3)
    for layer, inputs, outputs in ((net[0], 8, values.hidden), (net[2], values.hidden, 2)):
        bound = inputs**-0.5
        drawn = torch.rand((outputs, inputs + 1), generator=generator) * 2 * bound - bound
        layer.load_state_dict({"weight": drawn[:, 1:], "bias": drawn[:, 0]})
    sgd = torch.optim.SGD(net.parameters(), lr=values.learning_rate)
    counts = cells.labels.bincount(minlength=2)
    for _ in range(steps):
        sgd.zero_grad()
        # torch's weighted mean divides by the sum of weights, which makes each side half of the loss.
        torch.nn.functional.cross_entropy(net(cells.features), cells.labels, weight=1 / counts.float()).backward()
        sgd.step()
    with torch.no_grad():
        result: torch.Tensor = net(query.flatten(1).T).T.unflatten(1, query.shape[1:])
    return result


def test_training_is_plain_sgd_on_the_balanced_loss() -> None:
    values = params(dropout=0.0, hidden=16)
    query, cells = torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(2)), cells_of((50, 7), 1.0)
    fast = classify(cells, query, 20, values, torch_generator(3))
    assert torch.allclose(fast, slow_training(cells, query, 20, values), atol=1e-5)


def test_confident_cells_pass_thresholds_or_are_the_best_few() -> None:
    foreground = torch.tensor([[0.95, 0.75, 0.65], [0.45, 0.35, 0.10]])
    chosen = confident_cells(torch.stack([1 - foreground, foreground]).log(), params(fallback_cells=2))
    assert chosen.tolist() == [[2, 2, 0], [0, 1, 1]]  # above 0.7, or under 0.4
    none_sure = torch.tensor([[0.55, 0.58, 0.52], [0.5, 0.56, 0.45]])
    chosen = confident_cells(torch.stack([1 - none_sure, none_sure]).log(), params(fallback_cells=2))
    assert chosen.tolist() == [[0, 2, 0], [1, 2, 1]]
    kept = query_cells(torch.arange(6.0).view(1, 2, 3), chosen)
    assert kept.features.flatten().tolist() == [1, 3, 4, 5]
    assert kept.labels.tolist() == [1, 0, 1, 0]


def test_support_cells_take_the_pixel_under_them_and_leave_void_out() -> None:
    mask = torch.zeros(9, 9, dtype=torch.uint8)
    mask[0, 8], mask[8, 8] = 1, VOID
    assert mask_at_cells(mask, (3, 3)).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, VOID]]
    cells = support_cells([torch.arange(9.0).view(1, 3, 3)], [mask])
    assert cells.features.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert cells.labels.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_parameter_count_is_the_papers() -> None:
    assert round((parameter_count(1024, 256) + 8_667_072) / 1e6, 2) == 8.93


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_sided_supports_train_without_nan(labels: list[int]) -> None:
    cells = Cells(torch.ones(3, 8), torch.tensor(labels))
    logits = classify(cells, torch.ones(8, 2, 2), 5, params(), torch_generator(0))
    assert bool(logits.isfinite().all())
