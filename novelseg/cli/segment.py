"""Segment pictures, given a few pictures with masks of what to look for.

Reads
    a bundle of ``novelseg export``, or pretrained weights; supports, which are ``images/NAME.*`` with ``masks/NAME.*``;
    one picture to segment, or a folder of them.
Writes
    a folder with ``masks/`` (PNG: 255 is the object, or the numbers of several classes), ``overlays/``, ``results.tsv``
    (areas and confidences) and ``settings.json``, and a folder for each ``--format``. Another run into this folder
    continues after an interruption, or adds new pictures. A file that cannot be used is named at the end and does
    not stop the others.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from novelseg.cli.options import (
    Bundle,
    Device,
    Edges,
    Largest,
    MinArea,
    Precision,
    Presence,
    Side,
    Stem,
    Threads,
    Threshold,
    Tile,
    Variant,
    Weights,
)
from novelseg.core.compute import use_threads
from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.core.options import Help
from novelseg.core.progress import say, track
from novelseg.exchange.registry import FORMATS, check_formats, check_names, export
from novelseg.inference.exchanged import OBJECT, is_exchanged, labelled_results, read_labelled
from novelseg.inference.folders import (
    IMAGES,
    MASKS,
    Support,
    class_folders,
    pictures_in,
    read_class_folders,
    read_query,
    read_supports,
)
from novelseg.inference.inputs import class_count
from novelseg.inference.instances import require_regions
from novelseg.inference.opening import open_segmenter
from novelseg.inference.photos import photo_of
from novelseg.inference.results import Query, Results, result_names
from novelseg.inference.segmenter import PRESENT, SIDE_PX
from novelseg.methods.variants import CLOSED_FORM

MASKS_VERSION = 1  # raised when the same pictures and settings get other masks, so that no folder has both
MOST_UNLABELLED = 64  # pictures that --adapt looks at


def run(
    *,
    query: Annotated[Path, Help("picture to segment, or folder of pictures")],
    out: Annotated[Path, Help("folder for the masks: new, empty, or of an earlier run")],
    support: Annotated[
        Path | None,
        Help(
            "folder with pictures of what to look for, images/NAME.*, and masks, masks/NAME.*; for several classes, a "
            "folder CLASS for each, with images and masks; or a file of COCO, labelme, Label Studio, CVAT or YOLO with "
            "the pictures beside it; not with a bundle that --save has written"
        ),
    ] = None,
    save: Annotated[
        Path | None, Help("file for the fitted segmenter, which is a --bundle that needs no --support")
    ] = None,
    bundle: Bundle = None,
    weights: Weights = "",
    stem: Stem = "",
    classes: Annotated[
        str,
        Help(
            "names of the classes 1, 2, … of masks that hold several, separated by commas; 0 is the background; of a "
            "file with names, those to look for"
        ),
    ] = "",
    label: Annotated[int, Help("number of the object to segment in masks of several; 0: masks show one object")] = 0,
    adapt: Annotated[
        Path | None,
        Help(
            "folder of pictures without masks, which may be that of --query: presence is judged by comparison with up "
            f"to {MOST_UNLABELLED} of them; each class has to be in some and missing in others"
        ),
    ] = None,
    variant: Variant = CLOSED_FORM,
    edges: Edges = True,
    threshold: Threshold = 0.5,
    presence: Presence = PRESENT,
    min_area: MinArea = 0,
    largest: Largest = False,
    side: Side = SIDE_PX,
    tile: Tile = False,
    precision: Precision = "",
    device: Device = "auto",
    format: Annotated[  # noqa: A002
        str, Help(f"further formats of the results, separated by commas: {', '.join(FORMATS)}")
    ] = "",
    instances: Annotated[
        bool,
        Help(
            "also write separate objects, in instances/ and all formats: connected parts, split along contours where "
            "objects touch; needs the extra [regions]"
        ),
    ] = False,
    threads: Threads = 0,
) -> None:
    """Segment every picture of ``query``; masks have the size of their picture.

    Where ``label`` is given, the value 255 of a support's mask is void.
    """
    formats = check_formats([name.strip() for name in format.split(",")]) if format else []
    if instances:
        require_regions()
    use_threads(threads)
    areas = {"min_area": min_area, "largest": largest}
    options = {"tile": tile, "edges": edges, "threshold": threshold, "presence": presence, **areas}
    network = {"bundle": bundle, "weights": weights or None, "stem": stem, "precision": precision}
    segmenter = open_segmenter(**network, variant=variant, side=side, device=device, **options)
    refused: list[str] = []
    names, supports = _supports(support, classes, label, side, refused) if support else ([], [])
    queries = [query] if query.is_file() else pictures_in(query, "--query")
    check_names([path.name for path in queries] if formats else [], formats)
    _refuse_inside(out, support, query)
    if support:
        segmenter.fit([one.image for one in supports], [one.mask for one in supports], names or None)
    elif not segmenter.bundle_.fitted:
        raise InputError("expected --support, or a --bundle that --save has written")
    elif classes or label:
        raise InputError(
            "--classes and --label describe the masks of --support, which a fitted --bundle replaces; leave them out"
        )
    adapted: dict[str, str] = {}
    if adapt:
        segmenter.adapt(_unlabelled(adapt, adapted, refused))
    if save:
        segmenter.save(save)
    names = segmenter.classes_ or []
    settings = {
        "masks": MASKS_VERSION,
        "network": segmenter.bundle_.about["sources"]["encoder"] if bundle is None else digest(bundle),
        "classes": names,
        "query": query.resolve().as_posix(),
        "supports": {one.path.name: _digest(one) for one in supports},
        "adapt": adapted,
        "variant": variant,
        "side": side,
        **options,
        **({"precision": precision} if precision else {}),
        **({"instances": True} if instances else {}),
    }
    results = Results(out, settings, [path.name for path in queries], names, instances=instances)
    _report_shared_stems([path.name for path in queries])
    pending: deque[Query] = deque()
    missing = [path for path in queries if not _is_done(path, results)]

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for path in missing:
            try:
                md5, data = read_query(path)
                pending.append(Query(path, md5, photo_of(data, path)))
            except InputError as error:
                refused.append(str(error))
                continue
            yield pending[-1].image

    done = len(queries) - len(missing)
    for finding in track(segmenter.findings(pictures()), len(queries), "segment", "picture", done):
        results.add(pending.popleft(), finding)
    results.finish()
    for name in formats:
        pictures_with_masks = labelled_results(results, queries[0].parent, names)
        export(name, out / name, names or [OBJECT], pictures_with_masks)
    if refused:
        reasons = dict.fromkeys(refused)  # a picture of --query and --adapt has the same one twice
        for reason in reasons:
            say(f"refused: {reason}")
        files = "1 file" if len(reasons) == 1 else f"{len(reasons)} files"
        raise InputError(f"{files} could not be used, see above; the masks of the others are in {out}")


def _supports(folder: Path, classes: str, label: int, side: int, refused: list[str]) -> tuple[list[str], list[Support]]:
    """Read the supports, and return them with the names of the classes; none for a single object."""
    if is_exchanged(folder):
        if label:
            raise InputError(
                f"--label is for masks that hold the numbers of objects; choose a class of {folder} with --classes"
            )
        return read_labelled(folder, side, [name.strip() for name in classes.split(",")] if classes else [])
    if classes:
        if label:
            raise InputError("--label and --classes exclude each other; give --classes for masks of several classes")
        names = [name.strip() for name in classes.split(",")]
        class_count(names)
        return names, read_supports(folder, 0, side, refused, names)
    folders = class_folders(folder)
    if not folders:
        return [], read_supports(folder, label, side, refused)
    names = [path.name for path in folders]
    class_count(names)
    return names, read_class_folders(folders, label, side, refused)


def _unlabelled(folder: Path, digests: dict[str, str], refused: list[str]) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures to adapt to, spread evenly over a folder, and add their digests."""
    paths = pictures_in(folder, "--adapt")
    count = min(MOST_UNLABELLED, len(paths))
    for path in [paths[number * len(paths) // count] for number in range(count)]:
        try:
            md5, data = read_query(path)
            picture = photo_of(data, path)
        except InputError as error:
            refused.append(str(error))
            continue
        digests[path.name] = md5
        yield picture


def _report_shared_stems(pictures: list[str]) -> None:
    """Report the pictures whose masks keep the ending, because others have the same name without it."""
    if keeping := [name for name, own in result_names(pictures).items() if own == name and Path(name).suffix]:
        some = ", ".join(keeping[:4]) + (", …" if len(keeping) > 4 else "")
        say(f"note: {len(keeping)} pictures share their names up to the ending, which their masks keep: {some}")


def _is_done(path: Path, results: Results) -> bool:
    """Whether an earlier run has segmented this very picture; one that cannot be read is refused later."""
    if not results.knows(path):
        return False
    try:
        return results.has(path, read_query(path)[0])
    except InputError:
        return False


def _refuse_inside(out: Path, support: Path | None, query: Path) -> None:
    """Refuse to write among the pictures and masks that are read."""
    target = out.resolve()
    for folder in [path.resolve() for path in (support, query) if path is not None and path.is_dir()]:
        if target == folder or target in (folder / IMAGES, folder / MASKS):
            raise InputError(f"{out}: contains the pictures or masks to read; give another folder as --out")


def _digest(support: Support) -> str:
    return hashlib.md5(support.image.tobytes() + support.mask.tobytes()).hexdigest()
