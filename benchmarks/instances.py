"""Separate objects of a mask, scored on the true instances of COCO: AP50 and panoptic quality.

    python -m benchmarks.instances --coco DIR --weights PATH --stem msra [--out docs/results/instances.md]

DIR has ``annotations/instances_{train,val}2017.json`` and the pictures. Connected parts alone are compared with parts
that are split along the contours of the region hierarchy (`novelseg.regions.objects`), once in the true semantic mask
of each class, and once in the mask of a segmenter that has up to five supports of the class from the training pictures.
The settings are chosen for the classes of each fold (numbers modulo four) by the panoptic quality on training pictures
of the classes of the other folds: those of splitting with true masks, of which nothing is dropped, and the least area
of an object with the segmenter's masks of the training pictures that are no supports. Then they are scored once on the
validation pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from novelseg.core.progress import track
from novelseg.inference.findings import Finding
from novelseg.inference.instances import object_scores
from novelseg.inference.photos import read_photo
from novelseg.inference.segmenter import Segmenter
from novelseg.regions.hierarchy import Hierarchy
from novelseg.regions.learned import build_hierarchy
from novelseg.regions.objects import Objects, ObjectSettings, separate

Mask = NDArray[np.bool_]
Settings = dict[int, ObjectSettings]  # by fold
FOLDS, SHOTS, LEAST_PICTURES, MIN_SHARE, DRAWS = 4, 5, 3, 0.01, 1000
LEAST = (0.0, 0.0001, 0.0002, 0.0005, 0.001, 0.002)
GRID = [
    ObjectSettings(neck, relief, share, 0.0)
    for neck, relief, share in itertools.product((0.2, 0.3, 0.4, 0.5), (0.0, 0.25, 0.5, 0.75), (0.02, 0.05, 0.1))
]


@dataclass(frozen=True)
class Picture:
    """A picture with its true instances.

    Attributes
    ----------
    id, path
        Of COCO.
    image
        (H, W, 3).
    tree
        Its region hierarchy.
    instances
        Class → masks of its objects, which do not overlap.
    crowds
        Class → pixels of crowds, which do not count.
    """

    id: int
    path: Path
    image: NDArray[np.uint8]
    tree: Hierarchy
    instances: dict[int, list[Mask]]
    crowds: dict[int, Mask]

    def semantic(self, label: int) -> NDArray[np.uint8]:
        """Return the true mask of a class, without crowds."""
        mask = np.zeros(self.image.shape[:2], np.uint8)
        for one in self.instances.get(label, ()):
            mask[one] = 1
        return mask


def load(folder: Path, part: str) -> tuple[COCO, list[Picture]]:
    """Read a part of the data set, and build the hierarchies."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / f"annotations/instances_{part}.json"))
    pictures = []
    for number in track(sorted(coco.getImgIds()), len(coco.getImgIds()), part, "picture"):
        path = folder / part / coco.loadImgs(number)[0]["file_name"]
        image = read_photo(path)
        masks: dict[int, list[Mask]] = defaultdict(list)
        crowds: dict[int, Mask] = {}
        for entry in coco.loadAnns(coco.getAnnIds(number)):
            mask = coco.annToMask(entry).astype(bool)
            if entry["iscrowd"]:
                crowds[entry["category_id"]] = crowds.get(entry["category_id"], np.zeros_like(mask)) | mask
            elif mask.any():
                masks[entry["category_id"]].append(mask)
        instances = {label: _apart(found) for label, found in masks.items()}
        pictures.append(Picture(number, path, image, build_hierarchy(image), instances, crowds))
    return coco, pictures


def _apart(masks: list[Mask]) -> list[Mask]:
    """Return masks without overlaps; the smaller one is in front."""
    taken, apart = np.zeros_like(masks[0]), []
    for mask in sorted(masks, key=lambda one: int(one.sum())):
        own = mask & ~taken
        taken |= mask
        if own.any():
            apart.append(own)
    return apart


