"""Prototypes as what they stand for: their nearest regions, their kin, and which classes their members belong to.

What members belong to is told by the masks, novel classes included: the gallery shows what the clustering has found
of classes that nobody had labelled (A, Fig. 4). It is looked at, and never trained or chosen on.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.index import Index
from novelseg.data.store import ImageStore
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.formats.prototypes import LEVELS, PROTOTYPES, SIDES
from novelseg.formats.regions import REGIONS
from novelseg.methods.spfl.clustering import nearest, scaled
from novelseg.ops.drawing import BORDER, mix, outline
from novelseg.report.pictures import tile

CROP_PX = 72
AROUND = 0.15  # of a box' sides, shown around it
Box = tuple[int, int, int, int]


@dataclass(order=True, frozen=True)
class Member:
    """A region or object that belongs to a prototype; nearer ones are larger, so that a heap drops the farthest."""

    nearness: float  # negative squared distance
    image: int
    part: int  # region number, or class of an object
    box: Box = field(compare=False)


@dataclass
class Tally:
    """What is known of the prototypes of the finest level of a side.

    Attributes
    ----------
    area : (K, C + 1)
        Pixels of the members by class; 0 where no class is annotated.
    nearest
        Members nearest to each centre.
    """

    area: NDArray[np.int64]
    nearest: list[list[Member]]

    @staticmethod
    def of(count: int, classes: int) -> Tally:
        """Of no member yet."""
        return Tally(np.zeros((count, classes + 1), np.int64), [[] for _ in range(count)])

    def add(self, prototype: int, area: NDArray[np.int64], member: Member, crops: int) -> None:
        """Count a member."""
        self.area[prototype] += area
        kept = self.nearest[prototype]
        heapq.heappush(kept, member)
        if len(kept) > crops:
            heapq.heappop(kept)


def _composition(store: ImageStore, index: Index, image: int, regions: NDArray[Any]) -> NDArray[np.int64]:
    """(regions, C + 1) pixels of every class in every region; void is left out."""
    mask, classes = store.mask(image), len(index.classes)
    known = mask != VOID
    flat = regions[known].astype(np.int64) * (classes + 1) + mask[known]
    return np.bincount(flat, minlength=(int(regions.max()) + 1) * (classes + 1)).reshape(-1, classes + 1)


class Gallery:
    """Gathers what the page shows of the prototypes of one fold.

    Parameters
    ----------
    prototypes
        The artifact.
    index, store
        The data set.
    crops
        Nearest members that are kept of each.
    """

    def __init__(self, prototypes: Path, index: Index, store: ImageStore, crops: int) -> None:
        self._index, self._store, self._crops = index, store, crops
        with hdf5.opened(prototypes, PROTOTYPES) as file:
            self.fold, self._metric = hdf5.attribute(file, "fold"), hdf5.attribute(file, "metric")
            names = ("centres", "members", "parent")
            self._levels = {
                side: [{name: file[f"{side}/level{level}/{name}"][:] for name in names} for level in LEVELS]
                for side in SIDES
            }
        self._numbers = {name: number for number, name in enumerate(index.ids)}
        self._tallies = {side: Tally.of(len(self._levels[side][0]["centres"]), len(index.classes)) for side in SIDES}
        self.images: set[int] = set()

    def gather(self, features: list[Path], regions: list[Path], most: int) -> None:
        """Read shards one after another until ``most`` images have been seen."""
        for pooled, cut in zip(features, regions, strict=True):
            if len(self.images) >= most:
                return
            with hdf5.opened(pooled, FEATURES) as file, hdf5.opened(cut, REGIONS) as cuts:
                hdf5.require(pooled, file, "fold", self.fold)
                self._shard(file, cuts, most)

    def _shard(self, file: h5py.File, cuts: h5py.File, most: int) -> None:
        names = {side: [self._numbers[name] for name in hdf5.texts(file, f"{side}/image")] for side in SIDES}
        chosen = set(sorted({*names["bg"], *names["fg"]})[: most - len(self.images)])
        self.images |= chosen
        cut = {self._numbers[name]: row for row, name in enumerate(hdf5.texts(cuts, "id"))}
        if lost := chosen - cut.keys():
            raise InputError(
                f"{cuts.filename}: has no regions of '{self._index.ids[min(lost)]}', whose features {file.filename} "
                "holds; give the shards in one order"
            )
        areas: dict[int, NDArray[np.int64]] = {}
        for side in SIDES:
            wanted = np.array([image in chosen for image in names[side]], bool)
            count = len(wanted) - int(wanted[::-1].argmax()) if wanted.any() else 0  # images follow one another
            named = ("vectors", "region" if side == "bg" else "class", "box", "area")
            vectors, parts, boxes, area = (file[f"{side}/{name}"][:count] for name in named)
            labels, distances = nearest(scaled(vectors, self._metric), self._levels[side][0]["centres"])
            for row in np.flatnonzero(wanted).tolist():
                image, part = names[side][row], int(parts[row])
                if side == "bg":
                    if image not in areas:  # images follow one another
                        areas = {image: _composition(self._store, self._index, image, _labels(cuts, cut[image]))}
                    found = self._unlabelled(areas[image][part])
                else:
                    found = np.zeros(len(self._index.classes) + 1, np.int64)
                    found[part] = area[row]
                top, left, bottom, right = boxes[row].tolist()
                member = Member(-float(distances[row]), image, part, (top, left, bottom, right))
                self._tallies[side].add(int(labels[row]), found, member, self._crops)

    def _unlabelled(self, area: NDArray[np.int64]) -> NDArray[np.int64]:
        """Without base classes, which are cut out of background regions before they are pooled."""
        kept = area.copy()
        kept[self._index.base(self.fold)] = 0
        return kept

    def prototypes(self, regions: list[Path]) -> list[dict[str, Any]]:
        """All prototypes of both sides, with crops, as plain values for the page."""
        pictures = self._pictures(regions)
        found = []
        for side in reversed(SIDES):
            area = self._tallies[side].area
            every = area.sum(0)
            children: list[list[int]] = [[] for _ in area]
            for level, entries in enumerate(self._levels[side], 1):
                parents = entries["parent"].tolist()
                for number, members in enumerate(entries["members"].tolist()):
                    found.append(
                        {
                            **{"side": side, "level": level, "number": number, "members": members},
                            **{"parent": parents[number], "children": children[number]},
                            **self._described(area[number], every),
                            "crops": pictures.get((side, number), []) if level == 1 else [],
                        }
                    )
                if level < len(LEVELS):
                    coarser = len(self._levels[side][level]["centres"])
                    sums = np.zeros((coarser, area.shape[1]), np.int64)
                    np.add.at(sums, entries["parent"], area)
                    children = [np.flatnonzero(entries["parent"] == number).tolist() for number in range(coarser)]
                    area = sums
        return found

    def _described(self, area: NDArray[np.int64], every: NDArray[np.int64]) -> dict[str, Any]:
        """What the members' pixels are, largest first: share of them, and of all pixels of the class.

        ``every`` counts the pixels of each class in all prototypes of the side. ``annotated`` is the share that has a
        class at all, ``purity`` that of the largest among these.
        """
        total, labelled = int(area.sum()), int(area[1:].sum())
        shares = [
            (self._index.classes[label - 1], round(area[label] / total, 4), round(area[label] / every[label], 4))
            for label in (np.argsort(-area[1:], kind="stable") + 1).tolist()
            if area[label]
        ]
        return {
            "annotated": round(labelled / total, 4) if total else None,
            "purity": round(float(area[1:].max() / labelled), 4) if labelled else None,
            "classes": shares,
        }

    def _pictures(self, regions: list[Path]) -> dict[tuple[str, int], list[str]]:
        """Crops of the nearest members, by side and prototype; every image is decoded once."""
        wanted: dict[int, list[tuple[str, int, int, Member]]] = {}
        for side in SIDES:
            for number, members in enumerate(self._tallies[side].nearest):
                for place, member in enumerate(sorted(members, reverse=True)):
                    wanted.setdefault(member.image, []).append((side, number, place, member))
        found: dict[tuple[str, int], dict[int, str]] = {}
        for image, cut in self._cuts(regions, sorted(wanted)):
            colours, mask = self._store.image(image), self._store.mask(image)
            background = self._index.base_labels(mask, self.fold) == 0  # all that was pooled of a region
            for side, number, place, member in wanted[image]:
                where = (cut == member.part) & background if side == "bg" else mask == member.part
                found.setdefault((side, number), {})[place] = _crop(colours, where, member.box)
        return {key: [crops[place] for place in sorted(crops)] for key, crops in found.items()}

    def _cuts(self, regions: list[Path], images: list[int]) -> Iterator[tuple[int, NDArray[Any]]]:
        """Label maps of images, shard by shard."""
        for path in regions:
            with hdf5.opened(path, REGIONS) as cuts:
                rows = {self._numbers[name]: row for row, name in enumerate(hdf5.texts(cuts, "id"))}
                yield from ((image, _labels(cuts, rows[image])) for image in images if image in rows)


def _labels(cuts: h5py.File, row: int) -> NDArray[Any]:
    size = int(cuts["height"][row]), int(cuts["width"][row])
    return hdf5.Ragged.get(cuts, "labels", row).reshape(size)


def _crop(image: NDArray[np.uint8], where: NDArray[np.bool_], box: Box) -> str:
    """The box with a little around it, the region's outline drawn."""
    top, left, bottom, right = box
    tall, wide = round(AROUND * (bottom - top)) + 2, round(AROUND * (right - left)) + 2
    rows = slice(max(0, top - tall), bottom + tall)
    columns = slice(max(0, left - wide), right + wide)
    part, inside = image[rows, columns], where[rows, columns]
    width = max(1, round(max(inside.shape) / CROP_PX))
    return tile(mix(part, outline(inside, width), BORDER, 1.0), CROP_PX)
