"""A bundle + a few pictures with masks → masks of the same thing in other pictures.

Reads
    a bundle of ``export``; supports, ``images/NAME.*`` with ``masks/NAME.*``; a folder of queries, or one picture.
Writes
    a folder, new, empty or of an earlier run: ``masks/`` (PNG, 255 object), ``overlays/``, ``results.tsv`` (areas,
    confidences), ``settings.json``. Not a pipeline stage. Run again after a kill or with more pictures it goes on; what
    it cannot use is named, and stops nothing else.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from novelseg.cli.options import Bundle, Device, Side, Threads, Variant
from novelseg.core.compute import use_threads
from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.core.options import Help
from novelseg.core.progress import say, track
from novelseg.inference.folders import (
    IMAGES,
    MASKS,
    Query,
    Results,
    Support,
    pictures_in,
    read_query,
    read_supports,
)
from novelseg.inference.photos import photo_of
from novelseg.inference.segmenter import SIDE_PX, Segmenter
from novelseg.methods.variants import REFINED


def run(
    *,
    bundle: Bundle,
    support: Annotated[Path, Help("folder with images/NAME.* and masks/NAME.* of what to look for")],
    query: Annotated[Path, Help("folder of pictures to segment, or one picture")],
    out: Annotated[Path, Help("folder to write masks to: new, empty, or of an earlier run")],
    label: Annotated[int, Help("number of the object in masks that hold several; 0: masks hold 0 and one value")] = 0,
    variant: Variant = REFINED,
    side: Side = SIDE_PX,
    device: Device = "auto",
    threads: Threads = 0,
) -> None:
    """Segment every picture of ``query``.

    ``label`` is the object's number in masks that hold several (255 is void then); 0: masks hold 0 and one other value.
    ``side`` is the longest side at which the network sees a picture, px; masks have the pictures' own size.
    """
    use_threads(threads)
    segmenter = Segmenter.load(bundle, variant=variant, side=side, device=device)
    refused: list[str] = []
    supports = read_supports(support, label, side, refused)
    queries = [query] if query.is_file() else pictures_in(query, "--query")
    _refuse_inside(out, support, query)
    segmenter.fit([one.image for one in supports], [one.mask for one in supports])
    settings = {
        "bundle": digest(bundle),
        "query": query.resolve().as_posix(),
        "supports": {one.path.name: _digest(one) for one in supports},
        "variant": variant,
        "side": side,
    }
    results = Results(out, settings)
    waiting: deque[Query] = deque()
    missing = [path for path in queries if not _is_done(path, results)]

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for path in missing:
            try:
                md5, data = read_query(path)
                waiting.append(Query(path, md5, photo_of(data, path)))
            except InputError as error:
                refused.append(str(error))
                continue
            yield waiting[-1].image

    done = len(queries) - len(missing)
    for logits in track(segmenter.each(pictures()), len(queries), "segment", "picture", done):
        results.add(waiting.popleft(), logits)
    results.finish()
    if refused:
        for reason in refused:
            say(f"refused: {reason}")
        raise InputError(f"{len(refused)} of the files given could not be used; the others' masks are in {out}")


def _is_done(path: Path, results: Results) -> bool:
    """Whether an earlier run has segmented this very picture; what cannot be read is told when its turn comes."""
    if not results.knows(path):
        return False
    try:
        return results.has(path, read_query(path)[0])
    except InputError:
        return False


def _refuse_inside(out: Path, support: Path, query: Path) -> None:
    """Refuse to write among the pictures and masks that are read."""
    target, read = out.resolve(), [support.resolve(), query.resolve()]
    for folder in read if query.is_dir() else read[:1]:
        if target == folder or target in (folder / IMAGES, folder / MASKS):
            raise InputError(f"{out}: holds what is read; give another folder for --out")


def _digest(support: Support) -> str:
    return hashlib.md5(support.image.tobytes() + support.mask.tobytes()).hexdigest()