@dataclass
class Tally:
    """Counts of panoptic quality: matched pairs, the sum of their IoU, and objects without a partner."""

    matched: int = 0
    iou: float = 0.0
    extra: int = 0
    missed: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Return the sum of two tallies."""
        return Tally(*(getattr(self, name) + getattr(other, name) for name in ("matched", "iou", "extra", "missed")))

    @property
    def quality(self) -> float:
        """Panoptic quality."""
        return self.iou / max(1e-9, self.matched + (self.extra + self.missed) / 2)


def tally(numbers: NDArray[np.int32], truth: Sequence[Mask], crowd: Mask | None) -> Tally:
    """Match objects with true ones, whose IoU is above one half."""
    areas = np.bincount(numbers.reshape(-1))
    used: set[int] = set()
    iou = 0.0
    for mask in truth:
        counts = np.bincount(numbers[mask], minlength=len(areas))
        counts[0] = 0
        best = int(counts.argmax())
        value = counts[best] / (areas[best] + mask.sum() - counts[best])
        if value > 0.5:
            used.add(best)
            iou += float(value)
    extra = set(np.flatnonzero(areas[1:]) + 1) - used
    if crowd is not None:
        hidden = np.bincount(numbers[crowd], minlength=len(areas))
        extra = {one for one in extra if hidden[one] <= 0.5 * areas[one]}
    return Tally(len(used), iou, len(extra), len(truth) - len(used))


def tally_true(pictures: Iterable[Picture], settings: ObjectSettings, split: bool) -> dict[tuple[int, int], Tally]:
    """Tally the true masks, separated, by picture and class."""
    tallies = {}
    for picture in pictures:
        for label, truth in picture.instances.items():
            found = separate(picture.semantic(label), picture.tree if split else None, settings)
            tallies[picture.id, label] = tally(found.numbers, truth, picture.crowds.get(label))
    return tallies


def pooled(tallies: dict[tuple[int, int], Tally], labels: Iterable[int]) -> float:
    """Return the panoptic quality of the objects of some classes, all together."""
    chosen = set(labels)
    return sum((one for (_, label), one in tallies.items() if label in chosen), Tally()).quality


def by_class(tallies: dict[tuple[int, int], Tally]) -> float:
    """Return the mean over classes of the panoptic quality."""
    sums: dict[int, Tally] = defaultdict(Tally)
    for (_, label), one in tallies.items():
        sums[label] += one
    return float(np.mean([one.quality for one in sums.values()]))


def choose(pictures: list[Picture], labels: Sequence[int]) -> Settings:
    """Choose, for each fold, the settings of splitting with the best pooled quality on the other folds' classes."""
    scores = {one: tally_true(pictures, one, split=True) for one in track(GRID, len(GRID), "choose", "setting")}
    chosen = {}
    for fold in range(FOLDS):
        others = [label for label in labels if label % FOLDS != fold]
        chosen[fold] = max(GRID, key=lambda settings: pooled(scores[settings], others))
    best = max(GRID, key=lambda settings: pooled(scores[settings], labels))
    print(f"{chosen}; all classes: {best}, PQ {100 * pooled(scores[best], labels):.2f}", flush=True)
    return chosen


def average_precision(coco: COCO, entries: list[dict[str, Any]], labels: Sequence[int]) -> float:
    """Return COCO's AP50 of masks, the mean over classes."""
    if not entries:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(coco, coco.loadRes(entries), "segm")
        judge.params.iouThrs = np.array([0.5])
        judge.params.catIds = list(labels)
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][0, :, :, 0, 2]  # of all areas, 100 detections: (recalls, classes)
    return float(precision[precision > -1].mean())


def entries_of(
    picture: Picture, label: int, numbers: NDArray[np.int32], scores: Sequence[float]
) -> list[dict[str, Any]]:
    """Return objects as COCO's results."""
    entries = []
    for number, score in enumerate(scores, 1):
        runs = coco_mask.encode(np.asfortranarray((numbers == number).astype(np.uint8)))
        runs["counts"] = runs["counts"].decode()
        entries.append({"image_id": picture.id, "category_id": label, "segmentation": runs, "score": float(score)})
    return entries


Scored = tuple[dict[tuple[int, int], Tally], list[dict[str, Any]]]


