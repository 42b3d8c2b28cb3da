"""The guides' commands, run as they stand."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, WEIGHTS
from tests.engines import call, git
from tests.pictures import disc

pytestmark = pytest.mark.engines
GUIDES = ROOT / "docs" / "guides"


def blocks(guide: str, kind: str) -> list[str]:
    """Fenced blocks of a kind in a guide."""
    return re.findall(rf"^```{kind}\n(.*?)^```", (GUIDES / guide).read_text(encoding="utf8"), re.M | re.S)


def commands(guide: str) -> list[str]:
    return [line for block in blocks(guide, "sh") for line in block.splitlines()]


def follow(guide: str, folder: Path, rc: int = 0, **more: str) -> str:
    """Run a guide's commands one after another; give what they printed."""
    # Benchmarks run for minutes: their options are checked, which `--help` after them does.
    found = [f"{line} --help" if "-m benchmarks." in line else line for line in commands(guide)]
    assert found
    return "\n".join(call(folder, "bash", "-ec", command, rc=rc, **more) for command in found)


def test_every_guide_is_followed_and_linked() -> None:
    names = {path.name for path in GUIDES.iterdir()}
    assert names == {"pictures.md", "label.md", "compare.md", "share.md", "cluster.md"}
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert all(f"docs/guides/{name}" in readme for name in names)


def test_from_ten_pictures_to_masks(mate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("something", "numbered", "animals/cat", "animals/dog")
    for folder in (*(f"{kind}/{part}" for kind in kinds for part in ("images", "masks")), "new"):
        (mate / folder).mkdir(parents=True)
    image, mask = disc()
    square = np.zeros_like(mask)
    square[2:14, 2:14] = 1
    drawn = (255 * mask, mask + 2 * square, 255 * mask, 255 * square)
    for folder, values in zip(kinds, drawn, strict=True):
        Image.fromarray(image).save(mate / folder / "images/0.png")
        Image.fromarray(values.astype(np.uint8)).save(mate / folder / "masks/0.png")
    for number in range(9):
        Image.fromarray(disc(middle=(24, 20 + 3 * number))[0]).save(mate / f"new/picture {number}.png")
    cache = mate / "cache"
    (cache / "weights").mkdir(parents=True)
    shutil.copy(WEIGHTS, cache / "weights/resnet50-0676ba61.safetensors")  # in the place of the download
    monkeypatch.setenv("NOVELSEG_CACHE", str(cache))
    follow("pictures.md", mate)
    for name in ("found", "found-animals", "found-named", "found-2", "found-bundle"):
        assert len(list((mate / name / "masks").iterdir())) == 9
    monkeypatch.chdir(mate)
    (python,) = blocks("pictures.md", "python")
    made: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]] = {}
    exec(python, made)
    assert made["masks"][0].shape == made["shares"][0].shape == made["numbers"][0].shape == (64, 64)


def test_labelling_a_folder(mate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("cat", "dog"):
        for part in ("images", "masks"):
            (mate / f"animals/{kind}/{part}").mkdir(parents=True)
    image, mask = disc()
    square = np.zeros_like(mask)
    square[2:14, 2:14] = 255
    for kind, values in (("cat", 255 * mask), ("dog", square)):
        Image.fromarray(image).save(mate / f"animals/{kind}/images/0.png")
        Image.fromarray(values.astype(np.uint8)).save(mate / f"animals/{kind}/masks/0.png")
    (mate / "photos").mkdir()
    Image.fromarray(image).save(mate / "photos/0.png")  # the support, so that the class is found
    Image.fromarray(disc(middle=(24, 20))[0]).save(mate / "photos/1.png")
    cache = mate / "cache"
    (cache / "weights").mkdir(parents=True)
    shutil.copy(WEIGHTS, cache / "weights/resnet50-0676ba61.safetensors")  # in the place of the download
    monkeypatch.setenv("NOVELSEG_CACHE", str(cache))
    follow("label.md", mate)
    names = {"coco", "cvat-xml", "label-studio", "labelme", "yolo"}
    assert names <= {path.name for path in (mate / "labelled").iterdir()}
    assert len(list((mate / "again/masks").iterdir())) == 2


def test_changing_one_parameter_and_comparing(mate: Path) -> None:
    git(mate, "config", "user.name", "t")
    git(mate, "config", "user.email", "t@example.org")
    said = follow("compare.md", mate)
    assert "low-tau" in said
    assert "spfl+srofb" in said
    assert "tau_fg: 0.6" in (mate / "params.yaml").read_text(encoding="utf8")


def test_sharing_prototypes(mate: Path, tmp_path: Path) -> None:
    shared, colleague = tmp_path / "shared", tmp_path / "colleague"
    said = follow("share.md", mate, SHARED_FOLDER=str(shared), COLLEAGUE=str(colleague))
    assert "Nothing to be done" in said
    assert "current" in said
    assert (colleague / "artifacts/prototypes/fold0.h5").exists()
    assert list((colleague / "artifacts/images").glob("*.h5"))  # `pseudolabels` reads them beside the prototypes
    assert not list(colleague.glob("artifacts/features/*/*.h5"))


def test_a_cluster_is_planned_for(mate: Path) -> None:
    said = follow("cluster.md", mate)
    assert "pseudolabels" in said
    assert "--only ONLY" in said
