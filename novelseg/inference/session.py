"""What the local page asks of the server: regions, fits, findings and files in the formats of annotation tools.

The masks are kept by the page, so that the server may be restarted between two requests. Pictures stay in memory;
exports and annotations pass through a temporary folder, which contains masks alone.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from werkzeug.datastructures import FileStorage

from novelseg.core.errors import InputError
from novelseg.core.extras import needs_extras
from novelseg.core.labels import VOID
from novelseg.data.pictures import decode
from novelseg.exchange.record import LabelledPicture, check_size, class_instances, index_mask
from novelseg.exchange.registry import check_formats, check_names, export
from novelseg.exchange.voc import DATE
from novelseg.inference.exchanged import read_chosen
from novelseg.inference.findings import Finding
from novelseg.inference.folders import check_query_name
from novelseg.inference.inputs import check_sizes, class_count, resize, resize_pair
from novelseg.inference.instances import instances_of, separate_objects
from novelseg.inference.photos import REMEDY, class_mask_of, mask_of, photo_of
from novelseg.inference.results import mask_picture, result_names
from novelseg.inference.segmenter import Segmenter

MOST_PIXELS = 51_000_000  # of a picture: the largest full-frame cameras have 50 million
MAP_PX = 480  # longest side of the logits that the page gets, for other thresholds
MAP_STEP = 16  # steps per unit of a logit; a byte holds those from -8 to 8
VIEW_PX = 2000  # longest side of the copy of a picture that a browser cannot show
MASKS = "masks"  # name of the masks as `novelseg segment` writes them, beside the formats

T = TypeVar("T")


@dataclass(frozen=True)
class ExportPicture:
    """A picture whose mask the page asks to export.

    Attributes
    ----------
    name
        Name of its file.
    scores
        Scores of the classes 1 … K or, if there are labels, of the objects 1 … N; None if unknown.
    certainty
        Certainty of the mask; None if unknown.
    labels
        Classes of the objects 1 … N, if the mask has the numbers of objects; else None.
    """

    name: str
    scores: list[float | None]
    certainty: float | None
    labels: list[int] | None


@dataclass(frozen=True)
class ExportRequest:
    """Request of the page for an export.

    Attributes
    ----------
    formats
        Names of formats, or ``masks``.
    classes
        Names of the classes 1 … K.
    pictures
        The pictures, in the order of their masks.
    """

    formats: list[str]
    classes: list[str]
    pictures: list[ExportPicture]


class Session:
    """State behind the page: one segmenter, and the number of its present fit.

    All pictures are decoded and segmented by one thread, so that only one is in memory, and memory that the allocator
    keeps for a thread is kept once.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter, self._worker = segmenter, ThreadPoolExecutor(1, "pictures")
        self.round = 0

    def open(self, picture: FileStorage, *, view: bool, regions: bool) -> dict[str, Any]:
        """Return the size of a picture and, on request, a copy that every browser shows, and its region hierarchy.

        Raises
        ------
        InputError
            If the picture cannot be used.
        """
        return self._run(lambda: self._open(picture, view, regions))

    def fit(self, images: Sequence[FileStorage], masks: Sequence[FileStorage], classes: list[str]) -> int:
        """Fit the segmenter and return the number of this round, which requests to segment must carry.

        Raises
        ------
        InputError
            If a picture or mask cannot be used, or the segmenter refuses them.
        """
        return self._run(lambda: self._fit(images, masks, classes))

    def read_mask(self, mask: FileStorage, classes: int) -> dict[str, Any]:
        """Read a mask file as the command does, of one object or, with ``classes`` above 0, of their numbers.

        Raises
        ------
        InputError
            If the mask cannot be used.
        """
        return self._run(lambda: self._read_mask(mask, classes))

    def read_labels(self, files: Sequence[FileStorage], sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
        """Read the annotations of a tool as the command does, and return the masks of its pictures.

        Parameters
        ----------
        files
            The files, as :func:`novelseg.inference.exchanged.read_chosen` takes them.
        sizes
            Width and height of the pictures that the page has, by their names.

        Raises
        ------
        InputError
            If a file cannot be used, or names a picture that the page does not have.
        """
        return self._run(lambda: _read_labels(files, sizes))

    def segment(self, picture: FileStorage, number: int) -> dict[str, Any]:
        """Segment a picture and return its mask, its logits at a bounded size, presence and expected IoU.

        Raises
        ------
        InputError
            If the picture cannot be used, or the segmenter has been fitted again in the meantime.
        """
        return self._run(lambda: self._segment(picture, number))

    def objects(self, picture: FileStorage, mask: FileStorage, classes: int, *, exact: bool) -> dict[str, Any]:
        """Separate the objects of a picture's mask, which has the numbers of classes; of an exact one, keep all parts.

        Raises
        ------
        InputError
            If picture or mask cannot be used.
        """
        return self._run(lambda: self._objects(picture, mask, classes, exact))

    def export(self, request: ExportRequest, masks: Sequence[FileStorage]) -> tuple[str, bytes]:
        """Return the name and the content of a file with masks in the formats of annotation tools.

        Raises
        ------
        InputError
            If a format is unknown, or cannot hold the names; or a mask cannot be used.
        """
        return self._run(lambda: _exported(request, masks))

    def _run(self, work: Callable[[], T]) -> T:
        return self._worker.submit(work).result()

    def _open(self, file: FileStorage, view: bool, regions: bool) -> dict[str, Any]:
        name = Path(file.filename or "picture")
        image = photo_of(file.read(), name, MOST_PIXELS)
        height, width = image.shape[:2]
        answer: dict[str, Any] = {"width": width, "height": height}
        if view:
            answer["view"] = _jpeg(resize(image, VIEW_PX))
        if regions:
            with needs_extras("the region brush"):
                from novelseg.regions.learned import build_hierarchy
            tree = build_hierarchy(image)
            rows, columns = tree.basins.shape
            arrays: dict[str, NDArray[Any]] = {"basins": tree.basins, "parents": tree.parents, "heights": tree.heights}
            answer["regions"] = {"width": columns, "height": rows, **{name: _packed(a) for name, a in arrays.items()}}
        return answer

    def _fit(self, images: Sequence[FileStorage], masks: Sequence[FileStorage], classes: list[str]) -> int:
        count = class_count(classes)
        pairs = []
        for image, mask in zip(images, masks, strict=True):
            name = Path(image.filename or "picture")
            photo = photo_of(image.read(), name, MOST_PIXELS)
            labels = class_mask_of(mask.read(), name, count, MOST_PIXELS)
            pairs.append(resize_pair(photo, labels, self._segmenter.side, str(name)))  # an error names the picture
        self._segmenter.fit([image for image, _ in pairs], [mask for _, mask in pairs], classes)
        self.round += 1
        return self.round

    def _read_mask(self, file: FileStorage, classes: int) -> dict[str, Any]:
        data, name = file.read(), Path(file.filename or "mask")
        if classes:
            mask, note = class_mask_of(data, name, classes, MOST_PIXELS), ""
        else:
            mask, note = mask_of(data, name, most_pixels=MOST_PIXELS)
        return {"width": mask.shape[1], "height": mask.shape[0], "labels": _packed(mask), "note": note}

    def _objects(self, picture: FileStorage, file: FileStorage, classes: int, exact: bool) -> dict[str, Any]:
        name = Path(picture.filename or "picture")
        mask = class_mask_of(file.read(), name, classes, MOST_PIXELS)
        image = photo_of(picture.read(), name, MOST_PIXELS)
        check_sizes(image, mask, str(name))
        found = separate_objects(image, mask, exact=exact)
        return {"numbers": _packed(found.numbers.astype(np.uint16)), "labels": found.labels, "dropped": found.dropped}

    def _segment(self, picture: FileStorage, number: int) -> dict[str, Any]:
        name = Path(picture.filename or "picture")
        image = photo_of(picture.read(), name, MOST_PIXELS)
        if not self.round or number != self.round:
            raise InputError(f"{name}: the server no longer has its supports; press Segment again")
        finding = next(self._segmenter.findings([image]))
        height, width = finding.mask.shape
        return {
            **{"width": width, "height": height, "labels": _packed(finding.mask), "map": _logit_map(finding)},
            "threshold": self._segmenter.threshold,
            "least_presence": self._segmenter.presence,
            "presence": None if finding.presence is None else _rounded(finding.presence),
            "expected_iou": _rounded(finding.expected_iou),
        }


def _logit_map(finding: Finding) -> dict[str, Any]:
    """Return the logits of the classes at a bounded size, as bytes."""
    logits = torch.from_numpy(finding.logits)
    logits = logits[None] if logits.ndim == 2 else logits  # (K, H, W)
    height, width = logits.shape[1:]
    scale = min(1.0, MAP_PX / max(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    small = torch.cat([F.interpolate(one[None, None], size, mode="area") for one in logits])[:, 0]
    steps = (small * MAP_STEP).round().clamp(-127, 127).to(torch.int8).numpy()
    slope, offset = finding.calibration
    return {
        **{"width": size[1], "height": size[0], "step": MAP_STEP, "logits": _packed(steps)},
        **{"slope": slope, "offset": offset},
    }


def export_request(text: str) -> ExportRequest:
    """Parse the page's request for an export.

    Raises
    ------
    InputError
        If it is not an object with formats, classes, and pictures with name, scores and certainty; or a name cannot be
        that of a file.
    """
    try:
        content = json.loads(text)
        formats, classes = ([str(name) for name in content[key]] for key in ("formats", "classes"))
        pictures = [
            ExportPicture(
                str(one["name"]),
                [_score(score) for score in one["scores"]],
                _score(one["certainty"]),
                None if one.get("labels") is None else [int(label) for label in one["labels"]],
            )
            for one in content["pictures"]
        ]
    except (AttributeError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        expected = "an object with formats, classes, and pictures with name, scores and certainty"
        raise InputError(f"the request is not readable; expected {expected}") from None
    names = [one.name for one in pictures]
    for name in names:
        _check_file_name(name)
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"{doubled}: two pictures have this name; rename one")
    return ExportRequest(formats, classes, pictures)


def _check_file_name(name: str) -> None:
    """Refuse a name that cannot be that of a file in a folder."""
    check_query_name(Path(name))
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise InputError(f"{name!a}: not the name of a file; rename the picture")


def picture_sizes(text: str) -> dict[str, tuple[int, int]]:
    """Read the names and sizes of the pictures that the page has.

    Raises
    ------
    InputError
        If it is not a list of objects with name, width and height; or a name or size cannot be that of a picture.
    """
    try:
        entries = [(str(one["name"]), one["width"], one["height"]) for one in json.loads(text)]
    except (ValueError, TypeError, LookupError, RecursionError):
        raise InputError(
            "the request is not readable; expected a list of pictures with name, width and height"
        ) from None
    for name, _, _ in entries:
        _check_file_name(name)
    return {name: check_size(width, height, name) for name, width, height in entries}


def _score(value: Any) -> float | None:
    if value is None:
        return None
    score = float(value)
    if not 0 <= score <= 1:
        raise ValueError(f"{score} is not a score")
    return score


def _read_labels(files: Sequence[FileStorage], sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    contents: dict[str, bytes] = {}
    for file in files:
        name = file.filename or ""
        _check_file_name(name)
        if name in contents:
            raise InputError(f"{name}: two files have this name; rename one")
        contents[name] = file.read()
    if not contents:
        raise InputError("received no annotations; choose a file")
    classes: list[str] = []
    shown: set[int] = set()
    pictures = []
    for names, name, mask in read_chosen(contents, sizes):
        classes, shown = names, shown | set(np.unique(mask).tolist())
        pictures.append({"name": name, "labels": _packed(mask)})
    numbers = sorted(shown - {0, VOID})
    return {"classes": [classes[number - 1] for number in numbers], "numbers": numbers, "pictures": pictures}


def _exported(request: ExportRequest, masks: Sequence[FileStorage]) -> tuple[str, bytes]:
    formats = check_formats([name for name in request.formats if name != MASKS])
    names = [one.name for one in request.pictures]
    if not request.formats or not names or len(masks) != len(names):
        raise InputError(
            f"{len(names)} pictures, {len(masks)} masks; expected the same number of both, and at least one format"
        )
    count = class_count(request.classes)
    check_names(names, formats)
    contents = [mask.read() for mask in masks]

    def pictures() -> Iterator[LabelledPicture]:
        for one, data in zip(request.pictures, contents, strict=True):
            yield _labelled(one, data, count)

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in formats:
            export(name, root / name, request.classes, pictures())
        if MASKS in request.formats:
            (root / MASKS).mkdir()
            own = result_names(names)
            for picture in pictures():
                mask_picture(index_mask(picture), count > 1).save(root / MASKS / f"{own[picture.name]}.png", "PNG")
        return _one_file(root)


def _labelled(picture: ExportPicture, data: bytes, classes: int) -> LabelledPicture:
    """Return a picture with the instances of its mask: objects, or one per class."""
    name = Path(picture.name)
    if picture.labels is None:
        mask = class_mask_of(data, name, classes, MOST_PIXELS)
        instances = class_instances(mask, picture.scores)
    else:
        mask = np.array(decode(data, picture.name, REMEDY, MOST_PIXELS).image)
        labels = picture.labels
        known = all(1 <= label <= classes for label in labels) and len(picture.scores) == len(labels)
        if mask.ndim != 2 or not known or int(mask.max()) > len(labels):
            raise InputError(
                f"{picture.name}: its mask does not contain the objects that the request lists; export again"
            )
        instances = list(instances_of(mask, labels, picture.scores))
    return LabelledPicture(picture.name, mask.shape[1], mask.shape[0], instances, picture.certainty)


def _one_file(root: Path) -> tuple[str, bytes]:
    """Return the only file below a folder, or all of them in an archive."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if len(files) == 1 and files[0].parent.name != MASKS:
        return files[0].name, files[0].read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.writestr(zipfile.ZipInfo(path.relative_to(root).as_posix(), DATE), path.read_bytes())
    folders = sorted({path.relative_to(root).parts[0] for path in files})
    return f"{folders[0] if len(folders) == 1 else 'annotations'}.zip", buffer.getvalue()


def _packed(array: NDArray[Any]) -> str:
    """Return the bytes of an array, compressed, in base64."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(zlib.compress(np.ascontiguousarray(little).data, 1)).decode("ascii")


def _rounded(values: NDArray[np.float32]) -> list[float]:
    return [round(float(value), 6) for value in values]


def _jpeg(image: NDArray[np.uint8]) -> str:
    """Return a picture as the address of a JPEG that contains it."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
