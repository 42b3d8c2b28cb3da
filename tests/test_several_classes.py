"""Several classes in one picture, by folders and by numbers, and supports that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from novelseg import Segmenter
from novelseg.core.errors import InputError
from novelseg.inference.findings import probability, winners
from tests.commands import novelseg
from tests.conftest import WEIGHTS
from tests.pictures import BLUE, RED, disc, png, result_rows, two_discs


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
    assert [(row["class"], int(row["object_px"])) for row in result_rows(tmp_path / "out")] == [
        ("blue", (found == 1).sum()),
        ("red", (found == 2).sum()),
    ]
    assert novelseg("segment", *words) == 0  # nothing left to do
    assert len(result_rows(tmp_path / "out")) == 2


def test_masks_of_several_classes_are_named(tmp_path: Path, capfd: Any) -> None:
    image, mask = two_discs()
    png(tmp_path / "s/images/0.png", image)
    png(tmp_path / "s/masks/0.png", mask)
    png(tmp_path / "q.png", image)
    words = ["--weights", WEIGHTS, "--support", tmp_path / "s", "--query", tmp_path / "q.png"]
    assert novelseg("segment", *words, "--classes", "red, blue", "--out", tmp_path / "out") == 0
    assert [row["class"] for row in result_rows(tmp_path / "out")] == ["red", "blue"]
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