def score_true(pictures: list[Picture], chosen: Settings, split: bool) -> Scored:
    """Separate the true masks; all objects have the score 1."""
    tallies, entries = {}, []
    for picture in pictures:
        for label, truth in picture.instances.items():
            found = separate(picture.semantic(label), picture.tree if split else None, chosen[label % FOLDS])
            tallies[picture.id, label] = tally(found.numbers, truth, picture.crowds.get(label))
            entries += entries_of(picture, label, found.numbers, [1.0] * len(found.labels))
    return tallies, entries


def usable(train: list[Picture], val: list[Picture]) -> dict[int, list[Picture]]:
    """Return the classes with enough pictures in both parts, and the supports of each."""
    supports: dict[int, list[Picture]] = {}
    for label in sorted({label for picture in train for label in picture.instances}):
        shown = [one for one in train if one.semantic(label).mean() >= MIN_SHARE]
        if len(shown) >= LEAST_PICTURES and sum(label in one.instances for one in val) >= LEAST_PICTURES:
            supports[label] = shown[:SHOTS]
    return supports


class Remembering:
    """A feature extractor that remembers its last features, for several segmenters of one picture."""

    def __init__(self, extract: Any) -> None:
        self._extract, self._key = extract, b""
        self._features: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._extract, name)

    def __call__(self, images: list[NDArray[np.uint8]]) -> Any:
        """Return the features of images."""
        key = b"".join(hashlib.md5(image.tobytes()).digest() for image in images)
        if key != self._key:
            self._key, self._features = key, list(self._extract(images))
        return self._features


@dataclass(frozen=True)
class Found:
    """What the segmenter of a class found in a picture."""

    picture: Picture
    label: int
    finding: Finding


def segmenters(weights: str, stem: str, supports: dict[int, list[Picture]]) -> dict[int, Segmenter]:
    """Return a fitted segmenter of each class; all of them share the encoder."""
    base: Any = Segmenter.load(weights=weights, stem=stem)
    base._extract = Remembering(base._extract)
    fitted = {}
    for label, shown in track(supports.items(), len(supports), "fit", "label"):
        fitted[label] = copy.copy(base).fit([one.image for one in shown], [one.semantic(label) for one in shown])
    return fitted


def findings(fitted: dict[int, Segmenter], pictures: Sequence[Picture], title: str) -> Iterator[Found]:
    """Look for each class in each picture."""
    for picture in track(pictures, len(pictures), title, "picture"):
        for label, segmenter in fitted.items():
            yield Found(picture, label, next(segmenter.findings([picture.image])))


def choose_least(
    fitted: dict[int, Segmenter], supports: dict[int, list[Picture]], train: list[Picture], chosen: Settings
) -> Settings:
    """Choose, for each fold, the least area of an object by masks of the other folds' classes."""
    tallies: dict[float, dict[tuple[int, int], Tally]] = {least: {} for least in LEAST}
    for one in findings(fitted, train, "choose"):
        if one.picture in supports[one.label]:
            continue
        for least in LEAST:
            settings = replace(chosen[one.label % FOLDS], least=least)
            add(tallies[least], one, separate(one.finding.mask, one.picture.tree, settings))
    result = {}
    for fold, settings in chosen.items():
        others = [label for label in fitted if label % FOLDS != fold]
        best = max(LEAST, key=lambda least: pooled(tallies[least], others))
        result[fold] = replace(settings, least=best)
    print({least: round(100 * pooled(tallies[least], fitted), 2) for least in LEAST}, result, flush=True)
    return result


def add(tallies: dict[tuple[int, int], Tally], one: Found, objects: Objects) -> None:
    """Tally the objects of a class in a picture."""
    truth = one.picture.instances.get(one.label, [])
    if truth or objects.labels:
        crowd = one.picture.crowds.get(one.label)
        tallies[one.picture.id, one.label] = tally(objects.numbers, truth, crowd)


def score_ours(fitted: dict[int, Segmenter], val: list[Picture], chosen: Settings) -> dict[bool, Scored]:
    """Segment each class in all validation pictures, and separate its masks, without and with splits."""
    results: dict[bool, Scored] = {False: ({}, []), True: ({}, [])}
    for one in findings(fitted, val, "segment"):
        for split, (tallies, entries) in results.items():
            objects = separate(one.finding.mask, one.picture.tree if split else None, chosen[one.label % FOLDS])
            add(tallies, one, objects)
            scores = object_scores(objects, one.finding)
            entries += entries_of(one.picture, one.label, objects.numbers, scores)
    return results


