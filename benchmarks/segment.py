"""Segment a folder of pictures, with the support features computed once (fast) or again for each query (slow).

``python -m benchmarks.segment --bundle B --support DIR --query DIR [--truth DIR]`` prints, for 1 support and for all,
seconds per picture, their ratio, the peak memory of each form in a separate process, and the IoU of queries whose masks
are given (``DIR/NAME.png``, two values). The slow form reads and encodes the supports for each query, at the same size
and with the same classifier, as a simple script would.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.processes import in_process, peak_mib
from novelseg import Segmenter
from novelseg.inference.folders import Support, pictures_in, read_supports
from novelseg.inference.photos import read_mask, read_photo
from novelseg.inference.segmenter import SIDE_PX
from novelseg.methods.refiners import SEGMENTER_VARIANTS
from novelseg.ops.counts import object_iou

Ious = dict[str, float]


def _supports(options: argparse.Namespace, count: int) -> list[Support]:
    refused: list[str] = []
    supports = read_supports(options.support, 0, options.side, refused)
    if refused:
        raise SystemExit("\n".join(refused))
    return supports[:count]


def _fit(options: argparse.Namespace, count: int) -> Segmenter:
    segmenter = Segmenter.load(options.bundle, variant=options.variant, side=options.side, device="cpu")
    supports = _supports(options, count)
    return segmenter.fit([support.image for support in supports], [support.mask for support in supports])


def _measure(form: str, options: argparse.Namespace, count: int) -> tuple[float, int, float, float, Ious]:
    torch.set_num_threads(options.threads)
    queries = pictures_in(options.query, "--query")
    ious: Ious = {}
    before = peak_mib()
    Segmenter.load(options.bundle)  # fills the system's file cache, so that disk access is not timed
    start = time.perf_counter()
    if form == "fast":
        maps = _fit(options, count).each(map(read_photo, queries))
    else:
        maps = (_fit(options, count).decision_function([read_photo(path)])[0] for path in queries)
    for path, logits in zip(queries, maps, strict=True):
        if options.truth:
            iou = object_iou((logits > 0).astype(np.uint8), read_mask(options.truth / f"{path.stem}.png"))
            ious[path.stem] = 1.0 if iou is None else iou
    return time.perf_counter() - start, len(queries), peak_mib(), before, ious


def main() -> None:
    """Measure both forms and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "support", "query"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--variant", choices=SEGMENTER_VARIANTS, default=SEGMENTER_VARIANTS[-1])
    parser.add_argument("--side", type=int, default=SIDE_PX)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    total = len(_supports(options, 1000))
    print(f"{options.variant}, {options.threads} thread(s), at most {options.side} px")
    print("supports  pictures  fast s/picture  slow s/picture  ratio  peak MiB fast/slow (before)  mean IoU")
    for count in sorted({1, total}):
        fast, slow = (in_process(_measure, form, options, count) for form in ("fast", "slow"))
        fast_s, slow_s = fast[0] / fast[1], slow[0] / slow[1]
        mean = f"{100 * np.mean(list(fast[4].values())):.1f}" if fast[4] else "–"
        print(
            f"{count:8d}  {fast[1]:8d}  {fast_s:14.3f}  {slow_s:14.3f}  {slow_s / fast_s:5.1f}  "
            f"{fast[2]:.0f}/{slow[2]:.0f} ({fast[3]:.0f})  {mean}"
        )
        for name, value in sorted(fast[4].items()):
            print(f"          {name}  IoU {100 * value:5.1f}")


if __name__ == "__main__":
    main()
