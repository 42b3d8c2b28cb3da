"""Catalogue of data sets and pretrained weights: official URLs, checksums, and paths in the data folder."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from novelseg.backbones.designs import VITS, ViTDesign


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes
    ----------
    url
        Official URL.
    check
        Expected digest, ``md5:…`` or ``sha256:…``; may be only its first digits, and empty where none is published.
    target
        Folder that it is unpacked to, or weight file that it is converted to, relative to the data folder.
    paths
        Member of the archive, or folder of members (ending in ``/``) → path relative to the target; empty for a weight
        file.
    last
        For a weight file, the last layer that is kept: ``layer3`` or ``layer4``.
    """

    url: str
    check: str
    target: str
    paths: Mapping[str, str] = field(default_factory=dict)
    last: str = "layer3"

    @property
    def name(self) -> str:
        """File name of the download: the last part of the URL."""
        return self.url.rpartition("/")[2]

    def is_installed(self, target: Path) -> bool:
        """Return whether the target and all its paths exist; their content is not checked."""
        return target.exists() and all((target / path).exists() for path in self.paths.values())


def _weights(name: str, last: str = "layer3") -> tuple[Archive, ...]:
    """Return the entry of a torchvision weight file, whose name ends in the first digits of its SHA-256."""
    check = f"sha256:{name.rpartition('-')[2]}"
    target = f"weights/{name}{'' if last == 'layer3' else f'-{last}'}.safetensors"
    return (Archive(f"https://download.pytorch.org/models/{name}.pth", check, target, last=last),)


def _vit(name: str, design: ViTDesign) -> tuple[Archive, ...]:
    """Return the entry of an official weight file of a vision transformer."""
    return (Archive(design.url, f"sha256:{design.check}" if design.check else "", f"weights/{name}.safetensors"),)


VOC = "VOCdevkit/VOC2012/"
SBD = "benchmark_RELEASE/dataset/"
COCO = "http://images.cocodataset.org"
CATALOGUE: dict[str, tuple[Archive, ...]] = {
    "voc2012": (
        Archive(
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "md5:6cd6e144f989b92b3379bac3b3de84fd",
            "VOC2012",
            {
                f"{VOC}{path}": path
                for path in (
                    *("JPEGImages/", "SegmentationClass/", "ImageSets/Segmentation/"),
                    *("ImageSets/Main/train.txt", "ImageSets/Main/val.txt"),
                )
            },
        ),
    ),
    "sbd": (
        Archive(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
            "md5:82b4d87ceb2ed10f6038a1cba92111cb",
            "SBD",
            {f"{SBD}{path}": path for path in ("cls/", "train.txt", "val.txt")},
        ),
    ),
    "coco2014": (
        Archive(
            f"{COCO}/annotations/annotations_trainval2014.zip",
            "sha256:031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
            "COCO2014/annotations",
            {f"annotations/{name}": name for name in ("instances_train2014.json", "instances_val2014.json")},
        ),
        Archive(
            f"{COCO}/zips/val2014.zip",
            "sha256:fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
            "COCO2014/val2014",
            {"val2014/": ""},
        ),
        Archive(
            f"{COCO}/zips/train2014.zip",
            "sha256:ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
            "COCO2014/train2014",
            {"train2014/": ""},
        ),
    ),
    "resnet18": _weights("resnet18-f37072fd"),
    "resnet34": _weights("resnet34-b627a593"),
    "resnet50": _weights("resnet50-0676ba61"),
    "resnet50-layer4": _weights("resnet50-0676ba61", "layer4"),
    "resnet101": _weights("resnet101-63fe2227"),
    **{name: _vit(name, design) for name, design in VITS.items() if design.url},
}


def _required_paths(archive: Archive, lists: Collection[str]) -> list[str]:
    """Return the paths of an archive, relative to the data folder, that are read for the given lists."""
    subfolder = archive.target.partition("/")[2] if archive.paths else ""
    if subfolder == "annotations":
        files = [f"instances_{name}.json" for name in lists]
        return [f"{archive.target}/{name}" for name in files if name in archive.paths.values()]
    return [archive.target] if not subfolder or subfolder in lists else []


def lacking(path: str, lists: Collection[str]) -> str:
    """Return a sentence about the first missing archive of a data set or weight file, and the command to download it.

    Parameters
    ----------
    path
        Folder of a data set, or weight file.
    lists
        Image lists that will be read; archives that only other lists need may be missing.

    Returns
    -------
    str
        Empty if nothing is missing, or if the path ends like none in the catalogue. The content of folders is not
        checked.
    """
    location = Path(path)
    for what, archives in CATALOGUE.items():
        for archive in archives:
            parts = Path(archive.target.partition("/")[0] if archive.paths else archive.target).parts
            if location.parts[-len(parts) :] != parts:
                continue
            root = location.parents[len(parts) - 1]
            if not all((root / required).exists() for required in _required_paths(archive, lists)):
                command = f"novelseg fetch --what {what} --out {shlex.quote(str(root))}"
                return f"{archive.name} is missing; `{command}` downloads it"
    return ""
