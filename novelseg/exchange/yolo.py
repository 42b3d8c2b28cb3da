"""YOLO's segmentation labels: ``labels/NAME.txt``, a line per connected part, and ``data.yaml``.

A line has the number of the class, from 0, and a polygon in shares of the picture's width and height. Holes are joined
to the outline (`novelseg.exchange.outline`). The parts of one object become objects of their own; scores are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from novelseg.core.errors import InputError
from novelseg.core.labels import VOID
from novelseg.data.rawfiles import read_text
from novelseg.exchange.outline import fill, outlines
from novelseg.exchange.record import Instance, LabelledPicture, check_size, instance_of
from novelseg.exchange.sources import check_classes, faults_of, picture_of_stem, points_of, upright_size

LABELS, DATA = "labels", "data.yaml"
EXPECTED = "data.yaml of a YOLO data set, with names"
ENTRY = re.compile(r"\s*(?:-|\d+\s*:)\s*(.*)")  # of a list or a mapping


def write(folder: Path, classes: Sequence[str], pictures: Iterable[LabelledPicture]) -> None:
    """Write one file of labels per picture, and ``data.yaml``; one picture is in memory at a time.

    Parameters
    ----------
    folder
        An existing folder. Trainings expect the pictures in ``images`` there.
    classes
        Names of the classes 1 … K, which become 0 … K−1.
    pictures
        The pictures.
    """
    names = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(classes))
    (folder / DATA).write_text(f"train: images\nval: images\nnames:\n{names}", encoding="utf8")
    (folder / LABELS).mkdir()
    for picture in pictures:
        path = folder / LABELS / f"{picture.stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf8") as file:
            for instance in picture.instances:
                for polygon in outlines(instance.mask, instance.left, instance.top) if instance.label != VOID else ():
                    shares = (polygon / (picture.width, picture.height)).reshape(-1)
                    file.write(f"{instance.label - 1} " + " ".join(f"{share:.7f}" for share in shares) + "\n")


def read(path: Path, images: Path | None = None) -> tuple[list[str], Iterator[LabelledPicture]]:
    """Read ``data.yaml`` with the files in ``labels`` beside it; pictures are in ``images``, or as given.

    Raises
    ------
    InputError
        If a file cannot be used; the message names it.
    """
    classes = _names(path)
    folder = path.parent / LABELS
    files = sorted(folder.rglob("*.txt")) if folder.is_dir() else []
    if not files:
        raise InputError(f"{folder}: contains no .txt file; expected the labels of {path.name}")
    return classes, (_picture(file, folder, path, images, len(classes)) for file in files)


def _names(path: Path) -> list[str]:
    """Return the names of the classes, from a list or a mapping in one line or several."""
    try:
        text = read_text(path, EXPECTED)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {EXPECTED}") from None
    match = re.search(r"^names\s*:[ \t]*(.*)\n?((?:[ \t]*(?:-|\d+\s*:).*(?:\n|$))*)", text, re.MULTILINE)
    if not match:
        raise InputError(f"{path}: the key 'names' is missing; expected {EXPECTED}")
    if inline := match[1].split("#")[0].strip():
        entries = [entry.strip() for entry in inline.strip("[]{}").split(",")]
        entries = [re.sub(r"^\d+\s*:\s*", "", entry) for entry in entries]
    else:
        entries = [entry[1] for line in match[2].splitlines() if (entry := ENTRY.match(line))]
    names = [_unquoted(entry) for entry in entries]
    if not all(name and name.isprintable() for name in names):
        raise InputError(f"{path}: a name of a class is empty or cannot be printed; expected {EXPECTED}")
    return check_classes(names, str(path))


def _unquoted(text: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            return text.strip('"')
        return value if isinstance(value, str) else text
    return text.strip("'")


def _picture(file: Path, folder: Path, data: Path, images: Path | None, classes: int) -> LabelledPicture:
    stem = PurePosixPath(file.relative_to(folder).with_suffix("").as_posix()).as_posix()
    path = picture_of_stem(stem, data, images, str(file))
    width, height = check_size(*upright_size(path), str(path))
    instances: list[Instance] = []
    lines = read_text(file, "a class and a polygon per line").split("\n")
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        with faults_of(f"{file}: line {number}"):
            label, shares = words[0], [_share(word) for word in words[1:]]
            if not label.isdecimal() or int(label) >= classes:
                raise ValueError(f"its class is {label:.20}; expected a number from 0 to {classes - 1}")
            if len(shares) % 2 or len(shares) < 6:
                raise ValueError(f"it has {len(shares)} coordinates; expected three pairs or more")
            points = [[x * width, y * height] for x, y in zip(shares[::2], shares[1::2], strict=True)]
            instance = instance_of(fill(points_of(points, width, height), width, height), int(label) + 1)
            instances += [instance] if instance else []
    return LabelledPicture(f"{stem}{path.suffix}", width, height, instances, path=path)


def _share(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"it contains {word!r:.20}; expected numbers") from None
