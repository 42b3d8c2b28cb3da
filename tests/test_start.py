"""Starting from pictures and pretrained weights alone: weights by name and path, several classes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
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
from novelseg.formats.network import read_tensors, save_tensors
from novelseg.inference.bundle import BUNDLE, FIT_AGAIN, load_bundle
from novelseg.inference.findings import Calibration, Finding, expected_iou, least_logits, probability, winners
from novelseg.inference.tiles import Blend, windows
from novelseg.ops.components import keep_regions
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


# Windows


@pytest.mark.parametrize(("height", "width", "side"), [(10, 7, 16), (100, 33, 32), (65, 64, 64), (3, 40, 1)])
def test_windows_cover_a_picture_and_overlap(height: int, width: int, side: int) -> None:
    count = np.zeros((height, width), int)
    found = windows(height, width, side)
    for window in found:
        assert (window.height, window.width) == (min(side, height), min(side, width))
        count[window.slices] += 1
    assert count.min() >= 1
    for starts in ({window.top for window in found}, {window.left for window in found}):
        steps = np.diff(sorted(starts))
        assert (steps <= max(1, side - side // 4)).all()


def test_blended_windows_are_their_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    blend, sums, weights = Blend(2, 20, 31), np.zeros((2, 20, 31)), np.zeros((20, 31))
    for window in windows(20, 31, 8):
        logits = rng.normal(size=(2, window.height, window.width)).astype(np.float32)
        blend.add(window, logits)
        for y in range(window.height):
            for x in range(window.width):
                ends = [
                    min(at + 0.5, side - at - 0.5) * 2 / side for at, side in ((y, window.height), (x, window.width))
                ]
                weight = max(1e-3, min(ends))
                sums[:, window.top + y, window.left + x] += weight * logits[:, y, x]
                weights[window.top + y, window.left + x] += weight
    np.testing.assert_allclose(blend.mean(), sums / weights, rtol=1e-4, atol=1e-5)
    constant = Blend(1, 20, 31)
    for window in windows(20, 31, 8):
        constant.add(window, np.full((1, window.height, window.width), 3, np.float32))
    np.testing.assert_allclose(constant.mean(), 3, rtol=1e-6)


def test_windows_find_what_is_too_small_in_the_whole(tmp_path: Path) -> None:
    image, mask = disc()
    large, truth = disc(side=512, middle=(2000, 2000))[0], np.zeros((512, 512), np.uint8)
    large[200:264, 300:364], truth[200:264, 300:364] = image, mask
    whole = Segmenter(weights=WEIGHTS, side=64).fit(image, mask)
    tiled = Segmenter(weights=WEIGHTS, side=64, tile=True).fit(image, mask)
    assert tiled.score(large, truth) > 0.3 > whole.score(large, truth)
    np.testing.assert_array_equal(tiled.decision_function(image)[0], whole.decision_function(image)[0])
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", 255 * mask)
    png(tmp_path / "q.png", large)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q.png", "--side", 64, "--tile"]
    assert novelseg("segment", *words, "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "out/masks/q.png") as picture:
        np.testing.assert_array_equal(np.array(picture), 255 * tiled.predict(large)[0])


def test_windows_are_compared_with_each_other_if_there_are_eight() -> None:
    image, mask = disc()
    pictures = [disc(middle=(20 + 4 * number, 36))[0] for number in range(9)]
    predictor = Segmenter(weights=WEIGHTS).fit(image, mask)._predictor
    predictions = predictor(pictures)
    assert predictor.compare(predictions[:7]) == predictions[:7]
    compared = torch.stack([one.presence for one in predictor.compare(predictions) if one.presence is not None])
    adapted = Segmenter(weights=WEIGHTS).fit(image, mask).adapt(pictures)._predictor
    expected = torch.stack([one.presence for one in adapted(pictures) if one.presence is not None])
    torch.testing.assert_close(compared, expected, rtol=1e-3, atol=1e-3)
    assert adapted.compare(predictions) == predictions


# Several classes


@pytest.mark.parametrize("variant", ["closed-form", "matching"])
def test_two_classes_compete_for_each_pixel(variant: str) -> None:
    image, mask = two_discs()
    other, truth = two_discs(BLUE, RED)
    truth = np.where(truth == 0, 0, 3 - truth)
    segmenter = Segmenter(weights=WEIGHTS, variant=variant, edges=False).fit([image], [mask], classes=["red", "blue"])
    assert segmenter.classes_ == ["red", "blue"]
    (logits,), (shares,) = segmenter.decision_function([other]), segmenter.predict_proba([other])
    assert logits.shape == (2, 64, 128)
    assert shares.shape == (3, 64, 128)
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-5)
    predicted = segmenter.predict([other])[0]
    assert set(np.unique(predicted)) == {0, 1, 2}
    np.testing.assert_array_equal(predicted, winners(logits, [0, 0]))
    assert segmenter.score([other], [truth]) > 0.5


def test_one_class_with_a_name_is_the_class_without() -> None:
    image, mask = disc()
    named = Segmenter(weights=WEIGHTS).fit([image], [mask], classes=["disc"])
    plain = Segmenter(weights=WEIGHTS).fit([image], [mask])
    np.testing.assert_array_equal(named.decision_function([image])[0][0], plain.decision_function([image])[0])


def test_winners_and_probabilities_of_logits() -> None:
    logits = np.array([[[1.0, -1.0, 2.0]], [[0.5, -2.0, 3.0]]], np.float32)
    np.testing.assert_array_equal(winners(logits, [0, 0]), [[1, 0, 2]])
    np.testing.assert_array_equal(winners(logits, [1, 0]), [[2, 0, 2]])
    np.testing.assert_array_equal(winners(logits, [0, float("inf")]), [[1, 0, 1]])
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


def class_folders(root: Path, names: Sequence[str]) -> list[Any]:
    """Folders of classes that share one picture, and the words of a command with them."""
    image, mask = disc()
    for name in names:
        png(root / f"s/{name}/images/0.png", image)
        png(root / f"s/{name}/masks/0.png", 255 * mask)
    (root / "q").mkdir()
    png(root / "q/0.png", image)
    return ["--weights", WEIGHTS, "--support", root / "s", "--query", root / "q", "--out", root / "out"]


def one_error(words: Sequence[object], capfd: Any) -> str:
    """Run `segment` with bad input, and return the only line that it prints."""
    assert novelseg("segment", *words) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("note: this network")]
    return str(line)


def test_a_class_without_a_mask(tmp_path: Path, capfd: Any) -> None:
    words = class_folders(tmp_path, ["first", "second"])
    (tmp_path / "s/second/masks/0.png").unlink()
    said = one_error(words, capfd)
    assert said == f"error: {tmp_path}/s/second/masks: contains no file; --support expects pictures in it"
    (tmp_path / "s/second/masks").rmdir()
    assert "second/masks: no such folder; --support expects one with pictures" in one_error(words, capfd)
    assert not (tmp_path / "out").exists()


def test_more_classes_than_a_mask_has_numbers(tmp_path: Path, capfd: Any) -> None:
    words = class_folders(tmp_path, [str(number) for number in range(300)])
    assert one_error(words, capfd).endswith("300 classes; expected 1 to 254, the numbers that a mask can hold")
    names = ["--classes", ",".join(map(str, range(300)))]
    words[3] = tmp_path / "s/0"
    assert one_error([*words, *names], capfd).endswith(
        "300 classes; expected 1 to 254, the numbers that a mask can hold"
    )


def test_a_mask_that_is_all_void_and_one_that_is_all_empty(tmp_path: Path, capfd: Any) -> None:
    words = class_folders(tmp_path, ["only"])
    words[3] = tmp_path / "s/only"
    png(tmp_path / "s/only/masks/0.png", np.full((64, 64), 255, np.uint8))
    told = one_error([*words, "--label", 1], capfd)
    assert "0.png: the mask has neither object nor background, since all of it is void; expected" in told
    png(tmp_path / "s/only/masks/0.png", np.zeros((64, 64), np.uint8))
    assert novelseg("segment", *words) == 2
    assert "error: no mask has an object; give a support of each class" in capfd.readouterr().err


def test_a_query_folder_that_is_empty(tmp_path: Path, capfd: Any) -> None:
    words = class_folders(tmp_path, ["only"])
    (tmp_path / "q/0.png").unlink()
    assert one_error(words, capfd) == f"error: {tmp_path}/q: contains no file; --query expects pictures in it"


def test_a_picture_without_the_object_teaches_what_it_is_not() -> None:
    image, mask = disc(colour=RED)
    other, _ = disc(colour=(230, 90, 30))
    plain = Segmenter(weights=WEIGHTS, presence=0, edges=False).fit([image], [mask])
    taught = Segmenter(weights=WEIGHTS, presence=0, edges=False).fit([image, other], [mask, 0 * mask])
    assert taught.n_supports_ == 2
    assert taught.predict(other)[0].mean() < 0.5 * plain.predict(other)[0].mean()
    assert taught.score(image, mask) > 0.5


def test_an_absent_class_is_not_marked(tmp_path: Path) -> None:
    pairs = [disc(middle=(28 + 4 * number, 32)) for number in range(3)]
    images, masks = [image for image, _ in pairs], [mask for _, mask in pairs]
    empty = disc(middle=(2000, 2000))[0]
    segmenter = Segmenter(weights=WEIGHTS).fit(images, masks)
    there, absent = segmenter.findings([pairs[0][0], empty])
    assert there.presence is not None
    assert absent.presence is not None
    assert float(there.presence[0]) > float(absent.presence[0])
    between = float(there.presence[0] + absent.presence[0]) / 2
    segmenter.set_params(presence=between)
    there, absent = segmenter.findings([pairs[0][0], empty])
    assert (there.present.tolist(), absent.present.tolist()) == ([True], [False])
    assert there.mask.any()
    assert not absent.mask.any()
    for number, image in enumerate(images):
        png(tmp_path / f"s/images/{number}.png", image)
        png(tmp_path / f"s/masks/{number}.png", 255 * masks[number])
    png(tmp_path / "q/a.png", pairs[0][0])
    png(tmp_path / "q/b.png", empty)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q", "--out", tmp_path / "out"]
    assert novelseg("segment", *words, "--presence", between) == 0
    first, second = rows(tmp_path / "out")
    assert (first["present"], second["present"], second["object_px"]) == ("1", "0", "0")
    with (tmp_path / "out/review.tsv").open(encoding="utf8", newline="") as file:
        review = list(csv.DictReader(file, delimiter="\t"))
    assert [float(row["certainty"]) for row in review] == sorted(float(row["certainty"]) for row in (first, second))


# Masks


def test_threshold_smallest_region_and_largest_region(tmp_path: Path) -> None:
    labels = np.zeros((6, 20), np.uint8)
    labels[:2, :2], labels[:3, 5:8], labels[4, 10:] = 1, 1, 1  # 4, 9 and 10 px
    assert [keep_regions(labels, least, False).sum() for least in (0, 5, 11)] == [23, 19, 0]
    assert [keep_regions(labels, least, True).sum() for least in (0, 11)] == [10, 0]
    image, mask = disc()
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", 255 * mask)
    png(tmp_path / "q.png", image)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q.png", "--largest"]
    words.append("--no-edges")
    assert novelseg("segment", *words, "--min-area", 9999, "--out", tmp_path / "none") == 0
    assert novelseg("segment", *words, "--threshold", 0.9, "--out", tmp_path / "some") == 0
    assert [int(row["object_px"]) for row in rows(tmp_path / "none")] == [0]
    segmenter = Segmenter(weights=WEIGHTS, edges=False, largest=True, threshold=0.9).fit(image, mask)
    expected = keep_regions((segmenter.decision_function(image)[0] > np.log(9)).astype(np.uint8), 0, True)
    np.testing.assert_array_equal(segmenter.predict(image)[0], expected)
    assert [int(row["object_px"]) for row in rows(tmp_path / "some")] == [expected.sum()]
    for name, value, told in (("threshold", 1, "above 0 and below 1"), ("presence", 2, "0 to 1")):
        with pytest.raises(InputError, match=f"{name} is {value}; expected (a number )?{told}"):
            Segmenter(weights=WEIGHTS).fit(image, mask).set_params(**{name: value}).predict(image)


def test_expected_iou_is_that_of_the_probabilities() -> None:
    logits = torch.tensor([[[2.0, -1.0, 0.5, -4.0]], [[1.0, -2.0, 1.5, -4.0]]])
    calibration = Calibration(0.5, -0.25)
    shares = torch.cat([torch.zeros(1, 1, 4), 0.5 * logits - 0.25]).softmax(0)[1:, 0]
    # The first class is marked in the first cell, the second one in the third.
    first = shares[0, 0] / (1 + shares[0, 1:].sum())
    second = shares[1, 2] / (1 + shares[1, [0, 1, 3]].sum())
    torch.testing.assert_close(expected_iou(logits, [0, 0], calibration), torch.stack([first, second]))
    assert expected_iou(logits - 9, [0, 0], calibration).tolist() == [0, 0]


def test_a_pixel_needs_the_least_probability_with_that_of_presence() -> None:
    presence, calibration = np.array([0.9, 0.3], np.float32), Calibration(0.5, -1.0)
    for logit, score in zip(least_logits(-9.0, 0.2, presence, calibration), presence, strict=True):
        assert score / (1 + np.exp(1 - 0.5 * logit)) == pytest.approx(0.2, rel=1e-5)
    assert least_logits(0.5, 0.0, presence, calibration) == [0.5, 0.5]


def test_probability_includes_presence_and_certainty_the_decision() -> None:
    logits = np.array([[[1.0, -1.0]], [[-2.0, 3.0]]], np.float32)
    presence, present = np.array([0.8, 0.25], np.float32), np.array([True, False])
    quality = np.array([0.5, 0.9], np.float32)
    finding = Finding(logits, winners(logits, [0, 0]), Calibration(0.5, -1.0), presence, present, quality)
    shares = probability(0.5 * logits - 1)
    np.testing.assert_allclose(finding.probability[1:], shares[1:] * presence[:, None, None], rtol=1e-6)
    np.testing.assert_allclose(finding.probability.sum(0), 1, rtol=1e-6)
    np.testing.assert_allclose(finding.certainty, [0.4, 0.75], rtol=1e-6)


def regions_one_by_one(labels: NDArray[Any], least: int, largest: bool) -> NDArray[Any]:
    """The slow and obvious way: flood every region, pixel by pixel."""
    height, width = labels.shape
    open_, found = {(y, x) for y in range(height) for x in range(width) if labels[y, x]}, []
    for start in sorted(open_):
        if start not in open_:
            continue
        pending, region = [start], []
        open_.remove(start)
        while pending:
            y, x = pending.pop()
            region.append((y, x))
            for near in ((y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)):
                if near in open_ and labels[near] == labels[y, x]:
                    open_.remove(near)
                    pending.append(near)
        found.append(region)
    kept = np.zeros_like(labels)
    for label in {labels[region[0]] for region in found}:
        own = [region for region in found if labels[region[0]] == label]
        for region in [max(own, key=len)] if largest else own:
            if len(region) >= least:
                kept[tuple(np.transpose(region))] = label
    return kept


def test_regions_are_those_of_a_flood() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        size = rng.integers(1, 14, 2)
        labels = (rng.integers(0, 3, size) * (rng.random(size) < rng.random())).astype(np.uint8)
        for least, largest in ((0, True), (3, False), (3, True)):
            np.testing.assert_array_equal(
                keep_regions(labels, least, largest), regions_one_by_one(labels, least, largest)
            )


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    image, mask = two_discs()
    for number, name in ((1, "red"), (2, "blue")):
        png(tmp_path / f"s/{name}/images/0.png", image)
        png(tmp_path / f"s/{name}/masks/0.png", (255 * (mask == number)).astype(np.uint8))
    png(tmp_path / "q/swapped.png", two_discs(BLUE, RED)[0])
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q", "--out", tmp_path / "out"]
    assert novelseg("segment", *words) == 0
    with Image.open(tmp_path / "out/masks/swapped.png") as picture:
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


# Pictures without masks


def test_presence_is_judged_relative_to_pictures_without_masks(tmp_path: Path, capfd: Any) -> None:
    image, mask = disc()
    shown = [disc(middle=(20 + 4 * number, 36))[0] for number in range(4)]
    empty = [disc(middle=(2000, 2000 + number))[0] for number in range(5)]
    fitted = Segmenter(weights=WEIGHTS).fit([image], [mask])
    before = next(fitted.findings(empty[0])).presence
    adapted = Segmenter(weights=WEIGHTS).fit([image], [mask]).adapt(iter([*shown, *empty]))
    scores = [
        float(finding.presence[0]) for finding in adapted.findings([*shown, *empty]) if finding.presence is not None
    ]
    assert min(scores[:4]) > max(scores[4:])
    assert before is not None
    assert scores[4] != float(before[0])
    np.testing.assert_array_equal(adapted.decision_function(image)[0], fitted.decision_function(image)[0])
    adapted.save(tmp_path / "adapted.safetensors")
    again = Segmenter.load(tmp_path / "adapted.safetensors")
    assert [float(one.presence[0]) for one in again.findings(shown) if one.presence is not None] == scores[:4]
    with pytest.raises(InputError, match="7 pictures to adapt to; expected at least 8"):
        fitted.adapt([*shown, *empty[:3]])
    with pytest.raises(InputError, match="the variant matching does not judge presence; choose closed-form"):
        Segmenter(weights=WEIGHTS, variant="matching").fit(image, mask).adapt(shown)
    # The command: scores in the table are those of Python.
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", 255 * mask)
    for number, picture in enumerate([*shown, *empty]):
        png(tmp_path / f"new/{number}.png", picture)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "new", "--out", tmp_path / "out"]
    assert novelseg("segment", *words, "--adapt", tmp_path / "new") == 0
    assert [float(row["presence"]) for row in rows(tmp_path / "out")] == pytest.approx(scores, abs=1e-3)
    capfd.readouterr()
    assert novelseg("segment", *words) == 2
    assert "contains results of other pictures, supports or settings" in capfd.readouterr().err
