"""Starting from pictures and pretrained weights alone: weights by name and path, several classes."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.fetch import download
from novelseg.fetch.cache import cache_folder
from novelseg.fetch.catalogue import CATALOGUE
from novelseg.inference.bundle import load_bundle
from novelseg.inference.segmenter import probability, winners
from tests.commands import novelseg
from tests.conftest import WEIGHTS
from tests.makers import disc
from tests.servers import Site, serving
from tests.test_fetch import md5

RED, BLUE = (230, 40, 30), (30, 60, 230)


def two_discs(left: tuple[int, int, int] = RED, right: tuple[int, int, int] = BLUE) -> Any:
    """A picture of two discs, and its mask: 1 the left one, 2 the right one."""
    images, masks = zip(disc(colour=left), disc(colour=right), strict=True)
    return np.concatenate(images, axis=1), np.concatenate([masks[0], 2 * masks[1]], axis=1)


def png(path: Path, values: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "results.tsv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


# Weights


def test_weights_of_a_file_segment_as_their_bundle_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, mask = disc()
    query, truth = disc(middle=(24, 36))
    segmenter = Segmenter(weights=WEIGHTS).fit([image], [mask])
    assert segmenter.score([query], [truth]) > 0.5
    assert segmenter.bundle_.record.arch == "resnet18"
    assert segmenter.bundle_.record.width == 16
    out = tmp_path / "bundle.safetensors"
    assert novelseg("export", "--weights", WEIGHTS, "--out", out) == 0
    assert "pretrained resnet18; nothing was trained" in capsys.readouterr().err
    bundled = Segmenter(out).fit([image], [mask])
    np.testing.assert_array_equal(bundled.decision_function([query])[0], segmenter.decision_function([query])[0])
    assert load_bundle(out).about["classes"] == []


def test_a_name_is_downloaded_once_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = load_file(WEIGHTS)
    torch.save({**state, "fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet18-local.pth")
    name = "resnet18-local.pth"
    content = {name: (tmp_path / name).read_bytes()}
    cache = tmp_path / "cache"
    monkeypatch.setenv("NOVELSEG_CACHE", str(cache))
    monkeypatch.setattr(download, "PAUSE_S", 0.0)
    monkeypatch.setattr(download, "TRIES", 1)
    (entry,) = CATALOGUE["resnet18"]
    with serving(Site(content)) as site:
        url = f"{site.address}/{name}"
        monkeypatch.setitem(CATALOGUE, "resnet18", (replace(entry, url=url, check="md5:" + "0" * 32),))
        with pytest.raises(InputError, match="resnet18"):
            Segmenter.load(weights="resnet18")
        assert not (cache / entry.target).exists()
        monkeypatch.setitem(CATALOGUE, "resnet18", (replace(entry, url=url, check=f"md5:{md5(content[name])}"),))
        Segmenter.load(weights="resnet18")
    assert set(load_file(cache / entry.target)) == set(state)
    image, mask = disc()
    Segmenter(weights="resnet18").fit([image], [mask])  # the server has gone: the copy is used
    (cache / entry.target).unlink()
    for left in (cache / "archives").iterdir():
        left.unlink()
    with pytest.raises(InputError, match=r"resnet18-local\.pth"):
        Segmenter.load(weights="resnet18")


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("NOVELSEG_CACHE", raising=False)
    assert cache_folder() == tmp_path / "xdg/novelseg"
    monkeypatch.setenv("NOVELSEG_CACHE", str(tmp_path / "file/below"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/below: cannot be written .* set NOVELSEG_CACHE to a folder"):
        Segmenter.load(weights="resnet18")


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({}, "expected either a bundle or weights; give weights='resnet50'"),
        ({"bundle": "b", "weights": "w"}, "expected either a bundle or weights"),
        ({"weights": "resnet5"}, "resnet5: no such file; expected a weight file, or one of the names resnet18"),
        ({"weights": WEIGHTS, "stem": "wide"}, "stem is 'wide'; expected one of torchvision, msra, deep"),
    ],
)
def test_what_is_no_network_is_refused(params: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Segmenter.load(**params)


def test_weights_of_no_known_architecture_and_cut_off_ones(tmp_path: Path) -> None:
    torch.save({"head.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"weights of no known architecture \(the first are head\.weight\)"):
        Segmenter.load(weights=tmp_path / "other.pth")
    (tmp_path / "cut.safetensors").write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"cut\.safetensors: not a readable weight file"):
        Segmenter.load(weights=tmp_path / "cut.safetensors")


def test_scikit_learn_can_choose_the_variant() -> None:
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score

    pairs = [disc(middle=(24 + 4 * number, 32)) for number in range(4)]
    images, masks = np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])
    segmenter = Segmenter(weights=WEIGHTS)
    assert repr(clone(segmenter)) == f"Segmenter(weights={WEIGHTS!r})"
    assert cross_val_score(segmenter, images, masks, cv=2).min() > 0.4
    search = GridSearchCV(segmenter, {"variant": ["matching", "closed-form"]}, cv=2).fit(images, masks)
    assert set(search.cv_results_["param_variant"]) == {"matching", "closed-form"}


@pytest.mark.parametrize("variant", ["closed-form", "matching"])
def test_a_stem_with_fewer_cells_than_the_grid_says(variant: str) -> None:
    image, mask = disc(side=57, middle=(28, 28))
    segmenter = Segmenter(weights=WEIGHTS, stem="msra", variant=variant).fit([image], [mask])
    features = segmenter._extract([image])
    assert features.shape[2:] != segmenter._extract.grid.cells((57, 57))
    assert segmenter.predict([image])[0].shape == (57, 57)


# Several classes


@pytest.mark.parametrize("variant", ["closed-form", "matching"])
def test_two_classes_compete_for_each_pixel(variant: str) -> None:
    image, mask = two_discs()
    other, truth = two_discs(BLUE, RED)
    truth = np.where(truth == 0, 0, 3 - truth)
    segmenter = Segmenter(weights=WEIGHTS, variant=variant).fit([image], [mask], classes=["red", "blue"])
    assert segmenter.classes_ == ["red", "blue"]
    (logits,), (shares,) = segmenter.decision_function([other]), segmenter.predict_proba([other])
    assert logits.shape == (2, 64, 128)
    assert shares.shape == (3, 64, 128)
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    predicted = segmenter.predict([other])[0]
    assert set(np.unique(predicted)) == {0, 1, 2}
    np.testing.assert_array_equal(predicted, shares.argmax(0))
    assert segmenter.score([other], [truth]) > 0.5


def test_one_class_with_a_name_is_the_class_without() -> None:
    image, mask = disc()
    named = Segmenter(weights=WEIGHTS).fit([image], [mask], classes=["disc"])
    plain = Segmenter(weights=WEIGHTS).fit([image], [mask])
    np.testing.assert_array_equal(named.decision_function([image])[0][0], plain.decision_function([image])[0])


def test_winners_and_probabilities_of_logits() -> None:
    logits = np.array([[[1.0, -1.0, 2.0]], [[0.5, -2.0, 3.0]]], np.float32)
    np.testing.assert_array_equal(winners(logits), [[1, 0, 2]])
    shares = probability(logits)
    np.testing.assert_allclose(shares[:, 0, 0], np.exp([0, 1, 0.5]) / np.exp([0, 1, 0.5]).sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ("disc", "classes is 'disc'; expected a list of names"),
        (["a", "a"], "classes names 'a' twice"),
        ([], "0 classes; expected 1 to 254"),
        ([str(number) for number in range(300)], "300 classes; expected 1 to 254"),
        (["a"], "mask 0: holds the numbers 0, 1, 2; expected 0 .background., 1 to 1"),
        (["a", "b", "c"], "no mask has class 3; give a support of each class"),
    ],
)
def test_classes_that_do_not_fit_the_masks(classes: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Segmenter(weights=WEIGHTS).fit([two_discs()[0]], [two_discs()[1]], classes=classes)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    image, mask = two_discs()
    for number, name in ((1, "red"), (2, "blue")):
        png(tmp_path / f"s/{name}/images/0.png", image)
        png(tmp_path / f"s/{name}/masks/0.png", (255 * (mask == number)).astype(np.uint8))
    png(tmp_path / "q/swapped.png", two_discs(BLUE, RED)[0])
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q", "--out", tmp_path / "out"]
    assert novelseg("segment", *words) == 0
    with Image.open(tmp_path / "out/masks/swapped.png.png") as picture:
        assert picture.mode == "P"
        found = np.array(picture)
    assert set(np.unique(found)) == {0, 1, 2}
    # The classes are numbered by name: blue 1, red 2. The picture's left disc is blue.
    assert (found[:, :64] == 1).sum() > 200 > (found[:, :64] == 2).sum()
    assert [(row["class"], int(row["object_px"])) for row in rows(tmp_path / "out")] == [
        ("blue", (found == 1).sum()),
        ("red", (found == 2).sum()),
    ]
    assert novelseg("segment", *words) == 0  # nothing left to do
    assert len(rows(tmp_path / "out")) == 2


def test_masks_of_several_classes_are_named(tmp_path: Path, capfd: Any) -> None:
    image, mask = two_discs()
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", mask)
    png(tmp_path / "q.png", image)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q.png"]
    assert novelseg("segment", *words, "--classes", "red, blue", "--out", tmp_path / "out") == 0
    assert [row["class"] for row in rows(tmp_path / "out")] == ["red", "blue"]
    assert novelseg("segment", *words, "--classes", "red", "--out", tmp_path / "other") == 2
    assert "0.png: holds the numbers 0, 1, 2; expected 0 (background), 1 to 1" in capfd.readouterr().err
    assert novelseg("segment", *words, "--classes", "red,blue", "--label", 1, "--out", tmp_path / "other") == 2
    assert "--label and --classes exclude each other" in capfd.readouterr().err


def test_one_picture_in_two_classes_with_overlapping_masks(tmp_path: Path, capfd: Any) -> None:
    image, mask = disc()
    for name in ("first", "second"):
        png(tmp_path / f"s/{name}/images/0.png", image)
        png(tmp_path / f"s/{name}/masks/0.png", 255 * mask)
    png(tmp_path / "q.png", image)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q.png", "--out", tmp_path / "o"]
    assert novelseg("segment", *words) == 2
    assert f"the masks of both classes share {mask.sum()} px; give each pixel one class" in capfd.readouterr().err
    assert not (tmp_path / "o").exists()
