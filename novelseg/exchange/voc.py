"""Index PNGs in VOC's layout, which the pipeline reads itself, and the same as CVAT's zip "Segmentation mask 1.1".

``SegmentationClass/ID.png`` has the number of the class of each pixel and ``SegmentationObject/ID.png`` that of the
object, both in VOC's colours; an id is the name of a picture without its ending. ``labelmap.txt`` names the classes and
their colours. Where objects overlap, the smaller one is in front. Scores are left out.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.classes import voc_palette
from novelseg.data.pictures import Picture, decode, index_numbers
from novelseg.data.rawfiles import MOST_BYTES, read_bytes, read_text
from novelseg.exchange.record import Instance, LabelledPicture, check_size, instance_of, paint
from novelseg.exchange.sources import REMEDY, check_classes, picture_of_stem

LIST, ZIP = "ImageSets/Segmentation", "annotations.zip"
CLASSES, OBJECTS, LABELMAP = "SegmentationClass", "SegmentationObject", "labelmap.txt"
BACKGROUND = "background"
VOC_VOID = (224, 224, 192)  # the colour of number 255
DATE = (1980, 1, 1, 0, 0, 0)  # of the files in a zip, so that equal masks give equal bytes
DAMAGED_ZIP = (zipfile.BadZipFile, ValueError, EOFError, RuntimeError, OSError, LookupError, struct.error, zlib.error)
EXPECTED_ZIP = "CVAT's zip 'Segmentation mask 1.1', with labelmap.txt and SegmentationClass"


def write(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write masks in VOC's layout, and the list ``train`` of all pictures.

    The pipeline also needs the pictures in ``JPEGImages`` and a list ``val``, which the user takes from ``train``.

    Parameters
    ----------
    folder
        An existing folder.
    classes
        Names of the classes 1 … K.
    pictures
        The pictures; one is in memory at a time.
    """
    for name in (CLASSES, OBJECTS, LIST):
        (folder / name).mkdir(parents=True)
    (folder / LABELMAP).write_text(_labelmap(classes), encoding="utf8")
    with (folder / LIST / "train.txt").open("w", encoding="utf8") as file:
        for picture in pictures:
            for name, data in _masks(picture):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            file.write(f"{picture.stem}\n")


