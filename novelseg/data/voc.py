"""Reader of the VOC layout: ``JPEGImages``, ``SegmentationClass`` (index PNG, 255 void), ``ImageSets/Segmentation``.

With SBD beside it, its masks stand in where VOC has none, and the field's two larger training lists are generated.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from novelseg.core.errors import InputError
from novelseg.data import sbd
from novelseg.data.pairs import Entry, Pair, in_order, pair_from_file, pair_from_labels, read_ids, read_picture

# Lists that are generated where SBD is given, and their sizes on the whole of VOC 2012 and SBD.
GENERATED = {"trainaug": 10_582, "voc_sbd_noval": 5_953}
WHOLE = (1_464, 1_449, 11_355)  # VOC's train and val, SBD


def read_list(root: Path, name: str, task: str = "Segmentation") -> list[str]:
    """Ids of a list, in its order.

    Raises
    ------
    InputError
        If there is no such list, or it holds more than ids.
    """
    path = _list_path(root, name, task)
    try:
        return read_ids(path)
    except FileNotFoundError:
        hint = "; set images.sbd to SBD's folder, from which it is generated" if name in GENERATED else ""
        raise InputError(f"{path}: no such list; expected the VOC layout under {root}{hint}") from None


def _list_path(root: Path, name: str, task: str = "Segmentation") -> Path:
    return root / "ImageSets" / task / f"{name}.txt"


def generated_list(root: Path, sbd_root: Path, name: str) -> list[str]:
    """``trainaug`` or ``voc_sbd_noval``, sorted.

    ``trainaug`` is all of VOC's train and of SBD without VOC's val. ``voc_sbd_noval`` is VOC's train and those of SBD
    that VOC's main task trains on: SBD's authors' own list ``train_noval`` (5,623 images; the 5,732 others of SBD are
    the ones that they test on).

    Raises
    ------
    InputError
        If a list is missing, or the whole data sets give another number of images than they should.
    """
    train, val, more = set(read_list(root, "train")), set(read_list(root, "val")), sbd.listed(sbd_root)
    found = train | ((more - val) if name == "trainaug" else (more & set(read_list(root, "train", "Main"))))
    if (len(train), len(val), len(more)) == WHOLE and len(found) != GENERATED[name]:
        raise InputError(
            f"{root}: the list {name} has {len(found)} images; expected {GENERATED[name]} of the whole of VOC 2012 and "
            "SBD; fetch both anew"
        )
    return sorted(found)


class Voc:
    """A folder in VOC layout, with SBD's masks or without.

    Parameters
    ----------
    root
        The folder.
    sbd_root
        SBD's, or None.
    lists
        Names of the training and the validation list.
    names
        Classes 1…C.
    exclude
        Ids of images that are left out.
    """

    def __init__(
        self,
        root: Path,
        sbd_root: Path | None,
        lists: tuple[str, str],
        names: list[str],
        exclude: Collection[str] = (),
    ) -> None:
        self._root, self.names = root, names
        self._sbd = sbd.home_of(sbd_root) if sbd_root else None
        found = []
        for name in lists:
            ids = generated_list(root, sbd_root, name) if sbd_root and name in GENERATED else read_list(root, name)
            found.append((str(_list_path(root, name)), ids))
        self.entries = in_order(found, exclude)

    def read(self, entry: Entry) -> Pair:
        """VOC's own mask where there is one, else SBD's."""
        picture = read_picture(self._root / "JPEGImages" / f"{entry.name}.jpg")
        mask = self._root / "SegmentationClass" / f"{entry.name}.png"
        if self._sbd and not mask.exists():
            where = self._sbd / "cls" / f"{entry.name}.mat"
            return pair_from_labels(entry, picture, sbd.read_mask(where), str(where), len(self.names))
        return pair_from_file(entry, picture, mask, len(self.names))
