"""The official archives in miniature: their real inner layout, filled with built-in scenes."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from novelseg.backbones.resnet import ResNet
from novelseg.data.scenes import SceneSettings, scene, write_voc
from tests.makers import Project, tiny_values, write_values

SCENES = SceneSettings(seed=0, train=6, val=4, size=48)
# Numbers of scenes. VOC's segmentation lists, its main task's, and SBD's two.
VOC_LISTS = {
    "Segmentation/train": [0, 1, 2],
    "Segmentation/val": [3, 4],
    "Segmentation/trainval": [0, 1, 2, 3, 4],
    "Main/train": [0, 1, 2, 5, 6, 7],
    "Main/val": [3, 4, 8, 9],
    "Main/cat_train": [0],
}
SBD_LISTS = {"train": [1, 5, 8], "val": [4, 6, 7, 9]}
TRAINAUG, NOVAL = [0, 1, 2, 5, 6, 7, 8, 9], [0, 1, 2, 5, 6, 7]
COCO_LISTS = ("train2014", "val2014")
CATEGORIES = {1: "person", 3: "car", 44: "bottle", 90: "toothbrush"}


def name(number: int) -> str:
    """Id of a scene."""
    return f"scene{number:05d}"


def _ids(numbers: list[int]) -> str:
    return "".join(f"{name(number)}\n" for number in numbers)


def voc_folder(root: Path) -> Path:
    """``VOC2012`` as unpacked: ten images, of which five have masks."""
    write_voc(root, SCENES, range(10))
    for path in (root / "ImageSets/Segmentation").iterdir():
        path.unlink()
    for place, numbers in VOC_LISTS.items():
        path = root / "ImageSets" / f"{place}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_ids(numbers))
    for number in range(5, 10):
        (root / f"SegmentationClass/{name(number)}.png").unlink()
    return root


def sbd_mask(number: int) -> np.ndarray:
    """SBD's mask of a scene: no void border."""
    label = scene(SCENES, number)[1]
    return np.where(label == 255, 0, label).astype(np.uint8)


def sbd_folder(root: Path) -> Path:
    """``benchmark_RELEASE/dataset`` of SBD."""
    for folder in ("cls", "inst", "img"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for place, numbers in SBD_LISTS.items():
        (root / f"{place}.txt").write_text(_ids(numbers))
        for number in numbers:
            mask = sbd_mask(number)
            entry = {
                "Boundaries": np.zeros((20, 1), object),
                "Segmentation": mask,
                "CategoriesPresent": np.unique(mask),
            }
            savemat(root / f"cls/{name(number)}.mat", {"GTcls": entry}, do_compression=True)
            (root / f"img/{name(number)}.jpg").write_bytes(b"not looked at")
    return root


def coco_image(split: str, number: int) -> str:
    """File name in COCO 2014's form."""
    return f"COCO_{split}_{number:012d}.jpg"


def coco_annotations(split: str, first: int) -> dict[str, Any]:
    """Instances of three images, in the official order of keys: polygons, one of several parts, plain run lengths."""
    images, annotations = [], []
    for number in range(first, first + 3):
        height, width = scene(SCENES, number)[1].shape
        images.append({"id": number, "file_name": coco_image(split, number), "height": height, "width": width})
        outlines: list[tuple[int, Any, int]] = [
            (1, [[2.0, 2.0, 30.0, 2.0, 30.0, 30.0, 2.0, 30.0]], 0),
            (3, [[4.5, 4.5, 12.5, 4.5, 12.5, 14.0], [20.0, 20.0, 24.0, 20.0, 24.0, 24.0, 20.0, 24.0]], 0),
            (44, {"size": [height, width], "counts": [height * (width - 6), height * 6]}, 1),
        ]
        for place, (category, segmentation, crowd) in enumerate(outlines):
            annotation = {"id": 100 * number + place, "image_id": number, "category_id": category, "iscrowd": crowd}
            annotations.append({"segmentation": segmentation, "area": 1.0, "bbox": [0, 0, 1, 1], **annotation})
    categories = [{"supercategory": "x", "id": number, "name": text} for number, text in CATEGORIES.items()]
    head = {"info": {"year": 2014, "description": "mini"}, "images": images, "licenses": [{"id": 1}]}
    return {**head, "annotations": annotations, "categories": categories}


def coco_folder(root: Path) -> Path:
    """``COCO2014`` as unpacked: three images a list."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, first in (("train2014", 1), ("val2014", 5)):
        (root / split).mkdir(exist_ok=True)
        made = coco_annotations(split, first)
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(made))
        for entry in made["images"]:
            Image.fromarray(scene(SCENES, entry["id"])[0]).save(root / split / entry["file_name"], quality=90)
    return root


def _tar(path: Path, folder: Path, inside: str, mode: str) -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, inside)


def _zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for place in sorted({str(Path(inside).parent) for inside in files}):
            archive.writestr(f"{place}/", b"")
        for inside, content in files.items():
            archive.writestr(inside, content)


def archives(folder: Path) -> dict[str, bytes]:
    """All official archives and a torchvision weight file (of a narrow ResNet-18), by name."""
    voc, sbd, coco, out = (
        voc_folder(folder / "voc"),
        sbd_folder(folder / "sbd"),
        coco_folder(folder / "coco"),
        folder / "out",
    )
    out.mkdir()
    _tar(out / "VOCtrainval_11-May-2012.tar", voc, "VOCdevkit/VOC2012", "w")
    _tar(out / "benchmark.tgz", sbd, "benchmark_RELEASE/dataset", "w:gz")
    for split in ("train2014", "val2014"):
        _zip(out / f"{split}.zip", {f"{split}/{path.name}": path.read_bytes() for path in (coco / split).iterdir()})
    texts = {f"annotations/{path.name}": path.read_bytes() for path in (coco / "annotations").iterdir()}
    _zip(out / "annotations_trainval2014.zip", {**texts, "annotations/captions_train2014.json": b"{}"})
    net = ResNet(arch="resnet18", stem="torchvision", width=4, frozen=False)
    state = {**net.state_dict(), "layer4.0.conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(2, 3)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (out / "resnet18-f37072fd.pth").write_bytes(buffer.getvalue())
    return {path.name: path.read_bytes() for path in out.iterdir()}


def refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """The stage ends with one sentence and writes nothing."""
    values = tiny_values(
        images={
            "source": "coco",
            "root": str(root),
            "train_list": COCO_LISTS[0],
            "val_list": COCO_LISTS[1],
            "shards": 1,
        }
    )
    values["images"].update(changes)
    project = Project(tmp_path, tmp_path / "none")
    write_values(project.params, values)
    out = tmp_path / "out" / "0.h5"
    words = ["--sbd", values["images"]["sbd"]] if values["images"]["sbd"] else []
    assert project.run("images", "--root", root, *words, "--shard", 0, "--out", out) == 2
    assert not out.parent.exists() or not list(out.parent.iterdir())
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    return last
