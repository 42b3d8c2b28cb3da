"""Where the data sets and pretrained weights come from: official addresses, checksums, places below the data folder."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """One file to fetch.

    Attributes
    ----------
    url
        Its official address.
    check
        ``md5:…`` or ``sha256:…``, whole or its beginning.
    target
        What is made of it, below the data folder.
    places
        Member, or folder of members → place below the target; empty for a weight file, which is converted.
    """

    url: str
    check: str
    target: str
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name of the download, the last part of its URL."""
        return self.url.rpartition("/")[2]

    def there(self, target: Path) -> bool:
        """Whether all that is made of it lies at a place; its content is not looked at."""
        return target.exists() and all((target / place).exists() for place in self.places.values())


def _weights(name: str) -> tuple[Archive, ...]:
    """A weight file of torchvision's, whose name ends in the start of its sha256."""
    check = f"sha256:{name.rpartition('-')[2]}"
    return (Archive(f"https://download.pytorch.org/models/{name}.pth", check, f"weights/{name}.safetensors"),)


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
                f"{VOC}{place}": place
                for place in (
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
            {f"{SBD}{place}": place for place in ("cls/", "train.txt", "val.txt")},
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
    "resnet101": _weights("resnet101-63fe2227"),
}


def _needed(archive: Archive, lists: Collection[str]) -> list[str]:
    """Places below the data folder that reading these lists needs of an archive."""
    below = archive.target.partition("/")[2] if archive.places else ""
    if below == "annotations":
        files = [f"instances_{name}.json" for name in lists]
        return [f"{archive.target}/{name}" for name in files if name in archive.places.values()]
    return [archive.target] if not below or below in lists else []


def lacking(path: str, lists: Collection[str]) -> str:
    """What a path that should hold a known data set or weight file lacks, and the command that gets it.

    Empty where nothing is lacking, or the path is none of a data set's. ``lists`` names those that are to be read; the
    inside of a folder is the reader's to check.
    """
    place = Path(path)
    for what, archives in CATALOGUE.items():
        for archive in archives:
            parts = Path(archive.target.partition("/")[0] if archive.places else archive.target).parts
            if place.parts[-len(parts) :] != parts:
                continue
            home = place.parents[len(parts) - 1]
            if not all((home / needed).exists() for needed in _needed(archive, lists)):
                command = f"novelseg fetch --what {what} --out {shlex.quote(str(home))}"
                return f"{archive.name} is missing; `{command}` gets it"
    return ""
