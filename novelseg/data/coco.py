"""Reader of COCO: ``annotations/instances_LIST.json`` and the images in ``LIST/``.

Semantic masks are painted from the polygons and run lengths of the instances (`novelseg.ops.rasterise`); crowds become
void. No mask files are needed.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from novelseg.core.errors import InputError, nearest
from novelseg.core.labels import VOID
from novelseg.data.jsonstream import elements
from novelseg.data.pairs import Entry, Pair, make_entries, pair_from_labels, read_image
from novelseg.ops.rasterise import Instance, encode, paint

LARGEST_ID = (1 << 63) - 1


@dataclass(frozen=True)
class _ListedImage:
    """An image as listed in the annotations."""

    number: int
    file: str
    height: int
    width: int


def _integer(entry: Any, key: str, low: int = 0) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is not int or value < low:
        raise ValueError(f"{key} is {value!r:.60}; expected a whole number of at least {low}")
    return value


def _name(entry: Any) -> str:
    """Name an entry in messages by its id, whatever the type of the id."""
    return repr(entry.get("id") if isinstance(entry, dict) else entry)[:40]


def _file_name(entry: Any) -> str:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError(f"file_name is {name!r:.40}; expected text")
    return name


def _listed_images(path: Path) -> list[_ListedImage]:
    """Read the images of a list, ordered by number."""
    images: dict[int, _ListedImage] = {}
    for _, entry in elements(path, "images"):
        try:
            image = _ListedImage(
                number=_integer(entry, "id"),
                file=_file_name(entry),
                height=_integer(entry, "height", 1),
                width=_integer(entry, "width", 1),
            )
        except ValueError as error:
            raise InputError(f"{path}: image {_name(entry)}: {error}; fix the annotations") from None
        file = Path(image.file)
        if file.is_absolute() or ".." in file.parts:
            raise InputError(
                f"{path}: image {image.number} has the file name '{file}'; expected a path inside the image folder"
            )
        if image.number in images:
            raise InputError(f"{path}: two images have the id {image.number}; keep one")
        images[image.number] = image
    return [images[number] for number in sorted(images)]


def _image_ids(lists: list[list[_ListedImage]], paths: list[Path]) -> list[list[str]]:
    """Return the ids of the images of each list, which are the names of their files without folder and ending."""
    files: dict[str, tuple[Path, str]] = {}
    for images, path in zip(lists, paths, strict=True):
        for image in images:
            name = Path(image.file).stem
            if name in files:
                other, file = files[name]
                where = "" if other == path else f" of {other.name}"
                raise InputError(
                    f"{path}: the file '{image.file}' shares the id '{name}' with '{file}'{where}; an id is the name "
                    "of a file without folder and ending; rename one file, here and in the image folder, or remove it"
                )
            files[name] = path, image.file
    return [[Path(image.file).stem for image in images] for images in lists]


class _AnnotationIds:
    """Ids of all annotations of a list, and their images; eight bytes for each, since COCO has nearly a million."""

    def __init__(self) -> None:
        self._ids, self._images = array("q"), array("q")

    def add(self, number: int, image: int) -> None:
        """Add an annotation."""
        if max(number, image) > LARGEST_ID:
            raise ValueError(f"the id {max(number, image)} is too large; expected at most {LARGEST_ID}")
        self._ids.append(number)
        self._images.append(image)

    def check(self, path: Path) -> None:
        """Check that no two annotations share an id, in one image or in two."""
        ids, images = np.array(self._ids, np.int64), np.array(self._images, np.int64)
        order = np.argsort(ids, kind="stable")
        same = np.flatnonzero(ids[order][1:] == ids[order][:-1])
        if same.size:
            first, second = order[same[0]], order[same[0] + 1]
            raise InputError(
                f"{path}: two annotations have the id {ids[first]}, of image {images[first]} and of image "
                f"{images[second]} ({same.size} such ids in all); give each annotation an id of its own"
            )


def require_list(root: Path, name: str) -> None:
    """Refuse a list without annotations, without reading any.

    Raises
    ------
    InputError
        If there is no such file; the message suggests the most similar list.
    """
    path = _annotations(root, name)
    if not path.exists():
        known = [file.stem.removeprefix("instances_") for file in sorted(path.parent.glob("instances_*.json"))]
        hint = f"; {nearest(name, known)}" if known else ""
        raise InputError(f"{path}: no such file; expected COCO's annotations{hint}")


def _annotations(root: Path, name: str) -> Path:
    return root / "annotations" / f"instances_{name}.json"


class Coco:
    """Reader of a folder in COCO's layout; only the annotations of one shard are in memory.

    Parameters
    ----------
    root
        The folder.
    lists
        Names of the training and the validation list, such as ``train2014``.
    chosen
        Names of the categories to read, in label order; empty for all, by number. Others count as background.
    shard, shards
        Every ``shards``-th image is read, starting with number ``shard``.
    exclude
        Ids of images to leave out.
    """

    def __init__(
        self,
        root: Path,
        lists: tuple[str, str],
        chosen: list[str],
        shard: int,
        shards: int,
        exclude: Collection[str] = (),
    ) -> None:
        self._root, self._lists = root, lists
        for name in lists:
            require_list(root, name)
        self._paths = [_annotations(root, name) for name in lists]
        listed = [_listed_images(path) for path in self._paths]
        names = _image_ids(listed, self._paths)
        self.entries = make_entries(list(zip(map(str, self._paths), names, strict=True)), exclude)
        self._images = {
            name: image for part, ids in zip(listed, names, strict=True) for image, name in zip(part, ids, strict=True)
        }
        members = [(entry.split, self._images[entry.name].number) for entry in self.entries[shard::shards]]
        known = [{image.number for image in part} for part in listed]
        self._annotations: dict[tuple[int, int], list[dict[str, Any]]] = {key: [] for key in members}
        categories = [self._collect(split, known[split]) for split in range(len(lists))]
        if categories[0] != categories[1]:
            raise InputError(
                f"{self._paths[1]}: its categories differ from those of {self._paths[0].name}; make them equal"
            )
        self._label = self._labels(categories[0], chosen)
        self.names = chosen or list(categories[0].values())
        self.hidden = 0

    def _collect(self, split: int, known: set[int]) -> dict[int, str]:
        """Collect the annotations of this shard's images; return the categories, by number."""
        path, unlisted, ids = self._paths[split], Counter[int](), _AnnotationIds()
        categories: dict[int, str] = {}
        for key, entry in elements(path, "annotations", "categories"):
            try:
                if key == "categories":
                    number = _integer(entry, "id", 1)
                    if number in categories:
                        raise ValueError(f"id is {number}, which another category has; expected unique ids")
                    name = entry.get("name")
                    if not isinstance(name, str) or not name.isprintable() or name in ("", *categories.values()):
                        raise ValueError(f"name is {name!r:.60}; expected a unique printable text")
                    categories[number] = name
                    continue
                image = _integer(entry, "image_id")
                ids.add(_integer(entry, "id"), image)
            except ValueError as error:
                raise InputError(f"{path}: {key}, entry {_name(entry)}: {error}; fix the annotations") from None
            if (split, image) in self._annotations:
                self._annotations[split, image].append(entry)
            elif image not in known:
                unlisted[image] += 1
        if unlisted:
            raise InputError(
                f"{path}: {unlisted.total()} annotations are of images that are not listed (first: image "
                f"{min(unlisted)}); remove them, or add the images"
            )
        ids.check(path)
        return dict(sorted(categories.items()))

    def _labels(self, categories: dict[int, str], chosen: list[str]) -> dict[int, int]:
        """Return the label of each category, by number."""
        names = list(categories.values())
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise InputError(
                f"images.classes names '{unknown[0]}', which is not a category of {self._paths[0]}; "
                f"{nearest(unknown[0], names)}"
            )
        labels = {name: label for label, name in enumerate(chosen or names, 1)}
        if not 0 < len(labels) < VOID:
            raise InputError(
                f"{self._paths[0]}: has {len(labels)} categories; expected 1…{VOID - 1}; list those to read in "
                "images.classes"
            )
        return {number: labels.get(name, 0) for number, name in categories.items()}

    def _instances(self, where: str, image: _ListedImage, entries: list[dict[str, Any]]) -> Iterator[Instance]:
        """Yield the objects of an image by number, so that the order in the file does not matter."""
        for entry in sorted(entries, key=itemgetter("id")):  # whole numbers, each once: checked before
            try:
                category, crowd = _integer(entry, "category_id"), entry.get("iscrowd", 0)
                if category not in self._label:
                    raise ValueError(f"has category {category}, which is not listed")
                if crowd not in (0, 1):
                    raise ValueError(f"has iscrowd {crowd!r}; expected 0 or 1")
                rle = encode(entry.get("segmentation"), image.height, image.width)
            except ValueError as error:
                raise InputError(f"{where}: annotation {entry['id']}: {error}; fix or remove it") from None
            if label := self._label[category]:
                yield Instance(VOID if crowd else label, rle)

    def read(self, entry: Entry) -> Pair:
        """Read an image and paint its mask."""
        split, listed = entry.split, self._images[entry.name]
        where = f"{self._paths[split]}, image {listed.number}"
        image = read_image(self._root / self._lists[split] / listed.file)
        image.check_size(listed.height, listed.width, where)  # before a mask of that size is painted
        instances = list(self._instances(where, listed, self._annotations[split, listed.number]))
        labels, hidden = paint(instances, listed.height, listed.width)
        self.hidden += hidden
        return pair_from_labels(entry, image, labels, where, len(self.names))
