"""Starting from pictures and pretrained weights alone: weights by name and path, and fitted segmenters as files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.fetch import download
from novelseg.fetch.cache import cache_folder
from novelseg.fetch.catalogue import CATALOGUE
from novelseg.formats.network import read_tensors, save_tensors
from novelseg.inference.bundle import BUNDLE, FIT_AGAIN, load_bundle
from tests.commands import novelseg
from tests.conftest import WEIGHTS
from tests.pictures import BLUE, RED, disc, png, two_discs
from tests.servers import Site, serving
from tests.test_fetch import md5


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


def test_a_network_of_drawn_scenes_says_so(bundle: Path, tmp_path: Path, capfd: Any) -> None:
    image, mask = disc()
    drawn = "this network was trained on drawn scenes, not on photographs, .* give pretrained weights such as resnet50"
    for bundled, weights in ((bundle, None), (None, WEIGHTS)):
        with pytest.warns(UserWarning, match=drawn):
            Segmenter(bundled, weights=weights).fit([image], [mask])
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", mask)
    png(tmp_path / "q.png", image)
    words = ["--bundle", bundle, "--support", tmp_path / "s", "--query", tmp_path / "q.png", "--out", tmp_path / "out"]
    assert novelseg("segment", *words) == 0
    assert "note: this network was trained on drawn scenes, not on photographs" in capfd.readouterr().err
    elsewhere = tmp_path / "weights.safetensors"
    elsewhere.write_bytes(WEIGHTS.read_bytes())  # without the file that states its origin
    assert Segmenter.load(weights=elsewhere).bundle_.caution == ""


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
        ({"weights": WEIGHTS, "precision": "int8"}, "precision is 'int8'; expected fp32 or bf16"),
    ],
)
def test_what_is_no_network_is_refused(params: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Segmenter.load(**params)


def test_weights_of_no_known_architecture_and_cut_off_ones(tmp_path: Path) -> None:
    torch.save({"head.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"weights of an unknown architecture \(the first are head\.weight\)"):
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


def test_the_encoder_computes_in_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    image, mask = disc()
    exact = Segmenter(weights=WEIGHTS).fit(image, mask)
    half = Segmenter(weights=WEIGHTS, precision="bf16").fit(image, mask)
    expected, found = exact.decision_function(image)[0], half.decision_function(image)[0]
    assert not np.array_equal(found, expected)
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
    assert np.array_equal(
        Segmenter(weights=WEIGHTS, precision="fp32").fit(image, mask).decision_function(image)[0], expected
    )
    half.save(tmp_path / "half.safetensors")
    again = Segmenter.load(tmp_path / "half.safetensors")
    assert again.bundle_.record.precision == "bf16"
    assert np.array_equal(again.decision_function(image)[0], found)


# Fitted segmenters


def test_a_fitted_segmenter_is_one_file_without_its_supports(tmp_path: Path, capfd: Any) -> None:
    image, mask = two_discs()
    query = two_discs(BLUE, RED)[0]
    fitted = Segmenter(weights=WEIGHTS, side=100).fit([image], [mask], classes=["red", "blue"])
    path = tmp_path / "fitted.safetensors"
    fitted.save(path)
    read = Segmenter.load(path)
    assert (read.classes_, read.n_supports_) == (["red", "blue"], 1)
    np.testing.assert_array_equal(read.decision_function(query)[0], fitted.decision_function(query)[0])
    fitted.save(tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    read.save(tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    # Of the command: the file of --save, without --support, gives the same masks.
    for number, name in ((1, "red"), (2, "blue")):
        png(tmp_path / f"s/{name}/images/0.png", image)
        png(tmp_path / f"s/{name}/masks/0.png", (255 * (mask == number)).astype(np.uint8))
    png(tmp_path / "q.png", query)
    words = ["--query", tmp_path / "q.png", "--out"]
    first = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--save", tmp_path / "b.safetensors"]
    assert novelseg("segment", *first, *words, tmp_path / "one") == 0
    assert novelseg("segment", "--bundle", tmp_path / "b.safetensors", *words, tmp_path / "two") == 0
    for file in ("masks/q.png", "results.tsv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    capfd.readouterr()
    assert novelseg("segment", "--weights", WEIGHTS, *words, tmp_path / "three") == 2
    assert "expected --support, or a --bundle that --save has written" in capfd.readouterr().err


def test_a_fitted_segmenter_that_cannot_be_saved_or_read_is_refused(tmp_path: Path) -> None:
    image, mask = disc()
    path = tmp_path / "fitted.safetensors"
    with pytest.raises(InputError, match="not fitted; call fit"):
        Segmenter(weights=WEIGHTS).save(path)
    with pytest.raises(InputError, match=r"the variant matching needs its supports .* choose closed-form"):
        Segmenter(weights=WEIGHTS, variant="matching").fit(image, mask).save(path)
    Segmenter(weights=WEIGHTS).fit(image, mask).save(path)
    with pytest.raises(InputError, match="was fitted with closed-form, not matching"):
        Segmenter.load(path, variant="matching")
    about, tensors = read_tensors(path, BUNDLE)
    spoiled: list[tuple[str, Any]] = [
        ("'counts' is", lambda a, _: a["fitted"].update(counts=[1])),
        ("'fitted' is", lambda a, _: a.update(fitted=3)),
        ("'supports' is 0", lambda a, _: a["fitted"].update(supports=0)),
        ("'head.means' is missing", lambda _, t: t.pop("head.means")),
        ("'head.reference' is missing", lambda _, t: t.pop("head.reference")),
        ("by an earlier version", lambda _, t: t.update({"head.values": t.pop("head.reference")})),
        ("'head.spread' is torch", lambda _, t: t.update({"head.spread": torch.zeros(3)})),
        ("'head.offsets' contains NaN", lambda _, t: t["head.offsets"].fill_(float("nan"))),
        ("'head.weights' is torch", lambda _, t: t.update({"head.weights": torch.zeros(3)})),
        ("the tensor 'head.directions' belongs to no part", lambda a, _: a.pop("fitted")),
    ]
    for told, spoil in spoiled:
        header = json.loads(json.dumps(about))
        parts = {name: value.clone() for name, value in tensors.items()}
        spoil(header, parts)
        save_tensors(tmp_path / "bad.safetensors", parts, BUNDLE, header)
        remedy = FIT_AGAIN if "fitted" in header else BUNDLE.remedy
        with pytest.raises(InputError, match=f"{re.escape(told)}.*{re.escape(remedy)}"):
            Segmenter.load(tmp_path / "bad.safetensors")
