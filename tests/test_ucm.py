"""The learned hierarchy: measurements, merging, the whole (A3)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from skimage import data
from skimage.measure import label as connected

from novelseg.core.errors import InputError
from novelseg.core.threads import one_thread
from novelseg.data.scenes import SceneSettings, scene
from novelseg.regions import regiongraph, ucm
from novelseg.regions.contours import CUES, Contours
from novelseg.regions.hierarchy import Hierarchy, cut
from novelseg.regions.regiongraph import RegionGraph, features, measure, merge_regions, spectral, with_strength
from novelseg.regions.weights import BSDS500, load_model, save_model

ROOT = Path(__file__).parent.parent
MODEL = load_model(BSDS500)


def random_basins(rng: np.random.Generator, shape: tuple[int, int], seeds: int) -> np.ndarray:
    """Nearest-seed regions, each one connected, numbered without gaps."""
    points = rng.random((seeds, 2)) * shape
    grid = np.moveaxis(np.indices(shape), 0, -1)
    nearest = ((grid[:, :, None] - points) ** 2).sum(axis=-1).argmin(axis=-1)
    return np.unique(connected(nearest + 1, connectivity=1), return_inverse=True)[1].reshape(shape)


def random_evidence(rng: np.random.Generator, shape: tuple[int, int]) -> Contours:
    roots = rng.random((len(CUES), 2, 2, *shape)).astype(np.float32)
    full = np.einsum("kijhw,kljhw->kilhw", roots, roots)  # positive semi-definite
    tensors = np.ascontiguousarray(np.stack([full[:, 0, 0], full[:, 0, 1], full[:, 1, 1]], axis=1))
    return Contours(tensors, rng.random((3, *shape)).astype(np.float32), rng.integers(0, 32, shape).astype(np.uint8))


def random_graph(seed: int, shape: tuple[int, int] = (12, 15), seeds: int = 14) -> tuple[np.ndarray, RegionGraph]:
    rng = np.random.default_rng(seed)
    basins = random_basins(rng, shape, seeds)
    return basins, measure(basins, random_evidence(rng, shape))


def slow_measure(basins: np.ndarray, evidence: Contours) -> dict[tuple[int, int], np.ndarray]:
    """Length and cue strengths of each arc, pixel pair by pixel pair."""
    height, width = basins.shape
    pairs: dict[tuple[int, int], list[tuple[tuple[int, int], tuple[int, int]]]] = {}
    for y, x in np.ndindex(height, width):
        for dy, dx in ((0, 1), (1, 0)):
            if y + dy < height and x + dx < width and basins[y, x] != basins[y + dy, x + dx]:
                one, other = (y, x), (y + dy, x + dx)
                if basins[one] > basins[other]:
                    one, other = other, one
                pairs.setdefault((int(basins[one]), int(basins[other])), []).append((one, other))
    found = {}
    for key, arc in pairs.items():
        normal = np.array([[b[1] - a[1], b[0] - a[0]] for a, b in arc], float).sum(axis=0)
        norm = np.linalg.norm(normal)
        nx, ny = normal[0] / max(norm, 1e-9), normal[1] / max(norm, 1e-9)
        sums = np.zeros(1 + len(CUES))
        for a, b in arc:
            xx, xy, yy = ((evidence.tensors[:, :, a[0], a[1]] + evidence.tensors[:, :, b[0], b[1]]) / 2).T
            form = nx * nx * xx + 2 * nx * ny * xy + ny * ny * yy
            if norm < 0.2 * len(arc):  # the arc turns around a region
                form = np.array([np.linalg.eigvalsh([[p, q], [q, r]])[-1] for p, q, r in zip(xx, xy, yy, strict=True)])
            sums += [1, *np.sqrt(np.maximum(0, form))]
        found[key] = sums
    return found


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10000), st.booleans())
def test_arcs_are_measured_as_pixel_pair_by_pixel_pair(seed: int, enclosed: bool) -> None:
    rng = np.random.default_rng(seed)
    basins = random_basins(rng, (9, 11), 7)
    if enclosed:
        basins[2:7, 2:7] = basins.max() + 1
        basins[4, 4] = basins.max() + 1
        basins = np.unique(basins, return_inverse=True)[1].reshape(basins.shape)
    evidence = random_evidence(rng, (9, 11))
    graph = measure(basins, evidence)
    slow = slow_measure(basins, evidence)
    assert list(zip(graph.first.tolist(), graph.second.tolist(), strict=True)) == sorted(slow)
    assert np.allclose(graph.arcs, [slow[key] for key in sorted(slow)], rtol=1e-5, atol=1e-5)
    for region, sums in enumerate(graph.regions):
        inside = basins == region
        lab = evidence.lab[:, inside].astype(np.float64)
        assert np.allclose(sums[:7], [inside.sum(), *lab.sum(axis=1), *(lab**2).sum(axis=1)], rtol=1e-5)
        assert np.array_equal(sums[7 + 48 :], np.bincount(evidence.textons[inside], minlength=32))
        assert np.array_equal(sums[7:23], np.bincount(np.rint(lab[0] * 15).astype(int), minlength=16))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10000))
def test_merging_adds_up_what_measuring_anew_would_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    basins, graph = random_graph(seed)
    label = np.unique(rng.integers(0, 5, graph.size), return_inverse=True)[1]
    joined = merge_regions(graph, label)
    again = measure(label[basins], random_evidence(np.random.default_rng(0), basins.shape))
    assert np.array_equal(joined.first, again.first)
    assert np.array_equal(joined.second, again.second)
    assert np.array_equal(joined.length, again.length)
    assert np.allclose(joined.regions.sum(axis=0), graph.regions.sum(axis=0))
    inner = label[graph.first] == label[graph.second]
    assert np.allclose(joined.arcs.sum(axis=0), graph.arcs[~inner].sum(axis=0))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10000))
def test_features_do_not_depend_on_the_numbers_of_regions(seed: int) -> None:
    _, graph = random_graph(seed)
    graph = with_strength(graph, np.random.default_rng(seed).random(len(graph.first)))
    order = np.random.default_rng(seed + 1).permutation(graph.size)
    first, second = order[graph.first], order[graph.second]
    there = np.lexsort((np.maximum(first, second), np.minimum(first, second)))
    renamed = merge_regions(graph, order)
    assert np.array_equal(renamed.first, np.minimum(first, second)[there])
    assert np.allclose(features(renamed), features(graph)[there])
    strength = graph.arcs[:, -1] / graph.length
    assert np.allclose(spectral(renamed, strength[there]), spectral(graph, strength)[there], atol=1e-4)


def test_eigenvectors_found_one_by_one_are_those_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph = random_graph(3, (30, 34), 60)
    strength = np.random.default_rng(1).random(len(graph.first))
    dense = spectral(graph, strength)
    monkeypatch.setattr(regiongraph, "DENSE", 0)
    assert np.allclose(spectral(graph, strength), dense, atol=1e-6)


def slow_linkage(graph: RegionGraph, rating: np.ndarray) -> list[tuple[frozenset[int], float]]:
    """Merge the pair of groups whose mean rating by length is lowest, until one is left; groups and raised levels."""
    groups = [frozenset({region}) for region in range(graph.size)]
    level = dict.fromkeys(groups, 0.0)
    merges = []
    while len(groups) > 1:
        means = {}
        for i, one in enumerate(groups):
            for other in groups[i + 1 :]:
                between = [
                    arc
                    for arc, (a, b) in enumerate(zip(graph.first, graph.second, strict=True))
                    if (a in one and b in other) or (a in other and b in one)
                ]
                if between:
                    means[one, other] = np.average(rating[between], weights=graph.length[between])
        (one, other), mean = min(means.items(), key=lambda entry: entry[1])
        both = one | other
        level[both] = max(mean, level[one], level[other])
        groups = [group for group in groups if group not in (one, other)] + [both]
        merges.append((both, float(level[both])))
    return merges


def members(tree: ucm.Merges, leaves: int) -> dict[frozenset[int], float]:
    """Leaves below each inner node, and its level."""
    below: list[set[int]] = [{node} if node < leaves else set() for node in range(len(tree.parents))]
    for node, parent in enumerate(tree.parents[:-1]):
        below[parent] |= below[node]
    return {frozenset(part): float(tree.levels[node]) for node, part in enumerate(below) if node >= leaves}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10000))
def test_one_stage_is_average_linkage(seed: int) -> None:
    _, graph = random_graph(seed, (9, 10), 8)
    rating = np.random.default_rng(seed).random(len(graph.first))
    tree = ucm.merge(graph, [lambda _: rating], [])
    slow = dict(slow_linkage(graph, rating))
    fast = members(tree, graph.size)
    assert set(fast) == set(slow)
    assert all(abs(fast[part] - level) < 1e-9 for part, level in slow.items())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10000), st.floats(0.2, 0.8))
def test_stages_merge_below_their_cut_and_the_next_goes_on_from_there(seed: int, threshold: float) -> None:
    basins, graph = random_graph(seed)

    def network(values: np.ndarray) -> np.ndarray:
        rating: np.ndarray = 1 / (1 + np.exp(-3 * (values[:, 0] - np.median(values[:, 0]))))
        return rating

    first = ucm.merge(graph, [network], [threshold])
    both = ucm.merge(graph, [network, network], [threshold])
    assert np.array_equal(both.label, first.label)
    leaves = graph.size
    assert (both.parents[:-1] > np.arange(len(both.parents) - 1)).all()
    assert both.parents[-1] == len(both.parents) - 1 == 2 * leaves - 2
    assert (both.levels[both.parents] >= both.levels).all()
    tree = Hierarchy(basins.astype(np.uint16), both.parents.astype(np.int32), both.levels.astype(np.float32))
    after = cut(tree, 1, (basins.shape[0], basins.shape[1]))
    pairs = np.unique(np.stack([after.reshape(-1), first.label[basins].reshape(-1)]), axis=1)
    assert pairs.shape[1] == first.graph.size == after.max() + 1
    assert np.allclose(first.graph.regions.sum(axis=0), graph.regions.sum(axis=0))


def picture(number: int, size: int = 96) -> np.ndarray:
    return scene(SceneSettings(seed=1, train=1, val=1, size=size), number)[0]


def test_hierarchies_are_nested_connected_and_rise_to_the_root() -> None:
    image = picture(3)
    tree = ucm.build(image, MODEL)
    assert (tree.heights[tree.parents] >= tree.heights).all()
    assert tree.heights.max() < 1
    size = (image.shape[0], image.shape[1])
    fine, coarse = cut(tree, 0.1, size), cut(tree, 0.45, size)
    assert fine.max() > coarse.max() > 0
    assert len(np.unique(np.stack([fine.reshape(-1), coarse.reshape(-1)]), axis=1).T) == fine.max() + 1
    assert connected(fine.astype(int) + 1, connectivity=1).max() == fine.max() + 1
    assert cut(tree, 1.0, size).max() == 0


def test_two_plain_halves_are_two_regions() -> None:
    image = np.full((80, 120, 3), 40, np.uint8)
    image[:, 60:] = (190, 160, 60)
    labels = cut(ucm.build(image, MODEL), 0.45, (80, 120))
    assert labels.max() == 1
    assert len(np.unique(labels[:, :57])) == len(np.unique(labels[:, 63:])) == 1


def test_what_lies_wholly_inside_something_else_is_seen() -> None:
    rows, columns = np.indices((160, 240))
    square = (abs(rows - 70) < 40) & (abs(columns - 110) < 40)
    disc = (rows - 80) ** 2 + (columns - 120) ** 2 < 50**2
    for inside in (square, disc):
        image = np.where(inside[..., None], (220, 200, 40), (120, 120, 120)).astype(np.uint8)
        tree = ucm.build(image, MODEL)
        labels = cut(tree, 0.45, inside.shape)
        assert labels.max() == 1
        assert np.mean((labels == labels[80, 120]) == inside) > 0.98
        assert tree.heights.max() > 0.8


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (16, 16), (1, 300), (40, 3)])
def test_tiny_and_plain_images_are_one_region(shape: tuple[int, int]) -> None:
    labels = cut(ucm.build(np.full((*shape, 3), 90, np.uint8), MODEL), 0.45, (2 * shape[0], 3 * shape[1]))
    assert labels.shape == (2 * shape[0], 3 * shape[1])
    assert labels.max() == 0


@pytest.mark.parametrize("shape", [(1, 60), (60, 1), (2, 50), (7, 7), (3, 200)])
def test_narrow_images_of_noise_are_segmented(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    tree = ucm.build(image, MODEL)
    assert cut(tree, 0.0, shape).max() == tree.basins.max()
    assert cut(tree, 1.0, shape).max() == 0


def test_plain_pictures_give_few_regions_and_rich_ones_many() -> None:
    pictures = {
        "horse": data.horse().astype(np.uint8) * 255,  # a silhouette
        "grass": data.grass()[:200, :300],
        "moon": data.moon()[:200, :300],
        "coins": data.coins()[:120, :200],
        "astronaut": data.astronaut()[:321, :481],
    }
    counts = {}
    for name, picture in pictures.items():
        image = picture if picture.ndim == 3 else picture[:, :, None].repeat(3, axis=2)
        counts[name] = int(cut(ucm.build(image, MODEL), 0.45, (image.shape[0], image.shape[1])).max()) + 1
    assert 2 <= counts["horse"] <= 4
    assert counts["grass"] <= 2
    assert counts["moon"] <= 8
    assert 4 <= counts["coins"] <= 14
    assert 14 <= counts["astronaut"] <= 40


ONE_IMAGE = """
import hashlib, sys
import cv2
from pathlib import Path
from skimage import data
from novelseg.core.threads import one_thread
from novelseg.regions.weights import BSDS500, load_model
from novelseg.regions import ucm
model = load_model(Path(sys.argv[1]))
digest = hashlib.sha256()
with one_thread():
    for image in (data.astronaut()[:300, :400], data.coffee()[:200, :300]):
        tree = ucm.build(image, model)
        for part in (tree.basins, tree.parents, tree.heights):
            digest.update(part.tobytes())
