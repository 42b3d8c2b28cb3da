"""A bundle + a few pictures with masks → masks of the same thing in other pictures.

Reads
    a bundle of ``export``; supports, ``images/NAME.*`` with ``masks/NAME.*``; a folder of queries, or one picture.
Writes
    a folder: ``masks/NAME.png`` (255 object), ``overlays/NAME.jpg``, ``results.tsv`` (areas, confidences),
    ``settings.json``. Not a pipeline stage. Run again after a kill or with more pictures it goes on; what it cannot use
    is named, and stops nothing else.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.compute import use_threads
from stages.core.errors import InputError
from stages.core.files import digest
from stages.core.progress import say, track
from stages.evaluation.predictor import REFINED
from stages.inference.folders import Refused, Results, Support, pictures_in, read_queries, read_supports, result_names
from stages.inference.segmenter import SIDE_PX, Segmenter


def run(
    *,
    bundle: Path,
    support: Path,
    query: Path,
    out: Path,
    label: int = 0,
    variant: str = REFINED,
    side: int = SIDE_PX,
    device: str = "auto",
    threads: int = 0,
) -> None:
    """Segment every picture of ``query``.

    ``label`` is the object's number in masks that hold several (255 is void then); 0: masks hold 0 and one other value.
    ``side`` is the longest side at which the network sees a picture, px; masks have the pictures' own size.
    """
    use_threads(threads)
    segmenter = Segmenter.load(bundle, variant=variant, side=side, device=device)
    refused = Refused()
    supports = read_supports(support, label, side, refused)
    queries = [query] if query.is_file() else pictures_in(query, "--query")
    segmenter.fit([one.image for one in supports], [one.mask for one in supports])
    settings = {
        "bundle": digest(bundle),
        "supports": {one.path.name: _digest(one) for one in supports},
        "variant": variant,
        "side": side,
    }
    results, names = Results(out, settings), result_names(queries)
    todo = [path for path in queries if not results.has(path)]
    done = len(queries) - len(todo)
    waiting: deque[tuple[Path, NDArray[np.uint8]]] = deque()

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for path, image in read_queries(todo, refused):
            waiting.append((path, image))
            yield image

    for logits in track(segmenter.each(pictures()), len(queries), "segment", "picture", done):
        path, image = waiting.popleft()
        results.add(path, names[path], image, logits)
    results.finish()
    if refused.reasons:
        for reason in refused.reasons:
            say(f"refused: {reason}")
        raise InputError(f"{len(refused.reasons)} of the files given could not be used; the others' masks are in {out}")


def _digest(support: Support) -> str:
    return hashlib.md5(support.image.tobytes() + support.mask.tobytes()).hexdigest()
