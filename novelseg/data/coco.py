"""Reader of COCO: ``annotations/instances_LIST.json`` and the images in ``LIST/``; no file of masks is needed.

Semantic masks are painted from the instances (`novelseg.ops.rasterise`): all polygons and run lengths, crowds are void.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.core.text import nearest
from novelseg.data.jsonstream import elements
from novelseg.data.pairs import Entry, Pair, in_order, pair_from_labels, read_picture
from novelseg.ops.rasterise import Instance, encode, paint


@dataclass(frozen=True)
class _Picture:
    """An image as the annotations know it."""

    number: int
    file: str
    height: int
    width: int


def _whole(entry: Any, key: str, low: int = 0) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if type(value) is not int or value < low:
        raise ValueError(f"{key} is {value!r}; expected a whole number of at least {low}")
    return value


def _name(entry: Any) -> str:
    """How a message calls an entry: by its id, whatever that is."""
    return repr(entry.get("id") if isinstance(entry, dict) else entry)[:40]


def _file_name(entry: Any) -> str:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ValueError(f"file_name is {name!r:.40}; expected a text")
    return name


def _pictures(path: Path) -> list[_Picture]:
    """All images of a list, by number."""
    found: dict[int, _Picture] = {}
    for _, entry in elements(path, "images"):
        try:
            picture = _Picture(
                number=_whole(entry, "id"),
                file=_file_name(entry),
                height=_whole(entry, "height", 1),
                width=_whole(entry, "width", 1),
            )
        except ValueError as error:
            raise InputError(f"{path}: image {_name(entry)}: {error}; mend the annotations") from None
        place = Path(picture.file)
        if place.is_absolute() or ".." in place.parts:
            raise InputError(
                f"{path}: image {picture.number} has the file name '{place}'; expected one inside its folder"
            )
        if picture.number in found:
            raise InputError(f"{path}: two images have the id {picture.number}; keep one")
        found[picture.number] = picture
    return [found[number] for number in sorted(found)]


class Coco:
    """A folder in COCO's layout; only one shard's annotations are in memory.

    Parameters
    ----------
    root
        The folder.
    lists
        Names of the training and the validation list, as ``train2014``.
    chosen
        Categories to be read, in label order; empty for all, by their number. Others count as background.
    shard, shards
        Every ``shards``-th image from number ``shard`` on is read.
    exclude
        Ids of images that are left out.
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
        self._paths = [root / "annotations" / f"instances_{name}.json" for name in lists]
        pictures = [_pictures(path) for path in self._paths]
        names = [[Path(picture.file).stem for picture in part] for part in pictures]
        self.entries = in_order(list(zip(map(str, self._paths), names, strict=True)), exclude)
        self._pictures = {
            name: picture
            for part, ids in zip(pictures, names, strict=True)
            for picture, name in zip(part, ids, strict=True)
        }
        wanted = [(entry.split, self._pictures[entry.name].number) for entry in self.entries[shard::shards]]
        known = [{picture.number for picture in part} for part in pictures]
        self._annotations: dict[tuple[int, int], list[dict[str, Any]]] = {key: [] for key in wanted}
        categories = [self._gather(split, known[split]) for split in range(len(lists))]
        if categories[0] != categories[1]:
            raise InputError(
                f"{self._paths[1]}: its categories differ from those of {self._paths[0].name}; make them one"
            )
        self._label = self._labels(categories[0], chosen)
        self.names = chosen or list(categories[0].values())
        self.hidden = 0

    def _gather(self, split: int, known: set[int]) -> dict[int, str]:
        """Keep the annotations of this shard's images; give the categories, by number."""
        path, strange = self._paths[split], Counter[int]()
        categories: dict[int, str] = {}
        for key, entry in elements(path, "annotations", "categories"):
            try:
                if key == "categories":
                    number = _whole(entry, "id", 1)
                    if number in categories:
                        raise ValueError(f"id is {number}, as another's; expected each once")
                    name = entry.get("name")
                    if not isinstance(name, str) or not name or name in categories.values():
                        raise ValueError(f"name is {name!r}; expected a text that no other has")
                    categories[number] = name
                    continue
                image = _whole(entry, "image_id")
            except ValueError as error:
                raise InputError(f"{path}: {key}, entry {_name(entry)}: {error}; mend the annotations") from None
            if (split, image) in self._annotations:
                self._annotations[split, image].append(entry)
            elif image not in known:
                strange[image] += 1
        if strange:
            raise InputError(
                f"{path}: {strange.total()} annotations are of images that are not listed (first: image "
                f"{min(strange)}); take them out, or add the images"
            )
        return dict(sorted(categories.items()))

    def _labels(self, categories: dict[int, str], chosen: list[str]) -> dict[int, int]:
        """Label of each category number."""
        names = list(categories.values())
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise InputError(
                f"images.classes names '{unknown[0]}', which {self._paths[0]} has not; {nearest(unknown[0], names)}"
            )
        labels = {name: label for label, name in enumerate(chosen or names, 1)}
        if not 0 < len(labels) < VOID:
            raise InputError(
                f"{self._paths[0]}: {len(labels)} categories; expected 1…{VOID - 1}; name those to be read in "
                "images.classes"
            )
        return {number: labels.get(name, 0) for number, name in categories.items()}

    def _instances(self, where: str, picture: _Picture, entries: list[dict[str, Any]]) -> Iterator[Instance]:
        """Objects of an image, by number, so that the order in the file does not matter."""
        seen: set[int] = set()
        try:
            ordered = sorted(entries, key=lambda entry: _whole(entry, "id"))
        except ValueError as error:
            raise InputError(f"{where}: an annotation: {error}; mend it") from None
        for entry in ordered:
            try:
                if entry["id"] in seen:
                    raise ValueError("shares its id with another")
                seen.add(entry["id"])
                category, crowd = _whole(entry, "category_id"), entry.get("iscrowd", 0)
                if category not in self._label:
                    raise ValueError(f"has category {category}, which is not listed")
                if crowd not in (0, 1):
                    raise ValueError(f"has iscrowd {crowd!r}; expected 0 or 1")
                rle = encode(entry.get("segmentation"), picture.height, picture.width)
            except ValueError as error:
                raise InputError(f"{where}: annotation {entry['id']}: {error}; mend it or take it out") from None
            if label := self._label[category]:
                yield Instance(VOID if crowd else label, rle)

    def read(self, entry: Entry) -> Pair:
        """Image and painted mask."""
        split, picture = entry.split, self._pictures[entry.name]
        where = f"{self._paths[split]}, image {picture.number}"
        file = read_picture(self._root / self._lists[split] / picture.file)
        file.must_be(picture.height, picture.width, where)  # before anything of that size is painted
        instances = list(self._instances(where, picture, self._annotations[split, picture.number]))
        labels, hidden = paint(instances, picture.height, picture.width)
        self.hidden += hidden
        return pair_from_labels(entry, file, labels, where, len(self.names))
