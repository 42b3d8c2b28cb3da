"""Learning the region hierarchy and comparing methods, on a small BSDS500 of generated pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from stages.__main__ import main
from stages.core.files import digest
from stages.data.bsds import find, read_truths
from stages.data.scenes import scene
from stages.models.regions import load_model
from stages.sections.scenes import Scenes
from stages.training.regions import Arcs, fit_network, level_table, mcg_length

PICTURES = Scenes(seed=3, train=1, val=1, size=64)


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
    here, there = find(bsds, ["val"]), find(tmp_path, ["val"])
    assert [item.name for item in here] == [item.name for item in there] == ["6", "7", "8"]
    for one, other in zip(here, there, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(read_truths(one), read_truths(other), strict=True))
        assert read_truths(other)[0].min() == 0


def test_learning_says_whence_and_repeats_itself(bsds: Path, learned: Path, tmp_path: Path) -> None:
    about = json.loads(learned.with_suffix(".json").read_text(encoding="utf8"))
    assert about["md5"] == digest(learned)
    assert about["learned from"].startswith("BSDS500 train: 6 images")
    again = tmp_path / "again.safetensors"
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
        (lambda root: (root / "val/segmentations/7.npz").unlink(), "7.npz: no such file, though 7.jpg is there"),
        (lambda root: (root / "val/segmentations/7.npz").write_bytes(b"x"), "7.npz: not a readable annotation file"),
        (lambda root: (root / "val/images/7.jpg").write_bytes(b"x"), "7.jpg: does not decode"),
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