def interval(plain: Scored, split: Scored, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval over pictures of the gain in pooled quality, points."""
    rng = np.random.default_rng(seed)
    by_picture = []
    for number in sorted({picture for picture, _ in plain[0]}):
        pair = [sum((one for (id_, _), one in side[0].items() if id_ == number), Tally()) for side in (plain, split)]
        by_picture.append(pair)
    gains = []
    for _ in range(DRAWS):
        drawn = rng.integers(len(by_picture), size=len(by_picture))
        sums = [sum((by_picture[number][side] for number in drawn), Tally()).quality for side in (0, 1)]
        gains.append(100 * (sums[1] - sums[0]))
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--stem", default="")
    parser.add_argument("--out", type=Path, help="page of results to write")
    options = parser.parse_args()
    _, train = load(options.coco, "train2017")
    coco, val = load(options.coco, "val2017")
    labels = sorted(coco.getCatIds())
    chosen = choose(train, labels)
    shown = [label for label in labels if any(label in one.instances for one in val)]
    supports = usable(train, val)
    fitted = segmenters(options.weights, options.stem, supports)
    final = choose_least(fitted, supports, train, chosen)
    comparisons = {
        f"true, {len(shown)} classes": ({split: score_true(val, chosen, split) for split in (False, True)}, shown),
        f"ours, {len(supports)} classes": (score_ours(fitted, val, final), list(supports)),
    }
    rows = []
    for title, (results, classes) in comparisons.items():
        gain = interval(results[False], results[True])
        for split in (False, True):
            tallies, entries = results[split]
            total = sum(tallies.values(), Tally())
            rows.append(
                {
                    **{"mask": title, "objects": "split" if split else "connected parts"},
                    "AP50": 100 * average_precision(coco, entries, classes),
                    **{"PQ": 100 * by_class(tallies), "PQ pooled": 100 * total.quality},
                    **{"matched": total.matched, "extra": total.extra, "missed": total.missed},
                    "gain": f"{gain[0]:+.1f} … {gain[1]:+.1f}" if split else "",
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        options.out.write_text(report(rows, final), encoding="utf8")


def report(rows: list[dict[str, Any]], chosen: Settings) -> str:
    """Return the page of results."""
    table = "\n".join(
        f"| {row['mask']} | {row['objects']} | {row['AP50']:.1f} | {row['PQ']:.1f} | {row['PQ pooled']:.1f} "
        f"| {row['gain']} | {row['matched']} | {row['extra']} | {row['missed']} |"
        for row in rows
    )
    settings = "\n".join(
        f"| {fold} | {one.neck} | {one.relief} | {one.share} | {one.least} |" for fold, one in chosen.items()
    )
    return f"""# Separate objects

`python -m benchmarks.instances --coco DIR --weights PATH --stem msra --out docs/results/instances.md` writes this page.
Objects of `--instances` on the 45 validation pictures of a subset of COCO: connected parts alone, and split along the
contours of the region hierarchy. Of the true semantic masks, and of those of the segmenter (ResNet-50, ImageNet
weights, nothing trained, up to five supports from training pictures, all classes with three pictures or more in both
parts, looked for in all 45 pictures). AP50 is pycocotools', in which an object's score is its mean calibrated
probability times the class's presence (1 for true masks). PQ is panoptic quality, the mean over classes, and pooled
over all objects with the 95 % bootstrap interval, over pictures, of the gain by splitting.

| mask | objects | AP50 | PQ | PQ, pooled | gain | matched | extra | missed |
|---|---|---|---|---|---|---|---|---|
{table}

The settings of the classes of a fold were chosen on training pictures by the classes of the other folds: those of
splitting with true masks, and the least area with ours. Of true masks, nothing is dropped. `--instances` uses the
settings that are best for all classes together; its least area, 0.002, is the largest that was tried.

| fold | neck | relief | share | least |
|---|---|---|---|---|
{settings}
"""


if __name__ == "__main__":
    main()
