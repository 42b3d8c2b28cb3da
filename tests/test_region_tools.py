"""Learning the region hierarchy and comparing methods, on a small BSDS500 of generated pictures."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat
from threadpoolctl import threadpool_info

from novelseg.core.files import digest
from novelseg.core.threads import Workers
from novelseg.data.bsds import find, read
from novelseg.data.scenes import SceneSettings, scene
from novelseg.regions.learning import Arcs, fit_network, level_table, mcg_length
from novelseg.regions.weights import load_model
from stages.__main__ import main

pytestmark = pytest.mark.processes

PICTURES = SceneSettings(seed=3, train=1, val=1, size=64)


def drawn(number: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture and three people's opinions: all objects, one object and the rest, all objects shifted."""
    image, labels = scene(PICTURES, number)
    full = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return image, [full, (full == full.max()).astype(int), np.roll(full, 1, axis=1)]


def write_npz(root: Path, split: str, numbers: range) -> None:
    """Images and segmentations side by side."""
    for folder in ("images", "segmentations"):
        (root / split / folder).mkdir(parents=True)
    for number in numbers:
        image, truths = drawn(number)
        Image.fromarray(image).save(root / split / "images" / f"{number}.jpg", quality=95)
        np.savez(root / split / "segmentations" / f"{number}.npz", segmentation=np.stack(truths).astype(np.uint16))


def write_official(root: Path, split: str, numbers: range) -> None:
    """The layout of the archive, MATLAB files included."""
    data = root / "BSR/BSDS500/data"
    for folder in ("images", "groundTruth"):
        (data / folder / split).mkdir(parents=True)
    for number in numbers:
        image, truths = drawn(number)
        Image.fromarray(image).save(data / "images" / split / f"{number}.jpg", quality=95)
        cells = np.empty((1, len(truths)), object)
        for column, truth in enumerate(truths):
            cells[0, column] = {"Segmentation": (truth + 1).astype(np.uint16), "Boundaries": truth.astype(np.uint8)}
        savemat(data / "groundTruth" / split / f"{number}.mat", {"groundTruth": cells})


