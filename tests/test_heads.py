"""Training-free heads beside slow references written from their recipes, their clusters, and their side inputs."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.heads import RememberingClosedForm, count_pixels, unmeasured
from benchmarks.headscores import Group, Scores, leaders, leaders_table, read, sums_of
from benchmarks.headsettings import COUNTS, FORMS, Race, candidates, choose, fold_of, parse
from benchmarks.tables import write_rows
from benchmarks.untrained import Pictures
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.registry import new_backbone
from novelseg.core.extras import MissingPackageError
from novelseg.core.files import digest
from novelseg.formats.record import BackboneSpec, from_json
from novelseg.methods.bank import SupportBank
from novelseg.methods.closed_form.head import spherical_kmeans
from novelseg.methods.clusters import average_linkage
from novelseg.methods.contract import Case, RefinementTask, SideInputs, SupportFeatures
from novelseg.methods.foris.settings import ForisSettings
from novelseg.methods.fssdino.settings import FssdinoSettings
from novelseg.methods.insid3.settings import Insid3Settings
from novelseg.methods.matching.prototypes import match
from novelseg.methods.positions import position_basis, remove_positions
from novelseg.methods.refiners import REFINERS, RefinerSettings
from novelseg.regions import build_hierarchy, cut
from novelseg.regions.learned import WEIGHTS
from novelseg.regions.weights import BSDS500
from tests.pictures import disc

Vectors = NDArray[np.float64]
C, SCALE, QUERY = 6, 10.0, 9
SIZES = ((5, 3), (4, 7), (1, 6), (3, 3), (6, 5))


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def episode(seed: int, shots: int = 2, size: tuple[int, int] = (5, 7), cells: str = "both") -> RefinementTask:
    """An episode of random features whose objects share a direction; ``cells`` names the sides that supports show."""
    generator = torch.Generator().manual_seed(seed)
    direction, supports = 2 * drawn(generator, C), []
    for height, width in SIZES[:shots]:
        features = drawn(generator, C, height, width)
        labels = torch.full((height, width), 255 if cells == "none" else int(cells == "object"), dtype=torch.uint8)
        if cells == "both":
            labels[: max(1, height // 2), : width // 2] = 1
            labels[-1, -1] = 255
        features += direction[:, None, None] * (labels == 1)
        prototypes = torch.stack([drawn(generator, C), direction])
        supports.append(SupportFeatures(features, labels, prototypes, int((labels != 255).sum())))
    query = drawn(generator, C, *size)
    query[:, : size[0] // 2 + 1, : size[1] // 2] += direction[:, None, None]
    rough = match(query[None], torch.stack([one.prototypes for one in supports]).mean(0)[None], SCALE)[0]
    sizes = {QUERY: size, **dict(enumerate(SIZES))}
    basis = torch.linalg.qr(drawn(generator, C, 3))[0]

    def regions(image: int, tau: float) -> Tensor:
        height, width = sizes[image]
        step = 2 if tau < 0.5 else 3
        return (torch.arange(height)[:, None] // step) * 100 + torch.arange(width) // step

    side = SideInputs(regions, lambda image, content, count: basis[:, :count])
    return RefinementTask(Case(0, seed, QUERY, 1, tuple(range(shots))), tuple(supports), query, rough, SCALE, side)


def refined(form: str, task: RefinementTask, **changes: Any) -> Tensor:
    """Logits of a head with changed settings."""
    name = form.removesuffix("-regions")
    settings = RefinerSettings()
    settings = replace(settings, **{name: replace(getattr(settings, name), **changes)})
    return REFINERS[form](settings).refine([task])[0].logits


# Plain pieces of the references: vectors in float64, one cell at a time


def unit(vector: Vectors) -> Vectors:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def cells_of(features: Tensor) -> list[Vectors]:
    """Unit-length cells of features (C, h, w), row after row."""
    rows = features.double().numpy()
    return [unit(rows[:, i, j]) for i in range(rows.shape[1]) for j in range(rows.shape[2])]


def without(vector: Vectors, basis: Tensor | None) -> Vectors:
    """A cell without the directions of a basis."""
    if basis is None:
        return vector
    for column in basis.double().numpy().T:
        vector = vector - (vector @ column) * column
    return unit(vector)


def mean_of(vectors: Sequence[Vectors]) -> Vectors:
    return np.asarray(sum(vectors) / len(vectors))


def slow_linkage(cells: Sequence[Vectors], distance: float) -> list[list[int]]:
    """Merge the closest pair of clusters, by the mean distance of all pairs of cells, until none is close enough."""
    clusters = [[number] for number in range(len(cells))]
    while len(clusters) > 1:
        distances = {
            (a, b): np.mean([1 - cells[i] @ cells[j] for i in clusters[a] for j in clusters[b]])
            for a, b in combinations(range(len(clusters)), 2)
        }
        a, b = min(distances, key=lambda pair: distances[pair])
        if distances[a, b] >= distance:
            break
        clusters[a] += clusters.pop(b)
    return sorted(sorted(cluster) for cluster in clusters)


def groups(labels: Sequence[int]) -> list[list[int]]:
    return sorted([i for i, own in enumerate(labels) if own == label] for label in set(labels))


def clusters_of(task: RefinementTask, distance: float, tau: float | None) -> list[list[int]]:
    if tau is None:
        return slow_linkage(cells_of(task.query), distance)
    assert task.side_inputs
    return groups(task.side_inputs.regions(QUERY, tau).flatten().tolist())


def prototypes_of(task: RefinementTask, side: int, count: int, tau: float | None) -> list[Vectors]:
    """Prototypes of a side of the supports: k-means of all its cells, or the means of the regions' parts."""
    assert task.side_inputs
    labelled = [one.labels.flatten().tolist() for one in task.supports]
    if tau is None:
        own = [
            cell
            for one, labels in zip(task.supports, labelled, strict=True)
            for cell, label in zip(cells_of(one.features), labels, strict=True)
            if label == side
        ]
        return [*spherical_kmeans(torch.from_numpy(np.stack(own)).float(), count, 0).double().numpy()]
    found = []
    for image, (one, labels) in enumerate(zip(task.supports, labelled, strict=True)):
        for region in groups(task.side_inputs.regions(image, tau).flatten().tolist()):
            cells = cells_of(one.features)
            if part := [cells[cell] for cell in region if labels[cell] == side]:
                found.append(unit(mean_of(part)))
    return found


