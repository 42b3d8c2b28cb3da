"""Which views of a large picture mark a class: rules, scored on composites with objects of several classes and sizes.

    python -m benchmarks.views --voc $NOVELSEG_DATA/voc-subset --weights PATH --out docs/results/tiles-views-NAME.tsv

Objects of the training list are set into backgrounds of 2000 × 1500 px (:mod:`benchmarks.composites`); other pictures
of the class are the supports. With ``tile``, a picture is predicted in windows of its own resolution, and reduced as a
whole. Each row has the IoU of the mask of the whole, of the windows alone, and of both together. The number in the name
of a rule is the most by which the logit of a view's presence may lie below that of the best view.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.composites import Array, backgrounds, compose, cut_out, size_of
from benchmarks.tables import markdown, write_rows
from benchmarks.untrained import Pictures
from novelseg import Segmenter
from novelseg.core.labels import binary
from novelseg.core.progress import say
from novelseg.data.classes import VOC
from novelseg.inference import enlarge
from novelseg.inference.inputs import resize
from novelseg.inference.predictors import Images, Prediction, Predictor
from novelseg.ops.counts import object_iou

SIZE, SHARES = (2000, 1500), (0.0024, 0.02, 0.12)  # width and height, px; shares of the object
CLASSES = ("sheep", "dog", "car", "aeroplane", "bird", "person")
GRASS = ("sheep", "cow", "horse")  # classes in whose pictures backgrounds are looked for
LEAST_PX = 4000  # of an object
# Name of a rule: logits below the best view, and whether the whole is a view.
RULES = {"windows": (math.inf, False), "windows, 2": (2.0, False)} | {
    f"both, {reach:g}": (reach, True) for reach in (1.0, 1.5, 2.0, 2.5, 3.0, math.inf)
}
FACTS = ("class", "share", "object", "background", "whole_presence", "best_window")


class Replay:
    """A predictor that returns views that are known, in order."""

    def __init__(self, predictor: Predictor, views: Iterable[Prediction]) -> None:
        self._predictor, self._views = predictor, iter(views)
        self.calibration = predictor.calibration

    def __call__(self, images: Images) -> list[Prediction]:
        """Return as many views as there are images."""
        return [next(self._views) for _ in images]

    def compare(self, predictions: list[Prediction]) -> list[Prediction]:
        """Compare windows as the predictor does."""
        return self._predictor.compare(predictions)


class Views:
    """The windows of a picture and the whole of it, computed once, and the masks that rules make of them."""

    def __init__(self, segmenter: Segmenter, picture: Array) -> None:
        self._segmenter, self._picture = segmenter, picture
        self._predictor = segmenter._predictor
        self._windows = list(segmenter._picture_predictor().predictions(picture))
        (self._whole,) = self._predictor([resize(picture, segmenter.side)])

    def presence(self) -> tuple[float, float]:
        """Return the scores of presence: of the whole, and of the best window."""
        return _score([self._whole]), _score(self._predictor.compare(self._windows))

    def whole(self) -> Array:
        """Return the mask of the whole."""
        return self._mask([self._whole], tile=False)

    def joined(self, reach: float, whole: bool) -> Array:
        """Return the mask of the windows, and of the whole if it is a view."""
        assert self._whole.presence is not None
        never = self._whole._replace(presence=torch.full_like(self._whole.presence, -torch.inf))
        last = self._whole if whole else never
        with mock.patch.object(enlarge, "TILED_RANGE", reach):
            return self._mask([*self._windows, last], tile=True)

    def _mask(self, views: list[Prediction], *, tile: bool) -> Array:
        self._segmenter.tile, self._segmenter._predictor = tile, Replay(self._predictor, views)
        try:
            return next(self._segmenter.findings(self._picture)).mask
        finally:
            self._segmenter.tile, self._segmenter._predictor = True, self._predictor


def _score(views: list[Prediction]) -> float:
    """Return the largest score of presence."""
    return max(float(one.presence.sigmoid()) for one in views if one.presence is not None)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row per composite with the IoU by each rule."""
    pictures, rows = Pictures(options.voc, "train"), []
    boxes = itertools.cycle(backgrounds(pictures, GRASS, SIZE[0] / SIZE[1]))
    for name in CLASSES:
        label, rng = VOC.index(name) + 1, np.random.default_rng(options.seed)
        order = rng.permutation(np.flatnonzero(pictures.pixels[:, label] >= LEAST_PX)).tolist()
        taught, things = order[: options.shots], order[options.shots :][: options.composites]
        masks = [(binary(pictures.mask(number), label) == 1).astype(np.uint8) for number in taught]
        segmenter = Segmenter(weights=options.weights, stem=options.stem, tile=True)
        segmenter.fit([pictures.image(number) for number in taught], masks)
        for thing, share in itertools.product(things, SHARES):
            parts = cut_out(pictures.image(thing), pictures.mask(thing), label)
            if any(own >= side for own, side in zip(size_of(parts[1], SIZE, share), SIZE, strict=True)):
                continue  # a long object that is as wide as the picture
            place, box = next(one for one in boxes if not pictures.pixels[one[0], label])
            picture, truth = compose(pictures.image(place)[box], parts, rng, SIZE, share)
            views = Views(segmenter, picture)
            facts = (name, share, pictures.ids[thing], pictures.ids[place], *views.presence())
            found = {"whole": views.whole()} | {rule: views.joined(*how) for rule, how in RULES.items()}
            scores = {rule: object_iou(mask, truth) for rule, mask in found.items()}
            rows.append(_rounded(dict(zip(FACTS, facts, strict=True)) | scores))
            say(f"views: {name}, {share:.2%}: {scores}")
    return rows


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with three digits of what was measured."""
    return {
        name: f"{value:.3f}" if isinstance(value, float) and name != "share" else value for name, value in row.items()
    }


def rules_table(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the mean IoU by rule as a Markdown table, for each encoder and share and for all composites."""
    lines = ["## Rules, training list", ""]
    groups = {f"{encoder}, {float(share):.2%}": (encoder, float(share)) for encoder in rows for share in SHARES}
    groups = {f"{encoder}, all": (encoder, 0.0) for encoder in rows} | groups
    table = []
    for rule in ("whole", *RULES):
        row = {"rule": rule}
        for title, (encoder, share) in groups.items():
            own = [float(one[rule]) for one in rows[encoder] if not share or float(one["share"]) == share]
            row[title] = f"{np.mean(own):.3f}" if own else ""
        table.append(row)
    counts = (f"{len(own)} with {encoder}" for encoder, own in rows.items())
    return [*lines, *markdown(["rule", *groups], table), "", f"Composites: {', '.join(counts)}."]


def main() -> None:
    """Measure all rules with one encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--stem", default="")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--composites", type=int, default=3, help="objects per class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    write_rows(options.out, [*FACTS, "whole", *RULES], measure(options))


if __name__ == "__main__":
    main()