def resave(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the annotations of an image."""
    np.savez(root / "val/segmentations/7.npz", segmentation=change(np.stack(drawn(7)[1])))


@pytest.fixture(scope="module")
def bsds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and three validation images."""
    root = tmp_path_factory.mktemp("bsds")
    write_npz(root, "train", range(6))
    write_npz(root, "val", range(6, 9))
    return root


@pytest.fixture(scope="module")
def learned(bsds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights learned from them."""
    out = tmp_path_factory.mktemp("weights") / "regions.safetensors"
    assert main(["trainregions", "--bsds", str(bsds), "--out", str(out), "--workers", "1"]) == 0
    return out


def test_both_layouts_are_read_alike(bsds: Path, tmp_path: Path) -> None:
    write_official(tmp_path, "val", range(6, 9))
    here, there = find(bsds, "val"), find(tmp_path, "val")
    assert [item.name for item in here] == [item.name for item in there] == ["6", "7", "8"]
    for one, other in zip(here, there, strict=True):
        (image, truths), (same, others) = read(one), read(other)
        assert np.array_equal(image, same)
        assert all(np.array_equal(a, b) for a, b in zip(truths, others, strict=True))
        assert others[0].min() == 0


def test_learning_says_whence_and_repeats_itself(
    bsds: Path, learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = json.loads(learned.with_suffix(".json").read_text(encoding="utf8"))
    assert about["md5"] == digest(learned)
    assert about["learned from"].startswith("BSDS500 train: 6 images")
    again = tmp_path / "again.safetensors"
    # Two processes that need not import everything anew; new ones are those of `test_workers_compute_on_one_thread`.
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr("novelseg.core.threads.multiprocessing.get_context", lambda _: forking)
    assert main(["trainregions", "--bsds", str(bsds), "--out", str(again), "--workers", "2"]) == 0
    assert again.read_bytes() == learned.read_bytes()
    levels = load_model(learned).levels
    assert (np.diff(levels) >= 0).all()
    assert levels[1, 0] == 0
    assert levels[1, -1] < 1


def test_methods_are_compared_in_one_table(
    bsds: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.tsv"
    words = ["--bsds", str(bsds), "--weights", str(learned), "--out", str(out), "--workers", "1"]
    assert main(["scoreregions", *words]) == 0
    table = pd.read_csv(out, sep="\t").set_index("method")
    assert list(table.index[[0, 1, -2, -1]]) == ["human, leave one out", "ucm", "felzenszwalb", "slic"]
    scores = table[["covering ODS", "covering OIS", "covering best", "PRI ODS", "PRI OIS", "boundary F ODS"]].to_numpy()
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert (table["covering ODS"] <= table["covering OIS"] + 1e-9).all()
    assert (table["covering OIS"] <= table["covering best"] + 1e-9).all()
    assert (table["VI OIS"] <= table["VI ODS"] + 1e-9).all()
    assert table["covering ODS"].to_dict()["human, leave one out"] > 0.7
    assert table["covering OIS"].to_dict()["ucm"] > 0.5
    assert table["boundary px at τ"].to_dict()["ucm"] > 0
    assert "covering ODS" in capsys.readouterr().err
    page = out.with_suffix(".md").read_text(encoding="utf8")
    assert page.startswith("# Region methods on BSDS500 val, 3 images\n")
    assert f"MD5 {digest(learned)}" in page
    assert page.count("\n| ") == 1 + len(table)


def test_networks_find_what_decides_an_arc() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 5)).astype(np.float32)
    target = (features[:, 1] > 0.3).astype(np.float32)
    arcs = Arcs(features, target, rng.random(4000).astype(np.float32) + 0.5)
    network, loss = fit_network(arcs, 20, 256, 0, "test")
    assert loss < 0.1
    fresh = rng.normal(size=(500, 5))
    assert np.mean((network(fresh) > 0.5) == (fresh[:, 1] > 0.3)) > 0.95
    again, _ = fit_network(arcs, 20, 256, 0, "test")
    assert all(np.array_equal(a, b) for a, b in zip(network.weights, again.weights, strict=True))
    other, _ = fit_network(arcs, 20, 256, 1, "test")
    assert not np.array_equal(network.weights[0], other.weights[0])


def test_the_level_table_leaves_as_much_boundary_as_mcg() -> None:
    raw = np.linspace(0, 4, 81)
    ours = 20000 * np.exp(-raw)
    at, length = mcg_length(["train", "val"], [200, 100])
    assert length[at.tolist().index(0.45)] == pytest.approx((2 * 3028 + 2767) / 3)
    table = level_table(raw, ours, at, length)
    assert (np.diff(table) >= 0).all()
    for level, wanted in zip(at, length, strict=True):
        left = 20000 * np.exp(-np.interp(level, table[1], table[0]))
        assert left == pytest.approx(wanted, rel=0.02)


def _threads(_: int) -> list[int]:
    """Threads of each library that a worker has loaded; this module brings scipy's and faiss's."""
    return [pool["num_threads"] for pool in threadpool_info()]


@pytest.mark.parametrize("count", [1, 2])
def test_workers_compute_on_one_thread(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "2")
    with Workers(count) as workers:
        pools = [threads for found in workers.map(_threads, [0, 1], "threads", "job") for threads in found]
    assert len(pools) >= 2
    assert set(pools) == {1}


@pytest.mark.parametrize(
    ("tool", "words", "told"),
    [
        ("trainregions", ["--out", "w.json"], "--out is w.json; expected a name that ends in .safetensors"),
        ("scoreregions", ["--out", "w.md"], "--out is w.md; expected a name that ends in .tsv"),
        ("scoreregions", ["--out", "w.tsv", "--tau", "1.5"], "--tau is 1.5; expected a contour strength from 0 to 1"),
        ("scoreregions", ["--out", "w.tsv", "--workers", "-1"], "--workers is -1; expected a number of processes"),
    ],
)
def test_bad_words_of_the_tools(
    bsds: Path,
    learned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tool: str,
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--weights", str(learned)] if tool == "scoreregions" else []
    assert main([tool, "--bsds", str(bsds), *more, *words]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_scores_are_of_one_split(bsds: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--bsds", str(bsds), "--weights", str(learned), "--out", str(tmp_path / "w.tsv"), "--split", "train,val"]
    with pytest.raises(SystemExit, match="2"):
        main(["scoreregions", *words])
    assert "--split: invalid choice: 'train,val' (choose from 'train', 'val', 'test')" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--splits", "test"], "--splits is 'test'; expected train, val or train,val"),
        (["--splits", "train,train"], "--splits is 'train,train'"),
    ],
)
def test_training_takes_no_other_split(
    bsds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    out = tmp_path / "w.safetensors"
    assert main(["trainregions", "--bsds", str(bsds), "--out", str(out), *words]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: (root / "val/segmentations/7.npz").unlink(), "7.npz: no such file, although 7.jpg exists"),
        (lambda root: (root / "val/segmentations/7.npz").write_bytes(b"x"), "7.npz: not a readable annotation file"),
        (lambda root: (root / "val/segmentations/7.npz").write_bytes(b""), "7.npz: not a readable annotation file"),
        (lambda root: resave(root, lambda maps: maps[:, :-1]), "7.npz: contains int64 of shape"),
        (lambda root: resave(root, lambda maps: maps[0]), "7.npz: contains int64 of shape"),
        (lambda root: resave(root, lambda maps: maps[:0]), "7.npz: contains no annotation"),
        (lambda root: resave(root, lambda maps: maps / 2), "7.npz: contains float64 of shape"),
        (lambda root: (root / "val/images/7.jpg").write_bytes(b"x"), "7.jpg: not a picture"),
        (lambda root: (root / "val/images").rename(root / "val/pictures"), "no images of the split 'val'"),
    ],
)
def test_a_broken_data_set_is_named(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: object, told: str
) -> None:
    write_npz(tmp_path, "val", range(6, 9))
    spoil(tmp_path)  # type: ignore[operator]
    out = tmp_path / "scores.tsv"
    words = ["--bsds", str(tmp_path), "--weights", str(learned), "--out", str(out), "--workers", "1"]
    assert main(["scoreregions", *words]) == 2
    assert told in capsys.readouterr().err
    assert not out.exists()