print(digest.hexdigest())
"""


@pytest.mark.processes
def test_the_same_image_gives_the_same_bytes_in_any_process_with_any_threads() -> None:
    found = set()
    for threads in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", ONE_IMAGE, str(BSDS500)],
            env={**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(run.stdout)
    here = hashlib.sha256()
    with one_thread():
        for image in (data.astronaut()[:300, :400], data.coffee()[:200, :300]):
            tree = ucm.build(image, MODEL)
            for part in (tree.basins, tree.parents, tree.heights):
                here.update(part.tobytes())
    assert found == {here.hexdigest() + "\n"}


def test_weights_survive_the_file(tmp_path: Path) -> None:
    save_model(tmp_path / "again.safetensors", MODEL)
    save_model(tmp_path / "third.safetensors", load_model(tmp_path / "again.safetensors"))
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "third.safetensors").read_bytes()
    arrays, before = load_file(tmp_path / "again.safetensors"), load_file(BSDS500)
    assert arrays.keys() == before.keys()
    assert all(np.array_equal(arrays[name], before[name]) for name in arrays)
    image = picture(5, 64)
    here, there = (ucm.build(image, model) for model in (MODEL, load_model(tmp_path / "again.safetensors")))
    assert np.array_equal(here.heights, there.heights)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("0.mean", lambda array: array[1:]),
        ("1.deviation", lambda array: array[None]),
        ("2.1.weight", lambda array: array[:, :, 1:]),
        ("3.0.bias", lambda array: array[1:]),
        ("3.2.weight", lambda array: array * np.nan),
        ("textons", lambda array: np.ascontiguousarray(array.T)),
        ("levels", lambda array: array[0]),
        ("levels", lambda array: np.ascontiguousarray(array[:, ::-1])),
        ("cuts", lambda array: array[:2]),
        ("cuts", lambda array: array[0]),
        ("0.2.weight", None),
        ("textons", None),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(
    name: str, change: Callable[[np.ndarray], np.ndarray] | None, tmp_path: Path
) -> None:
    arrays = load_file(BSDS500)
    if change:
        arrays[name] = np.asarray(change(arrays[name]))
    else:
        del arrays[name]
    path = tmp_path / "weights.safetensors"
    save_file(arrays, path, {"novelseg-regions": "1"})
    with pytest.raises(InputError, match=r"weights.safetensors: incomplete or damaged region weights \(") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such file; `python -m stages trainregions` writes one"),
        (b"", "not a readable novelseg-regions file"),
        (b"\x00" * 100, "not a readable novelseg-regions file"),
        (BSDS500.read_bytes()[:5000], "not a readable novelseg-regions file"),
        ((ROOT / "weights/scenes-resnet18-w16.safetensors").read_bytes(), "expected a 'novelseg-regions' file"),
    ],
)
def test_bad_weights_are_refused_in_one_sentence(content: bytes | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        load_model(path)