# Clusters


@pytest.mark.parametrize("distance", [0.05, 0.3, 0.6, 0.9, 1.4, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_average_linkage_merges_the_closest_pair_again_and_again(seed: int, distance: float) -> None:
    features = drawn(torch.Generator().manual_seed(seed), 3, 3, 5)
    labels = average_linkage(F.normalize(features.flatten(1), dim=0).T, distance).tolist()
    assert groups(labels) == slow_linkage(cells_of(features), distance)
    firsts = [labels.index(label) for label in range(max(labels) + 1)]
    assert firsts == sorted(firsts), "clusters are numbered in the order of their first cells"


def test_average_linkage_is_that_of_scipy() -> None:
    from scipy.cluster.hierarchy import fcluster, linkage

    cells = F.normalize(drawn(torch.Generator().manual_seed(5), 120, 4), dim=1)
    for distance in (0.1, 0.35, 0.7):
        expected = fcluster(linkage(cells.double().numpy(), "average", "cosine"), distance, "distance")
        assert groups(average_linkage(cells, distance).tolist()) == groups(expected.tolist())


def test_equal_cells_form_one_cluster_and_a_single_cell_its_own() -> None:
    cells = F.normalize(torch.tensor([[1.0, 2.0]] * 5 + [[2.0, -1.0]] * 4), dim=1)
    assert average_linkage(cells, 0.4).tolist() == [0] * 5 + [1] * 4
    assert average_linkage(cells[:1], 0.4).tolist() == [0]
    assert average_linkage(cells, 2.0).tolist() == [0] * 9


# Heads beside their recipes


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize(("form", "tau"), [("fssdino", None), ("fssdino-regions", 0.4), ("fssdino-regions", 0.6)])
def test_fssdino_is_its_recipe(form: str, tau: float | None, shots: int) -> None:
    task, temperature = episode(shots, shots), 0.2
    cells = cells_of(task.query)
    scores = []
    for side, count in ((0, 3), (1, 2)):
        prototypes = prototypes_of(task, side, count, tau)
        near = [[float(cell @ one) for one in prototypes] for cell in cells]
        scores.append([max(0, *row) * sum(row) / len(row) for row in near])
    plain = [SCALE * (inside - outside) for outside, inside in zip(*scores, strict=True)]
    averaged = []
    for cell in cells:
        weights = [math.exp(float(cell @ other) / temperature) for other in cells]
        averaged.append(sum(w * one for w, one in zip(weights, plain, strict=True)) / sum(weights))
    changes = {"object_prototypes": 2, "background_prototypes": 3, "region_tau": tau or 0.4}
    for expected, gram in ((plain, 0.0), (averaged, temperature)):
        logits = refined(form, task, gram_temperature=gram, reduction=1, **changes)
        assert logits.flatten().tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("positions", [0, 2])
@pytest.mark.parametrize(("form", "tau"), [("insid3", None), ("insid3-regions", 0.4)])
def test_insid3_is_its_recipe(form: str, tau: float | None, positions: int, shots: int) -> None:
    several = 0
    for seed in range(4):
        task, distance, keep = episode(10 + seed, shots), 0.7, 0.02
        assert task.side_inputs
        basis = task.side_inputs.positions(QUERY, "black", positions) if positions else None
        cells = cells_of(task.query)
        across = [without(cell, basis) for cell in cells]
        means, votes = [], [0] * len(cells)
        for one in task.supports:
            labelled = zip(cells_of(one.features), one.labels.flatten().tolist(), strict=True)
            known = [(without(cell, basis), label) for cell, label in labelled if label != 255]
            means.append(mean_of([cell for cell, label in known if label == 1]) if any(n for _, n in known) else None)
            for number, cell in enumerate(across):
                votes[number] += max(known, key=lambda entry: float(entry[0] @ cell))[1]
        prototype = unit(mean_of([one for one in means if one is not None]))
        candidate = [
            float(cell @ prototype) > 0 and count >= math.ceil(shots / 2)
            for cell, count in zip(across, votes, strict=True)
        ]
        found = []
        for cluster in clusters_of(task, distance, tau):
            share = sum(candidate[cell] for cell in cluster) / len(cluster)
            cross = float(unit(mean_of([across[cell] for cell in cluster])) @ prototype)
            found.append((cluster, share, cross, unit(mean_of([cells[cell] for cell in cluster]))))
        seed_cluster = max((one for one in found if one[1]), key=lambda one: one[2] * one[1])
        inside = set(seed_cluster[0])
        for cluster, share, cross, mean in found:
            if cross * float(mean @ seed_cluster[3]) * share > keep:
                inside |= set(cluster)
        several += len(inside) > len(seed_cluster[0])
        logits = refined(form, task, distance=distance, keep=keep, positions=positions, region_tau=tau or 0.4)
        expected = [0.5 if cell in inside else -0.5 for cell in range(len(cells))]
        assert logits.flatten().tolist() == expected
    assert several, "in some episode a cluster joins the seed"


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("bias_below", [-1.0, 1.0])
@pytest.mark.parametrize(("form", "tau"), [("foris", None), ("foris-regions", 0.4)])
def test_foris_is_its_recipe(form: str, tau: float | None, bias_below: float, shots: int) -> None:
    task = episode(20 + shots, shots)
    settings = ForisSettings(positions=2, bias_below=bias_below, prototypes=2, gate=0.3, boost=0.4, distance=0.7)
    assert task.side_inputs
    sides: list[list[Vectors]] = [[], []]
    for one in task.supports:
        for cell, label in zip(cells_of(one.features), one.labels.flatten().tolist(), strict=True):
            if label != 255:
                sides[label].append(cell)
    prototypes, cells = prototypes_of(task, 1, 2, tau), cells_of(task.query)
    likeness = float(unit(mean_of(sides[1])) @ unit(mean_of(cells)))
    if likeness < bias_below:
        basis = task.side_inputs.positions(QUERY, "black", 2)
        sides = [[without(cell, basis) for cell in side] for side in sides]
        prototypes, cells = ([without(cell, basis) for cell in part] for part in (prototypes, cells))
    direction = unit(mean_of(sides[1]))
    ranked = sorted(sides[0], key=lambda cell: -float(cell @ direction))
    mean = mean_of(ranked[: max(1, round(settings.hard_share * len(ranked)))])
    hard = unit(mean - (mean @ direction) * direction)

    def score(cell: Vectors) -> float:
        warm = [math.exp(float(cell @ one) / settings.temperature) for one in prototypes]
        return settings.temperature * math.log(sum(warm) / len(warm)) - 0.55 * float(cell @ hard)

    low, high = (sum(map(score, side)) / len(side) for side in sides)
    width = settings.gate * (high - low)
    middle = low + settings.threshold * (high - low)
    gates = [1 / (1 + math.exp(-(score(cell) - middle) / width)) for cell in cells]
    clusters = clusters_of(task, settings.distance, tau)
    seed = max(clusters, key=lambda cluster: sum(gates[cell] for cell in cluster) / len(cluster))
    expected = [gate * (1.4 if cell in seed else 1) - 0.5 for cell, gate in enumerate(gates)]
    changes = {name: getattr(settings, name) for name in ("positions", "bias_below", "prototypes", "gate", "boost")}
    logits = refined(form, task, **changes, distance=0.7, region_tau=tau or 0.4)
    assert logits.flatten().tolist() == pytest.approx(expected, abs=1e-4)


# What holds of all of them


@pytest.mark.parametrize("form", FORMS)
def test_results_repeat_and_do_not_depend_on_other_episodes(form: str) -> None:
    tasks = [episode(seed, shots) for seed, shots in ((0, 1), (1, 5), (2, 2))]
    refiner = REFINERS[form](RefinerSettings())
    first, again = refiner.refine(tasks), refiner.refine(tasks)
    alone = refiner.refine(tasks[1:2])[0]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.logits, other.logits)
    assert torch.equal(first[1].logits, alone.logits)
    assert [one.logits.shape for one in first] == [task.query.shape[1:] for task in tasks]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cells", ["both", "object", "background", "none"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_degenerate_episodes_give_finite_logits(form: str, cells: str, size: tuple[int, int]) -> None:
    task = episode(3, 1, size, cells)
    changes: dict[str, Any] = {} if form.startswith("fssdino") else {"positions": 2}
    logits = refined(form, task, **changes)
    assert logits.shape == size
    assert logits.isfinite().all()
    blank = replace(task, query=torch.zeros_like(task.query))  # cells without a direction
    assert refined(form, blank, **changes).isfinite().all()


def test_insid3_finds_nothing_without_a_candidate() -> None:
    task = episode(3, 1, (4, 3), "background")
    assert (refined("insid3", task) == -0.5).all()


def test_a_head_that_lacks_its_side_inputs_says_so() -> None:
    task = replace(episode(0), side_inputs=None)
    assert refined("insid3", task).isfinite().all()
    biased: dict[str, Any] = {"positions": 3, "bias_below": 1.0}
    for form, changes in (("insid3-regions", {}), ("fssdino-regions", {}), ("foris", biased)):
        with pytest.raises(ValueError, match="needs regions or positions of the images"):
            refined(form, task, **changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: FssdinoSettings(object_prototypes=0), "object_prototypes is 0; expected 1 to 1000"),
        (lambda: Insid3Settings(distance=math.nan), "distance is nan; expected 0 to 2"),
        (lambda: from_json(Insid3Settings, {"blank": "white"}), "'blank' is 'white'; expected one of black, noise"),
        (lambda: ForisSettings(hard_share=1.5), r"hard_share is 1\.5; expected 0 to 1"),
        (lambda: from_json(ForisSettings, {"blank": ""}), "'blank' is ''; expected one of black, noise"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings()


# Side inputs


def test_positions_are_the_main_directions_of_a_blank_picture() -> None:
    blank = drawn(torch.Generator().manual_seed(1), C, 3, 4) + 2
    cells = np.stack(cells_of(blank), 1)
    vectors = np.linalg.svd(cells - cells.mean(1, keepdims=True))[0]
    basis = position_basis(blank, 2)
    assert np.abs(basis.double().numpy().T @ vectors[:, :2]) == pytest.approx(np.eye(2), abs=1e-5)
    left = remove_positions(F.normalize(blank.flatten(1), dim=0).T, basis)
    assert (left @ basis).abs().max() < 1e-5
    assert left.norm(dim=1).tolist() == pytest.approx([1] * 12, abs=1e-5)
    assert torch.equal(remove_positions(left, None), left)


def test_positions_are_no_more_than_the_picture_has() -> None:
    assert position_basis(torch.ones(C, 3, 3), 4).shape == (C, 0)  # every cell looks the same
    two = torch.ones(C, 2, 1)
    two[0, 1] = 3
    assert position_basis(two, 4).shape == (C, 1)
    cells = F.normalize(torch.rand(4, C), dim=1)
    assert torch.equal(remove_positions(cells, position_basis(torch.ones(C, 1, 1), 4)), cells)


def small_bank(images: list[NDArray[np.uint8]], masks: list[NDArray[np.uint8]]) -> SupportBank:
    torch.manual_seed(0)
    net = new_backbone(BackboneSpec("resnet18", width=4)).eval()
    extract = FeatureExtractor(net, "fp32", torch.device("cpu"))
    return SupportBank(
        extract, lambda n: (images[n].shape[0], images[n].shape[1]), images.__getitem__, masks.__getitem__, 1
    )


def test_the_bank_gives_regions_and_positions() -> None:
    pairs = [disc(48), disc(40, (20, 16))]
    bank = small_bank([image for image, _ in pairs], [mask for _, mask in pairs])
    bank.load({0, 1})
    side, tree = bank.side_inputs, build_hierarchy(pairs[1][0])
    for tau in (0.1, 0.45, 1.0):
        labels = torch.from_numpy(cut(tree, tau, (40, 40)).astype(np.int64))
        cells = (bank[1].shape[1], bank[1].shape[2])
        expected = bank.grid.labels_at_cells(labels, cells).flatten().tolist()
        assert groups(side.regions(1, tau).flatten().tolist()) == groups(expected)
    black, noise = (side.positions(0, content, 3) for content in ("black", "noise"))
    assert black.shape[0] == noise.shape[0] == bank[0].shape[0]
    assert black.shape[1] == noise.shape[1] == 3
    assert not torch.allclose(black.abs(), noise.abs())
    assert torch.equal(noise, small_bank(*map(list, zip(*pairs, strict=True))).positions(0, "noise", 3))
    bank.forget({1})
    assert list(bank._hierarchies) == []


def test_regions_without_their_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("novelseg.regions.learned", "novelseg.regions.ucm"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "higra", None)
    image, mask = disc()
    bank = small_bank([image], [mask])
    bank.load({0})
    with pytest.raises(MissingPackageError, match=r"regions needs higra; run `pip install 'novelseg\[regions\]'`"):
        bank.regions(0, 0.45)


def test_the_code_names_the_weights_of_the_regions() -> None:
    assert digest(BSDS500) == WEIGHTS


# The benchmark


def rows_of(setting: str, scores: dict[int, tuple[int, int]]) -> list[dict[str, str]]:
    """Rows of a setting, one per class, with its intersection and union."""
    return [
        {
            **{"setting": setting, "class": str(label), "episode": "0", "query": f"q{label}", "cpu_ms": "1.0"},
            "supports": "s",
            **{"encoder": "resnet18", "list": "val", "shots": "1", "fold": str(fold_of(label))},
            **dict(zip(COUNTS, map(str, (*counts, 50, 100)), strict=True)),
        }
        for label, counts in scores.items()
    ]


def test_scores_and_intervals_are_over_queries() -> None:
    first = rows_of("a", {1: (1, 4), 6: (3, 4)}) + rows_of("a", {1: (3, 4)})
    second = rows_of("b", {1: (2, 4), 6: (2, 4)}) + rows_of("b", {1: (2, 4)})
    scores = Scores({"a": first, "b": second}, draws=50)
    assert scores.miou("a")[0] == pytest.approx(100 * (4 / 8 + 3 / 4) / 2)
    assert scores.miou("b") == pytest.approx(np.full(51, 50.0)), "one query per class: nothing to resample"
    assert scores.fb_iou("a") == pytest.approx(100 * (4 / 8 + 0.5 + 3 / 4 + 0.5) / 4)
    assert scores.gain("a", "b") == "+12.5 [+12.5, +12.5]"
    other = rows_of("a", {1: (4, 4)})
    other[0]["query"] = "another"
    spread = Scores({"a": first + other}, draws=400).miou("a")
    assert spread[1:].min() == pytest.approx(100 * (4 / 8 + 3 / 4) / 2)
    assert spread[1:].max() == pytest.approx(100 * (4 / 4 + 3 / 4) / 2)


def test_differences_are_of_the_episodes_that_both_have() -> None:
    rows = rows_of("matching", {1: (1, 4), 6: (3, 4)}) + rows_of("closed-form", {1: (2, 4), 6: (3, 4)})
    rows += rows_of("srofb", {1: (4, 4)})
    group = Group(rows)
    assert [line.split("|")[2:8] for line in group.table()[2:5]] == [
        [" 2 ", " 50.0 ", " 50.0 ", "  ", " -75.0 [-75.0, -75.0] ", " -12.5 [-12.5, -12.5] "],
        [" 2 ", " 62.5 ", " 56.2 ", " +12.5 [+12.5, +12.5] ", " -50.0 [-50.0, -50.0] ", "  "],
        [" 1 ", " 100.0 ", " 75.0 ", " +75.0 [+75.0, +75.0] ", "  ", " +50.0 [+50.0, +50.0] "],
    ]
    assert leaders(group.gains()) == "`srofb` +75.0 [+75.0, +75.0], `closed-form` +12.5 [+12.5, +12.5]"
    without = Group([row for row in rows if row["setting"] != "srofb"])
    assert [line.split("|")[3] for line in leaders_table({("a", 1): group, ("a", 5): without}, {})[2:]] == [
        " `srofb` +75.0 [+75.0, +75.0], `closed-form` +12.5 [+12.5, +12.5] ",
        " `closed-form` +12.5 [+12.5, +12.5] ",
        " `closed-form` +12.5 ",
    ]
    first = sums_of({("resnet18", 1): rows + rows})[0]
    assert (first["setting"], first["episodes"], first["fg_union"]) == ("matching", 2, 8)


def test_pixels_are_counted_as_one_by_one() -> None:
    generator = torch.Generator().manual_seed(3)
    grid = small_bank(*([one] for one in disc())).grid
    truth = torch.randint(0, 3, (40, 56), generator=generator).numpy().astype(np.uint8)
    truth[:4] = 255
    logits = torch.randn(3, *grid.cells((40, 56)), generator=generator)
    for one, counts in zip(logits, count_pixels(grid, logits, truth, 2), strict=True):
        found = grid.upsample(one[None, None], (40, 56))[0, 0].numpy() > 0
        known, inside = truth != 255, truth == 2
        sides = [(found & known, inside), (~found & known, ~inside & known)]
        assert [counts[name] for name in COUNTS] == [
            int(count) for mask, side in sides for count in ((mask & side).sum(), (mask | side).sum())
        ]


@pytest.mark.parametrize("cells", ["both", "object", "none"])
def test_a_head_that_remembers_supports_gives_the_same_results(cells: str) -> None:
    remembering = RememberingClosedForm(RefinerSettings().closed_form)
    for number in (1, 1, 2):
        task = episode(1, cells=cells)
        task = replace(task, case=replace(task.case, label=number), query=episode(number).query)
        expected = REFINERS["closed-form"](RefinerSettings()).refine([task])[0].logits
        assert torch.equal(remembering.refine(task).logits, expected)


def test_a_folds_setting_is_chosen_without_its_classes() -> None:
    rows = []
    for form in FORMS:
        for number, one in enumerate(candidates(form)):
            # The second candidate is best on fold 0 alone, and by far; the first on all others.
            best = {0: 3, 1: 9}.get(number, 0)
            rows += rows_of(
                one.name, {label: (best if label <= 5 else max(0, 4 - 2 * number), 10) for label in range(1, 21)}
            )
    chosen = choose({("resnet18", 1): rows})
    for form in FORMS:
        first, second = candidates(form)[:2]
        # Without fold 0: 4 of 10 against 2. Without another fold: (3 + 2 · 4) / 3 against (9 + 2 · 2) / 3.
        assert chosen[form] == [first.name, second.name, second.name, second.name]
        assert parse(second.name) == second


def test_hopeless_candidates_leave_the_race_by_other_folds_classes_alone() -> None:
    form = "fssdino"
    names = [one.name for one in candidates(form)]
    race = Race([1])
    first, last = names[0], names[-1]
    for number in range(2):
        # The first candidate is good in fold 0 alone, the last one in all other folds; the rest is the same everywhere.
        for name in names:
            good = {first: range(1, 6), last: range(6, 21)}.get(name, range(0))
            rows = rows_of(name, {label: (9 if label in good else 3, 10) for label in range(1, 21)})
            race.add([{**row, "episode": number} for row in rows])
        assert (len(race.left(form, 0)) == len(names)) == (number == 0), "two episodes of a class come first"
    assert last in race.left(form, 0) and first in race.left(form, 1)
    assert race.left(form, 0)[0] == last and race.choice(form, 0) == last
    assert race.left(form, 0) == [last, *names[:2]], "half of them, the first of equal ones"
    assert [one.name for one in race.running(form)] == [*names[:2], last]
    assert Race([1], race).left(form, 0) == race.left(form, 0), "another encoder's race starts with what is left"


def test_rows_of_other_episodes_are_refused(tmp_path: Path) -> None:
    pixels = np.full((6, 256), 2000)
    pixels[5] = 0
    pictures = cast("Pictures", SimpleNamespace(ids=list("abcdef"), pixels=pixels))
    options = argparse.Namespace(shots=[1], episodes=2, min_pixels=10, seed=0, out=tmp_path / "rows.tsv")
    number, label, query, supports = next(unmeasured(pictures, options, []))
    row = {"shots": "1", "class": str(label), "episode": str(number), "supports": pictures.ids[supports[0]]}
    left = list(unmeasured(pictures, options, [{**row, "query": pictures.ids[query]}]))
    assert len(left) == 2 * 20 - 1
    options.shots = [5]
    with pytest.raises(SystemExit, match=r"class 1: expected at least 6 pictures with 10 px of it, found 5"):
        list(unmeasured(pictures, options, []))
    options.shots = [1]
    with pytest.raises(SystemExit, match=r"rows.tsv: episode 0 of class 1 with 1 supports is not the one"):
        list(unmeasured(pictures, options, [{**row, "query": "z"}]))


def test_a_row_of_two_files_counts_once(tmp_path: Path) -> None:
    rows = rows_of("matching", {1: (1, 4), 6: (3, 4)})
    for name, part in (("a", rows), ("b", rows[:1] + rows_of("srofb", {1: (2, 4)}))):
        write_rows(tmp_path / name, list(rows[0]), part)
    read_again = read([tmp_path / "a", tmp_path / "b"])
    assert [(row["setting"], row["class"]) for row in read_again["resnet18", 1]] == [
        ("matching", "1"),
        ("matching", "6"),
        ("srofb", "1"),
    ]


def test_every_candidate_can_be_built() -> None:
    for form in FORMS:
        assert len({one.name for one in candidates(form)}) == len(candidates(form))
        for one in candidates(form):
            assert one.region_tau == one.changes.get("region_tau"), "which forms with regions vary"
            assert one.refiner().refine([episode(1)])[0].logits.isfinite().all()