def write_zip(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write ``annotations.zip`` for CVAT; see :func:`write`."""
    stems = []
    with zipfile.ZipFile(folder / ZIP, "w") as archive:
        archive.writestr(_member(LABELMAP), _labelmap(classes))
        for picture in pictures:
            for name, data in _masks(picture):
                archive.writestr(_member(name), data)
            stems.append(f"{picture.stem}\n")
        archive.writestr(_member(f"{LIST}/default.txt"), "".join(stems))


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, DATE)


def _labelmap(classes: Sequence[str]) -> str:
    palette = voc_palette()
    lines = ["# label:color_rgb:parts:actions"]
    for number, name in enumerate([BACKGROUND, *classes]):
        if ":" in name or name.startswith("#") or (number and name == BACKGROUND):
            raise InputError(f"the class '{name}' cannot stand in {LABELMAP}, which uses the word or sign; rename it")
        lines.append(f"{name}:{','.join(map(str, palette[3 * number : 3 * number + 3]))}::")
    return "\n".join(lines) + "\n"


def _masks(picture: LabelledPicture) -> Iterator[tuple[str, bytes]]:
    """Yield the names and the content of the masks of classes and of objects."""
    yield f"{CLASSES}/{picture.stem}.png", _png(paint(picture))
    numbers, count = [], 0
    for instance in picture.instances:
        count += instance.label != VOID
        count += count == VOID  # which is not an object
        numbers.append(VOID if instance.label == VOID else count)
    yield f"{OBJECTS}/{picture.stem}.png", _png(paint(picture, numbers))


def _png(numbers: NDArray[np.int32]) -> bytes:
    """Return a PNG of numbers in VOC's colours: with a palette up to 255, and in RGB beyond."""
    buffer = io.BytesIO()
    if numbers.max() <= VOID:
        image = Image.fromarray(numbers.astype(np.uint8))
        image.putpalette(voc_palette())
    else:
        image = Image.fromarray(_colours(numbers))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _colours(numbers: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return VOC's colours of numbers, (H, W, 3), also of those above 255."""
    colours = np.zeros((*numbers.shape, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[..., channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def _numbers(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the numbers of VOC's colours, (H, W)."""
    numbers = np.zeros(colours.shape[:2], np.int32)
    for bit in range(8):
        for channel in range(3):
            numbers |= ((colours[..., channel].astype(np.int32) >> (7 - bit)) & 1) << (3 * bit + channel)
    return numbers


def read(path: Path, images: Path | None = None) -> tuple[list[str], Iterator[LabelledPicture]]:
    """Read a folder in VOC's layout that has ``labelmap.txt``; the list ``train`` names the pictures.

    Raises
    ------
    InputError
        If a file cannot be used; the message names it.
    """
    expected = f"VOC's layout with {LABELMAP}, {CLASSES} and {LIST}/train.txt"
    try:
        palette = _palette(read_text(path / LABELMAP, expected), str(path / LABELMAP))
        ids = read_text(path / LIST / "train.txt", expected).split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; expected {expected}") from None

    def member(name: str) -> bytes | None:
        try:
            return read_bytes(path / name, REMEDY)
        except FileNotFoundError:
            return None

    pictures = (_picture(stem, member, palette, path / LABELMAP, images) for stem in ids if stem)
    return list(palette.values()), pictures


def read_zip(path: Path, images: Path | None = None) -> tuple[list[str], Iterator[LabelledPicture]]:
    """Read a zip of CVAT; pictures are beside it, or in ``images``.

    Raises
    ------
    InputError
        If it is no such file, or a part cannot be used; the message names it.
    """
    try:
        data = read_bytes(path, REMEDY)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {EXPECTED_ZIP}") from None
    names = _zip_names(data, path)

    def member(name: str) -> bytes | None:
        return _zip_member(data, name, path) if name in names else None

    labelmap = member(LABELMAP)
    if labelmap is None:
        raise InputError(f"{path}: {LABELMAP} is missing; expected {EXPECTED_ZIP}")
    try:
        text = labelmap.decode("utf8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: {LABELMAP} is not in UTF-8; expected {EXPECTED_ZIP}") from None
    palette = _palette(text, f"{path}: {LABELMAP}")
    start = f"{CLASSES}/"
    stems = sorted(name[len(start) : -4] for name in names if name.startswith(start) and name.endswith(".png"))
    return list(palette.values()), (_picture(stem, member, palette, path, images) for stem in stems)


def _zip_names(data: bytes, path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return set(archive.namelist())
    except DAMAGED_ZIP as error:
        raise InputError(f"{path}: not a zip file ({error!s:.200}); expected {EXPECTED_ZIP}") from None


def _zip_member(data: bytes, name: str, path: Path) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(name) as file:
            content = file.read(MOST_BYTES + 1)
    except DAMAGED_ZIP as error:
        raise InputError(f"{path}: {name:.100} is damaged ({error!s:.200}); fetch the zip again") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}: {name} is larger than {MOST_BYTES / 1e6:.0f} MB; {REMEDY}")
    return content


def _palette(text: str, where: str) -> dict[tuple[int, ...], str]:
    """Return the names of the classes by their colours, in the order of the lines, without the background."""
    palette: dict[tuple[int, ...], str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        values = rest.split(":")[0].split(",")
        if len(values) != 3 or not all(value.strip().isdecimal() and int(value) < 256 for value in values):
            raise InputError(f"{where}: line {number} has no colour of three numbers up to 255; expected NAME:R,G,B::")
        if not name.isprintable() or not name:
            raise InputError(f"{where}: line {number} has no printable name; expected NAME:R,G,B::")
        colour = tuple(int(value) for value in values)
        if colour in palette:
            raise InputError(f"{where}: line {number} repeats a colour; give each class its own")
        if name != BACKGROUND:
            palette[colour] = name
    check_classes(list(palette.values()), where)
    return palette


def _picture(
    stem: str,
    member: Callable[[str], bytes | None],
    palette: dict[tuple[int, ...], str],
    file: Path,
    images: Path | None,
) -> LabelledPicture:
    name = f"{CLASSES}/{stem}.png"
    where = f"{file}: {name:.150}"
    data = member(name)
    if data is None:
        raise InputError(f"{where} is missing; add it, or remove the picture from the list")
    colours = _rgb(decode(data, where, REMEDY))
    height, width = colours.shape[:2]
    check_size(width, height, where)
    labels = np.zeros((height, width), np.uint8)
    known = (colours == 0).all(2)
    void = (colours == VOC_VOID).all(2)
    labels[void] = VOID
    for label, colour in enumerate(palette, 1):
        own = (colours == np.array(colour)).all(2)
        labels[own] = label
        known |= own
    unknown = ~(known | void)
    if unknown.any():
        shown = ", ".join(map(str, colours[unknown][0].tolist()))
        raise InputError(f"{where}: has the colour {shown}, which {LABELMAP} does not name; add it there")
    objects = member(f"{OBJECTS}/{stem}.png")
    numbers = None if objects is None else _numbers(_rgb(decode(objects, f"{file}: {OBJECTS}/{stem:.100}.png", REMEDY)))
    if numbers is not None and numbers.shape != labels.shape:
        raise InputError(f"{file}: the masks of {stem:.100} in {CLASSES} and {OBJECTS} differ in size; make them equal")
    path = picture_of_stem(stem, file, images, where)
    return LabelledPicture(f"{stem}{path.suffix}", width, height, _instances(labels, numbers), path=path)


def _instances(labels: NDArray[np.uint8], numbers: NDArray[np.int32] | None) -> list[Instance]:
    """Return the instances of a mask of classes, divided by the numbers of objects if there are any."""
    keys = labels.astype(np.int64) << 24 | (0 if numbers is None else np.where(labels == VOID, 0, numbers))
    instances = [instance_of(keys == key, int(key) >> 24) for key in np.unique(keys[labels > 0]).tolist()]
    return [instance for instance in instances if instance]


def _rgb(picture: Picture) -> NDArray[np.uint8]:
    """Return the colours of a mask, (H, W, 3); grey values without a palette are numbers of VOC's colours."""
    if picture.image.mode in ("1", "L"):
        return _colours(index_numbers(picture).astype(np.int32))
    return np.array(picture.image.convert("RGB"))
