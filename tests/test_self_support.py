"""Self-support matching beside its definition, and the table of variants."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from novelseg.methods.confident import confident_cells
from novelseg.methods.contract import Case, RefinementTask, SupportFeatures
from novelseg.methods.matching.prototypes import match
from novelseg.methods.refiners import REFINERS, RefinerSettings, refiners_of
from novelseg.methods.self_support.refiner import SelfSupportRefiner
from novelseg.methods.self_support.settings import SelfSupportSettings
from novelseg.methods.variants import NAMES, VARIANTS, refined_names

SCALE = 10.0


def episode(seed: int, shots: int = 2, channels: int = 6, side: int = 5) -> RefinementTask:
    """An episode of random features whose query has an object like the supports'."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    supports = tuple(
        SupportFeatures(drawn(channels, side, side), torch.zeros(side, side, dtype=torch.uint8), drawn(2, channels), 25)
        for _ in range(shots)
    )
    query = drawn(channels, side, side)
    prototypes = torch.stack([support.prototypes for support in supports]).mean(0)
    query[:, :2, :2] += 3 * prototypes[1][:, None, None]
    rough = match(query[None], prototypes[None], SCALE)[0]
    return RefinementTask(Case(0, seed, 9, 1, tuple(range(shots))), supports, query, rough, SCALE)


@pytest.mark.parametrize("weight", [0.5, 0.3])
def test_it_is_matching_with_the_mean_of_both_prototypes(weight: float) -> None:
    settings = SelfSupportSettings(weight=weight)
    tasks = [episode(seed) for seed in range(4)]
    for task, refined in zip(tasks, SelfSupportRefiner(settings).refine(tasks), strict=True):
        confidence = task.rough.softmax(0)
        supports = torch.stack([support.prototypes for support in task.supports]).mean(0)
        joined = []
        for side, tau in ((0, settings.tau_bg), (1, settings.tau_fg)):
            cells = [task.query[:, i, j] for i in range(5) for j in range(5) if confidence[side, i, j] > tau]
            assert cells, "the drawn episode has confident cells on both sides"
            own = F.normalize(torch.stack(cells).mean(0), dim=0)
            joined.append((1 - weight) * F.normalize(supports[side], dim=0) + weight * own)
        for i in range(5):
            for j in range(5):
                cosines = [float(F.cosine_similarity(task.query[:, i, j], part, dim=0)) for part in joined]
                assert float(refined.logits[i, j]) == pytest.approx(SCALE * (cosines[1] - cosines[0]), abs=1e-4)
        assert refined.confident is not None
        assert torch.equal(
            refined.confident, confident_cells(task.rough[None], tau_fg=0.7, tau_bg=0.6, fallback_cells=12)[0]
        )


def test_weight_zero_is_matching_again_and_others_do_not_matter() -> None:
    tasks = [episode(seed) for seed in range(3)]
    for task, refined in zip(tasks, SelfSupportRefiner(SelfSupportSettings(weight=0)).refine(tasks), strict=True):
        assert torch.allclose(refined.logits, task.rough[1] - task.rough[0], atol=1e-5)
    alone = SelfSupportRefiner(SelfSupportSettings()).refine(tasks[1:2])[0]
    together = SelfSupportRefiner(SelfSupportSettings()).refine(tasks)[1]
    assert torch.equal(alone.logits, together.logits)


def test_without_confident_cells_the_most_confident_are_taken() -> None:
    task = episode(1)
    flat = RefinementTask(task.case, task.supports, task.query, task.rough * 1e-3, SCALE)
    chosen = SelfSupportRefiner(SelfSupportSettings(fallback_cells=3)).refine([flat])[0].confident
    assert chosen is not None
    assert int((chosen == 2).sum()) == 3
    assert 0 < int((chosen == 1).sum()) <= 3


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weight is 1\.5; expected 0 to 1"):
        SelfSupportSettings(weight=1.5)
    with pytest.raises(ValueError, match="tau_fg is nan"):
        SelfSupportSettings(tau_fg=float("nan"))


def test_the_table_of_variants_is_sound() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for number, variant in enumerate(VARIANTS):
        assert not variant.refiner or variant.refiner in REFINERS
        assert set(variant.compared_with) <= set(NAMES[:number]), "a variant is compared with earlier rows"
    assert {"pretrained+self-support", "spfl+self-support", "spfl+srofb"} <= set(refined_names())
    made = refiners_of("spfl", ["spfl+srofb", "spfl+self-support", "pretrained+self-support"], RefinerSettings())
    assert list(made) == ["spfl+self-support", "spfl+srofb"]
    assert [refiner.learns_from_cells for refiner in made.values()] == [False, True]
