"""Reader of the VOC layout: ``JPEGImages``, ``SegmentationClass`` (index PNG, 255 void), ``ImageSets/Segmentation``.

If SBD is given, images without a mask in VOC get that of SBD, and the two usual larger training lists are generated.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from novelseg.core.errors import InputError, nearest
from novelseg.data import sbd
from novelseg.data.pairs import Entry, Pair, make_entries, pair_from_file, pair_from_labels, read_ids, read_image

# Lists that are generated if SBD is given, with their sizes for the complete VOC 2012 and SBD.
GENERATED = {"trainaug": 10_582, "voc_sbd_noval": 5_953}
COMPLETE = (1_464, 1_449, 11_355)  # sizes of VOC's train and val, and of SBD


def read_list(root: Path, name: str, task: str = "Segmentation") -> list[str]:
    """Read the ids of a list, in its order.

    Raises
    ------
    InputError
        If the list does not exist or cannot be read, or a line is not a single id.
    """
    try:
        return read_ids(_list_path(root, name, task))
    except FileNotFoundError:
        raise _no_list(root, name, task) from None


def require_list(root: Path, sbd_root: Path | None, name: str) -> None:
    """Refuse a list that neither exists nor is generated, without reading any.

    Raises
    ------
    InputError
        If there is no such list; the message suggests the most similar name.
    """
    if not (sbd_root and name in GENERATED) and not _list_path(root, name).exists():
        raise _no_list(root, name)


def _no_list(root: Path, name: str, task: str = "Segmentation") -> InputError:
    path = _list_path(root, name, task)
    known = sorted(file.stem for file in path.parent.glob("*.txt"))
    hint = f"; {nearest(name, known)}" if known else ""
    if name in GENERATED:
        hint = "; set images.sbd to SBD's folder, from which it is generated"
    return InputError(f"{path}: no such list; expected the VOC layout under {root}{hint}")


def _list_path(root: Path, name: str, task: str = "Segmentation") -> Path:
    return root / "ImageSets" / task / f"{name}.txt"


def generated_list(root: Path, sbd_root: Path, name: str) -> list[str]:
    """Generate the list ``trainaug`` or ``voc_sbd_noval``, sorted.

    ``trainaug`` contains VOC's train and SBD, without VOC's val. ``voc_sbd_noval`` contains VOC's train and those
    images of SBD that VOC's main task trains on, which are the list ``train_noval`` of SBD's authors (5,623 images;
    they test on the other 5,732).

    Raises
    ------
    InputError
        If a list is missing, or the complete data sets give an unexpected number of images.
    """
    train, val, more = set(read_list(root, "train")), set(read_list(root, "val")), sbd.listed_ids(sbd_root)
    ids = train | ((more - val) if name == "trainaug" else (more & set(read_list(root, "train", "Main"))))
    if (len(train), len(val), len(more)) == COMPLETE and len(ids) != GENERATED[name]:
        raise InputError(
            f"{root}: the list {name} has {len(ids)} images; expected {GENERATED[name]} for the complete VOC 2012 and "
            "SBD; fetch both again"
        )
    return sorted(ids)


class Voc:
    """Reader of a folder in VOC layout, with or without SBD.

    Parameters
    ----------
    root
        The folder.
    sbd_root
        Folder of SBD, or None.
    lists
        Names of the training and the validation list.
    names
        Names of the classes 1…C.
    exclude
        Ids of images to leave out.
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
        listings = []
        for name in lists:
            ids = generated_list(root, sbd_root, name) if sbd_root and name in GENERATED else read_list(root, name)
            listings.append((str(_list_path(root, name)), ids))
        self.entries = make_entries(listings, exclude)

    def read(self, entry: Entry) -> Pair:
        """Read an image with VOC's mask if there is one, else with SBD's."""
        image = read_image(self._root / "JPEGImages" / f"{entry.name}.jpg")
        mask = self._root / "SegmentationClass" / f"{entry.name}.png"
        if self._sbd and not mask.exists():
            where = self._sbd / "cls" / f"{entry.name}.mat"
            return pair_from_labels(entry, image, sbd.read_mask(where), str(where), len(self.names))
        return pair_from_file(entry, image, mask, len(self.names))
