"""Gallery of prototypes: their nearest regions, parents and children, and the classes of their members.

The classes come from the masks, those of novel classes included: the gallery shows how the clustering groups classes
that have no labels in training (A, Fig. 4). It is for inspection only; nothing is trained or selected with it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.index import Index
from novelseg.data.store import ImageStore
from novelseg.formats import hdf5
from novelseg.formats.features import FEATURES
from novelseg.formats.levels import LEVELS, SIDES
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.regions import REGIONS
from novelseg.methods.spfl.clustering import nearest, scaled
from novelseg.ops.drawing import BORDER, mix, outline
from novelseg.report.pictures import tile

CROP_PX = 72
MARGIN = 0.15  # around a box, relative to its sides
Box = tuple[int, int, int, int]


@dataclass(order=True, frozen=True)
class Member:
    """A region or object of a prototype; nearer members compare as larger, so that a heap drops the farthest."""

    nearness: float  # negative squared distance
    image: int
    part: int  # region number, or class of an object
    box: Box = field(compare=False)


@dataclass
class Tally:
    """Statistics of the prototypes of one side at the finest level.

    Attributes
    ----------
    area : (K, C + 1)
        Pixels of the members by class; column 0 counts those without a class.
    nearest
        For each prototype, a heap of the members nearest to its centre.
    """

    area: NDArray[np.int64]
    nearest: list[list[Member]]

    @staticmethod
    def of(count: int, classes: int) -> Tally:
        """Create the statistics of ``count`` prototypes without members."""
        return Tally(np.zeros((count, classes + 1), np.int64), [[] for _ in range(count)])

    def add(self, prototype: int, area: NDArray[np.int64], member: Member, crops: int) -> None:
        """Add a member, and keep it if it is among the ``crops`` nearest."""
        self.area[prototype] += area
        heap = self.nearest[prototype]
        heapq.heappush(heap, member)
        if len(heap) > crops:
            heapq.heappop(heap)


def _composition(store: ImageStore, index: Index, image: int, regions: NDArray[Any]) -> NDArray[np.int64]:
    """Count the pixels of every class in every region, except void pixels; (regions, C + 1)."""
    mask, classes = store.mask(image), len(index.classes)
    valid = mask != VOID
    flat = regions[valid].astype(np.int64) * (classes + 1) + mask[valid]
    return np.bincount(flat, minlength=(int(regions.max()) + 1) * (classes + 1)).reshape(-1, classes + 1)


class Gallery:
    """Data about the prototypes of one fold, collected from shards.

    Parameters
    ----------
    prototypes
        File of prototypes.
    index, store
        The data set.
    crops
        Number of nearest members that are stored for each prototype.
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

    def gather(self, features: list[Path], regions: list[Path], max_images: int) -> None:
        """Read shards of features and regions, in the same order, until ``max_images`` images have been read."""
        for feature_path, region_path in zip(features, regions, strict=True):
            if len(self.images) >= max_images:
                return
            with hdf5.opened(feature_path, FEATURES) as file, hdf5.opened(region_path, REGIONS) as region_file:
                hdf5.require(feature_path, file, "fold", self.fold)
                self._read_shard(file, region_file, max_images)

    def _read_shard(self, file: hdf5.Artifact, region_file: hdf5.Artifact, max_images: int) -> None:
        ids = {side: hdf5.texts(file, f"{side}/image") for side in SIDES}
        if unknown := {name for side in SIDES for name in ids[side]} - self._numbers.keys():
            raise file.wrong(f"the image '{min(unknown)}' is not in the index")
        if ((labels := file["fg/class"][:]) < 1).any() or (labels > len(self._index.classes)).any():
            raise file.wrong("dataset 'fg/class' has labels that are not classes of the index")
        names = {side: [self._numbers[name] for name in ids[side]] for side in SIDES}
        new_images = set(sorted({*names["bg"], *names["fg"]})[: max_images - len(self.images)])
        self.images |= new_images
        rows = {self._numbers.get(name, -1): row for row, name in enumerate(hdf5.texts(region_file, "id"))}
        if missing := new_images - rows.keys():
            raise InputError(
                f"{region_file.filename}: no regions of '{self._index.ids[min(missing)]}', whose features are in "
                f"{file.filename}; give the shards of regions and features in the same order"
            )
        areas: dict[int, NDArray[np.int64]] = {}
        for side in SIDES:
            selected = np.array([image in new_images for image in names[side]], bool)
            # The rows of an image are consecutive, so that no row after the last selected one is read.
            count = len(selected) - int(selected[::-1].argmax()) if selected.any() else 0
            columns = ("vectors", "region" if side == "bg" else "class", "box", "area")
            vectors, parts, boxes, area = (file[f"{side}/{name}"][:count] for name in columns)
            if vectors.shape[1] != self._levels[side][0]["centres"].shape[1]:
                raise file.wrong(f"its vectors have {vectors.shape[1]} channels, unlike the prototypes")
            labels, distances = nearest(scaled(vectors, self._metric), self._levels[side][0]["centres"])
            for row in np.flatnonzero(selected).tolist():
                image, part = names[side][row], int(parts[row])
                if side == "bg":
                    if image not in areas:  # only the current image is stored: its rows are consecutive
                        label_map = _labels(region_file, rows[image])
                        areas = {image: _composition(self._store, self._index, image, label_map)}
                    if part >= len(areas[image]):
                        raise file.wrong(f"dataset 'bg/region' names region {part}, which its image does not have")
                    pixels = self._without_base(areas[image][part])
                else:
                    pixels = np.zeros(len(self._index.classes) + 1, np.int64)
                    pixels[part] = area[row]
                top, left, bottom, right = boxes[row].tolist()
                member = Member(-float(distances[row]), image, part, (top, left, bottom, right))
                self._tallies[side].add(int(labels[row]), pixels, member, self._crops)

    def _without_base(self, area: NDArray[np.int64]) -> NDArray[np.int64]:
        """Set the counts of base classes to 0, because pooling excludes their pixels from background regions."""
        counts = area.copy()
        counts[self._index.base(self.fold)] = 0
        return counts

    def prototypes(self, regions: list[Path]) -> list[dict[str, Any]]:
        """Return all prototypes of both sides with their crops, as values that JSON can represent."""
        crops = self._crops_of_members(regions)
        items = []
        for side in reversed(SIDES):
            area = self._tallies[side].area
            totals = area.sum(0)
            children: list[list[int]] = [[] for _ in area]
            for level, entries in enumerate(self._levels[side], 1):
                parents = entries["parent"].tolist()
                for number, members in enumerate(entries["members"].tolist()):
                    items.append(
                        {
                            **{"side": side, "level": level, "number": number, "members": members},
                            **{"parent": parents[number], "children": children[number]},
                            **self._describe(area[number], totals),
                            "crops": crops.get((side, number), []) if level == 1 else [],
                        }
                    )
                if level < len(LEVELS):
                    coarser = len(self._levels[side][level]["centres"])
                    sums = np.zeros((coarser, area.shape[1]), np.int64)
                    np.add.at(sums, entries["parent"], area)
                    children = [np.flatnonzero(entries["parent"] == number).tolist() for number in range(coarser)]
                    area = sums
        return items

    def _describe(self, area: NDArray[np.int64], totals: NDArray[np.int64]) -> dict[str, Any]:
        """Describe which classes the pixels of a prototype's members have.

        Parameters
        ----------
        area : (1 + classes,)
            Pixels of the members by class; 0 is without a class.
        totals : (1 + classes,)
            The same, summed over all prototypes of the same side (foreground or background).

        Returns
        -------
        dict
            ``annotated``, the share of the pixels with a class; ``purity``, the share of the largest class among these;
            and for each class, the largest first, its name, its share of the pixels, and the share of ``totals`` that
            is here.
        """
        total, labelled = int(area.sum()), int(area[1:].sum())
        shares = [
            (self._index.classes[label - 1], round(area[label] / total, 4), round(area[label] / totals[label], 4))
            for label in (np.argsort(-area[1:], kind="stable") + 1).tolist()
            if area[label]
        ]
        return {
            "annotated": round(labelled / total, 4) if total else None,
            "purity": round(float(area[1:].max() / labelled), 4) if labelled else None,
            "classes": shares,
        }

    def _crops_of_members(self, regions: list[Path]) -> dict[tuple[str, int], list[str]]:
        """Render crops of the nearest members, by side and prototype; every image is decoded only once."""
        by_image: dict[int, list[tuple[str, int, int, Member]]] = {}
        for side in SIDES:
            for number, members in enumerate(self._tallies[side].nearest):
                for rank, member in enumerate(sorted(members, reverse=True)):
                    by_image.setdefault(member.image, []).append((side, number, rank, member))
        crops: dict[tuple[str, int], dict[int, str]] = {}
        for image, labels in self._label_maps(regions, sorted(by_image)):
            colours, mask = self._store.image(image), self._store.mask(image)
            background = self._index.base_labels(mask, self.fold) == 0  # the part of a region that was pooled
            for side, number, rank, member in by_image[image]:
                inside = (labels == member.part) & background if side == "bg" else mask == member.part
                crops.setdefault((side, number), {})[rank] = _crop(colours, inside, member.box)
        return {key: [by_rank[rank] for rank in sorted(by_rank)] for key, by_rank in crops.items()}

    def _label_maps(self, regions: list[Path], images: list[int]) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the label maps of images, shard by shard."""
        for path in regions:
            with hdf5.opened(path, REGIONS) as file:
                rows = {self._numbers.get(name, -1): row for row, name in enumerate(hdf5.texts(file, "id"))}
                yield from ((image, _labels(file, rows[image])) for image in images if image in rows)


def _labels(file: hdf5.Artifact, row: int) -> NDArray[Any]:
    """Read the region map (H, W) in a row of a file of regions."""
    size = int(file["height"][row]), int(file["width"][row])
    return hdf5.Ragged.get(file, "labels", row).reshape(size)


def _crop(image: NDArray[np.uint8], region: NDArray[np.bool_], box: Box) -> str:
    """Render a box of an image with a margin around it and the outline of the region, as a data URI."""
    top, left, bottom, right = box
    vertical, horizontal = round(MARGIN * (bottom - top)) + 2, round(MARGIN * (right - left)) + 2
    rows = slice(max(0, top - vertical), bottom + vertical)
    columns = slice(max(0, left - horizontal), right + horizontal)
    part, inside = image[rows, columns], region[rows, columns]
    width = max(1, round(max(inside.shape) / CROP_PX))
    return tile(mix(part, outline(inside, width), BORDER, 1.0), CROP_PX)
