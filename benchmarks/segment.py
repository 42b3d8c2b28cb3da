"""Segmenting a folder of pictures: with features reused, against one query at a time without.

``python -m benchmarks.segment --bundle B --support DIR --query DIR [--truth DIR]`` prints, for 1 support and for all,
seconds a picture, the ratio, peak memory of each form in a process of its own, and the IoU where the queries' masks
are given (``DIR/NAME.png``, two values). Slow is what a script would do: for each query the supports are read and
encoded, and the query with them, at the same size and with the same classifier.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from novelseg import Segmenter
from novelseg.inference.folders import Support, pictures_in, read_supports
from novelseg.inference.photos import read_mask, read_photo
from novelseg.inference.segmenter import SIDE_PX, VARIANTS
from novelseg.ops.counts import object_iou

Ious = dict[str, float]


def _supports(words: argparse.Namespace, count: int) -> list[Support]:
    refused: list[str] = []
    found = read_supports(words.support, 0, words.side, refused)
    if refused:
        raise SystemExit("\n".join(refused))
    return found[:count]


def _fitted(words: argparse.Namespace, count: int) -> Segmenter:
    segmenter = Segmenter.load(words.bundle, variant=words.variant, side=words.side, device="cpu")
    pairs = _supports(words, count)
    return segmenter.fit([one.image for one in pairs], [one.mask for one in pairs])


def _measure(form: str, words: argparse.Namespace, count: int, pipe: Any) -> None:
    torch.set_num_threads(words.threads)
    queries = pictures_in(words.query, "--query")
    found: Ious = {}
    before = _peak()
    Segmenter.load(words.bundle)  # reading the file is no part of either
    start = time.perf_counter()
    if form == "fast":
        logits = _fitted(words, count).each(map(read_photo, queries))
    else:
        logits = (_fitted(words, count).decision_function([read_photo(path)])[0] for path in queries)
    for path, made in zip(queries, logits, strict=True):
        if words.truth:
            iou = object_iou((made > 0).astype(np.uint8), read_mask(words.truth / f"{path.stem}.png"))
            found[path.stem] = 1.0 if iou is None else iou
    pipe.send((time.perf_counter() - start, len(queries), _peak(), before, found))


def _peak() -> float:
    """MiB that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _alone(form: str, words: argparse.Namespace, count: int) -> Any:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(form, words, count, sender))
    process.start()
    while not receiver.poll(1):
        if not process.is_alive():
            raise SystemExit(f"the {form} form ended with code {process.exitcode}")
    found = receiver.recv()
    process.join()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "support", "query"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[-1])
    parser.add_argument("--side", type=int, default=SIDE_PX)
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    every = len(_supports(words, 1000))
    print(f"{words.variant}, {words.threads} thread(s), at most {words.side} px")
    print("supports  pictures  fast s/picture  slow s/picture  ratio  peak MiB fast/slow (before)  mean IoU")
    for count in sorted({1, every}):
        fast, slow = (_alone(form, words, count) for form in ("fast", "slow"))
        each, alone = fast[0] / fast[1], slow[0] / slow[1]
        mean = f"{100 * np.mean(list(fast[4].values())):.1f}" if fast[4] else "–"
        print(
            f"{count:8d}  {fast[1]:8d}  {each:14.3f}  {alone:14.3f}  {alone / each:5.1f}  "
            f"{fast[2]:.0f}/{slow[2]:.0f} ({fast[3]:.0f})  {mean}"
        )
        for name, value in sorted(fast[4].items()):
            print(f"          {name}  IoU {100 * value:5.1f}")


if __name__ == "__main__":
    main()
