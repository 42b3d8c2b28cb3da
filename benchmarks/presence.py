"""Whether the object is there, how sure each pixel is, and how good a mask: measured, fitted, and judged.

    python -m benchmarks.presence measure --voc DIR --list train --weights PATH --out train.tsv
    python -m benchmarks.presence fit --rows train.tsv
    python -m benchmarks.presence judge --rows val.tsv [--fitted-on train.tsv …]
    python -m benchmarks.presence page --val val.tsv … --train train.tsv … --out docs/results/presence.md

``measure`` fits the closed-form head to supports of each class, and applies it to pictures with and without the class.
A row is a picture: the measures from which presence is estimated, areas, and counts of pixels by logit and truth.
``fit`` prints the constants of :mod:`novelseg.methods.closed_form.presence` and of the calibration. ``judge`` fits them
for each fold on the classes of the other folds, or takes those of the code, and prints, with 95 % intervals over
pictures: the area under the ROC curve, the area marked where the class is not, mIoU without and with the decision, the
calibration error of the pixels, and the rank correlation of expected and true IoU. Several files of rows are taken
together. ``page`` writes all of this below the mark of a page, with constants that are fitted to all of ``--train``.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.features import Features
from benchmarks.tables import write_below, write_rows
from benchmarks.untrained import CLASSES, Pictures
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.labels import VOID, binary
from novelseg.core.progress import track
from novelseg.inference.bundle import pretrained_bundle
from novelseg.inference.edges import snap_to_edges
from novelseg.inference.findings import Calibration, expected_iou, least_logits, winners
from novelseg.inference.predictors import CALIBRATION_ONE, CALIBRATION_SEVERAL, fit_to_features
from novelseg.inference.segmenter import PRESENT, SIDE_PX
from novelseg.methods.closed_form.presence import (
    ALONE,
    ALONE_SUMMAND,
    LEFT_OUT,
    LEFT_OUT_SUMMAND,
    MEASURES,
    RELATIVE,
    RELATIVE_SUMMAND,
    Expectation,
)

Floats = NDArray[np.float64]
MARK = "<!-- written by `python -m benchmarks.presence page` -->"
FOLDS, DRAWS, BINS = 4, 1000, 15
EDGES = np.linspace(-12, 12, 97)  # of the logits' counts; the outermost are open
CENTRES = np.concatenate([[EDGES[0]], (EDGES[1:] + EDGES[:-1]) / 2, [EDGES[-1]]])
FACTS = ("class", "query", "shows_class", "shots", "intersection", "union", "area_share", "expected_iou")
COUNTS = ("pixels_off", "pixels_on")  # by logit, of pixels that are not and that are of the class
PENALTY = 0.01  # of the logistic regression, for standardised measures


@dataclass(frozen=True)
class Search:
    """Classes that are searched for together, their supports, and the pictures that they are searched in."""

    labels: list[int]
    supports: list[int]
    queries: list[int]


def searches(pictures: Pictures, options: argparse.Namespace) -> list[Search]:
    """Draw supports and queries: for each class alone, or for all classes together."""
    rng, alone = np.random.default_rng(options.seed), []
    for label in range(1, CLASSES + 1):
        order = rng.permutation(np.flatnonzero(pictures.pixels[:, label] >= options.min_pixels)).tolist()
        absent = rng.permutation(np.flatnonzero(pictures.pixels[:, label] == 0)).tolist()
        queries = order[options.shots :][: options.queries] + absent[: options.queries]
        alone.append(Search([label], order[: options.shots], queries))
    if not options.together:
        return alone
    supports = sorted({number for one in alone for number in one.supports})
    queries = sorted({number for one in alone for number in one.queries} - set(supports))
    return [Search(list(range(1, CLASSES + 1)), supports, queries)]


def numbered(mask: NDArray[np.uint8], labels: list[int]) -> NDArray[np.uint8]:
    """Number the pixels of some classes from 1, in their order; others are background."""
    numbers = np.zeros(VOID + 1, np.uint8)
    numbers[labels], numbers[VOID] = np.arange(1, len(labels) + 1), VOID
    return numbers[mask]


def measure(options: argparse.Namespace) -> None:
    """Write the rows of a list."""
    pictures = Pictures(options.voc, options.list)
    bundle = pretrained_bundle(options.weights, options.stem)
    extract = FeatureExtractor(bundle.encoder, "fp32", torch.device("cpu"))
    features, rows = Features(pictures, extract, options.features), []
    drawn = searches(pictures, options)
    total = sum(len(one.queries) for one in drawn)
    for search, query in track(((one, query) for one in drawn for query in one.queries), total, "presence", "picture"):
        if query == search.queries[0]:
            units = [features.unit(number) for number in search.supports]
            masks = [numbered(pictures.mask(number), search.labels) for number in search.supports]
            fitted = fit_to_features(extract, units, masks, len(search.labels), bundle.refiners.closed_form)
            del units
        logits = fitted[0].scores_of(features.unit(query))
        large = snap_to_edges(logits, pictures.image(query), SIDE_PX, extract.grid).numpy()
        winner = winners(large, [0.0] * len(large))
        values = fitted[1].measures(fitted[0], features.unit(query), logits).tolist()
        quality = expected_iou(logits, [0.0] * len(logits), CALIBRATION_SEVERAL).tolist()
        for position, label in enumerate(search.labels):
            if 0 < pictures.pixels[query, label] < options.min_pixels:
                continue
            lost = (winner != 0) & (winner != position + 1)  # to another class: not marked
            own = np.where(lost, np.float32(EDGES[0]), large[position])
            rows.append(
                {
                    **{"class": label, "query": pictures.ids[query], "shots": options.shots},
                    **counted(own, binary(pictures.mask(query), label)),
                    "expected_iou": f"{quality[position]:.4f}",
                    **{name: f"{value:.6g}" for name, value in zip(MEASURES, values[position], strict=True)},
                }
            )
    write_rows(options.out, (*FACTS, *MEASURES, *COUNTS), rows)


def counted(logits: NDArray[np.float32], truth: NDArray[np.uint8]) -> dict[str, Any]:
    """Return areas, and numbers of pixels by logit and truth."""
    known, on, marked, where = truth != VOID, truth == 1, logits > 0, np.digitize(logits, EDGES)
    row: dict[str, Any] = {"shows_class": int(on.any()), "area_share": f"{marked.mean():.5f}"}
    row |= {"intersection": int((marked & on).sum()), "union": int(((marked & known) | on).sum())}
    for name, pixels in zip(COUNTS, (known & ~on, on), strict=True):
        row[name] = " ".join(map(str, np.bincount(where[pixels], minlength=len(CENTRES))))
    return row


@dataclass(frozen=True)
class Rows:
    """Rows of ``measure`` as arrays."""

    source: NDArray[np.int64]  # number of the file
    shots: NDArray[np.int64]
    label: NDArray[np.int64]
    shown: NDArray[np.bool_]
    measures: Floats
    intersection: Floats
    union: Floats
    area: Floats
    quality: Floats
    off: Floats  # (N, bins)
    on: Floats


def read(paths: list[Path]) -> Rows:
    """Read the rows of ``measure``."""
    rows: list[dict[str, str]] = []
    sources: list[int] = []
    for number, path in enumerate(paths):
        with path.open(encoding="utf8", newline="") as file:
            rows += csv.DictReader(file, delimiter="\t")
        sources += [number] * (len(rows) - len(sources))

    def floats(name: str) -> Floats:
        return np.array([float(row[name]) for row in rows])

    off, on = (np.array([[float(count) for count in row[name].split()] for row in rows]) for name in COUNTS)
    measures = np.stack([floats(name) for name in MEASURES], axis=1)
    label, shown = floats("class").astype(np.int64), floats("shows_class") > 0
    inter, union, area, quality = map(floats, ("intersection", "union", "area_share", "expected_iou"))
    shots = floats("shots").astype(np.int64)
    return Rows(np.array(sources), shots, label, shown, measures, inter, union, area, quality, off, on)


def logistic(values: Floats, truth: NDArray[np.bool_], weight: Floats, penalty: float) -> Floats:
    """Return the coefficients of a logistic regression, the last of which is the summand, by Newton's method."""
    design = np.c_[values, np.ones(len(values))]
    ridge = penalty * np.r_[np.ones(values.shape[1]), 0]
    found = np.zeros(design.shape[1])
    for _ in range(30):
        share = 1 / (1 + np.exp(-np.clip(design @ found, -60, 60)))
        gradient = design.T @ (weight * (share - truth)) + ridge * found
        curvature = (design * (weight * share * (1 - share) + 1e-12)[:, None]).T @ design + np.diag(ridge)
        found -= np.linalg.solve(curvature, gradient)
    return found


def fit_presence(rows: Rows, chosen: NDArray[np.bool_]) -> Floats:
    """Return coefficients for the raw measures, with equal weight of pictures with and without the class."""
    values, truth = rows.measures[chosen], rows.shown[chosen]
    mean, spread = values.mean(0), values.std(0) + 1e-9
    weight = np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())
    found = logistic((values - mean) / spread, truth, weight, PENALTY)
    slopes = found[:-1] / spread
    return np.append(slopes, found[-1] - slopes @ mean)


def fit_calibration(rows: Rows, chosen: NDArray[np.bool_]) -> Calibration:
    """Return the calibration of the logits in pictures with the class; each picture has the same weight."""
    own = chosen & rows.shown
    weights = [counts[own] / (rows.off + rows.on)[own].sum(1, keepdims=True) for counts in (rows.off, rows.on)]
    totals = [weight.sum(0) / own.sum() for weight in weights]
    truth = np.repeat([False, True], len(CENTRES))
    slope, offset = logistic(np.tile(CENTRES, 2)[:, None], truth, np.concatenate(totals), 0.0)
    return Calibration(float(slope), float(offset))


def scores(rows: Rows, coefficients: Floats) -> Floats:
    """Return the logits of presence."""
    values: Floats = rows.measures @ coefficients[:-1] + coefficients[-1]
    return values


def auroc(truth: NDArray[np.bool_], values: Floats) -> float:
    """Return the area under the ROC curve; ties count as a half."""
    order = np.sort(values[~truth])
    below = np.searchsorted(order, values[truth], "left") + np.searchsorted(order, values[truth], "right")
    return float(below.mean() / 2 / len(order))


def ranks(values: Floats) -> Floats:
    """Return the ranks of values."""
    return values.argsort(kind="stable").argsort(kind="stable").astype(np.float64)


def calibration_error(share: Floats, off: Floats, on: Floats) -> float:
    """Return the expected calibration error over equal bins of the probability."""
    where = np.minimum((share * BINS).astype(int), BINS - 1).reshape(-1)
    all_ = (off + on).reshape(-1)
    total = np.bincount(where, all_, BINS)
    gap = np.bincount(where, share.reshape(-1) * all_, BINS) - np.bincount(where, on.reshape(-1), BINS)
    return float(np.abs(gap).sum() / total.sum())


@dataclass(frozen=True)
class Judged:
    """Rows with what the constants that were fitted on the classes of other folds give: (N,) each."""

    rows: Rows
    presence: Floats  # logits
    slope: Floats
    offset: Floats


RULES = "a least score of presence", "a least logit of pixels", "a least probability of pixels, with that of presence"
POINTS = 0.0, 0.5, 1.0, 2.0, 3.0, 5.0  # of mIoU that a rule may cost


def lowest_logits(judged: Judged, rule: str, at: float) -> Floats:
    """Return the logit from which each row's pixels are marked; ``at`` goes from 0 (as before) to 1 (nothing)."""
    presence = (1 / (1 + np.exp(-judged.presence))).astype(np.float32)
    lowest = np.zeros(len(presence))
    if rule == RULES[1]:
        return lowest + 12 * at
    if rule == RULES[2]:
        for slope, offset in {*zip(judged.slope.tolist(), judged.offset.tolist(), strict=True)}:
            own = (judged.slope == slope) & (judged.offset == offset)
            lowest[own] = least_logits(0.0, at, presence[own], Calibration(slope, offset))
    return np.where(presence >= at, lowest, np.inf)


class Exchange(NamedTuple):
    """What marking pixels from a logit on gives, all in %."""

    area: float  # marked in pictures without the object
    miou: float  # with the object: mean over classes of summed intersections over summed unions
    mean_iou: float  # the same of each picture, averaged over pictures, then classes; small objects count as much


def exchange(rows: Rows, lowest: Floats, picks: NDArray[np.int64]) -> Exchange:
    """Return area and IoU of some rows if pixels are marked from a logit on."""
    marked = np.concatenate([[-np.inf], EDGES])[None] >= lowest[picks, None]  # (N, bins): by the bins' lower edges
    on, off = (rows.on[picks] * marked).sum(1), (rows.off[picks] * marked).sum(1)
    union, shown, label = rows.on[picks].sum(1) + off, rows.shown[picks], rows.label[picks]
    area = (off / rows.off[picks].sum(1))[~shown].mean()
    classes = [shown & (label == one) for one in np.unique(label[shown])]
    summed = np.mean([on[own].sum() / union[own].sum() for own in classes])
    each = np.mean([(on[own] / union[own]).mean() for own in classes])
    return Exchange(100 * float(area), 100 * float(summed), 100 * float(each))


def figures(judged: Judged, lowest: Floats, picks: NDArray[np.int64]) -> list[float]:
    """Return all figures of a sample of pictures, whose pixels are marked from a logit on."""
    rows, presence = judged.rows, judged.presence[picks]
    shown, label = rows.shown[picks], rows.label[picks]
    present = picks[shown]
    each = [auroc(shown[label == one], presence[label == one]) for one in np.unique(label[shown])]
    logit = judged.slope[picks, None] * CENTRES + judged.offset[picks, None]
    share = 1 / (1 + np.exp(-logit)) / (1 + np.exp(-presence))[:, None]
    quality, true = rows.quality[present], rows.intersection[present] / np.maximum(rows.union[present], 1)
    before, after = exchange(rows, np.zeros(len(rows.label)), picks), exchange(rows, lowest, picks)
    return [
        *(auroc(shown, presence), float(np.mean(each)), before.area, after.area, before.miou, after.miou),
        100 * float(np.isfinite(lowest[present]).mean()),
        calibration_error(share, rows.off[picks], rows.on[picks]),
        float(np.corrcoef(ranks(quality), ranks(true))[0, 1]),
        *(before.mean_iou, after.mean_iou),
    ]


NAMES = (
    *("presence: AUROC, all pictures", "presence: AUROC, mean over classes"),
    *("area marked without the object, %, without a decision", "area marked without the object, %, with the decision"),
    *("mIoU with the object, %, without a decision", "mIoU with the object, %, with the decision"),
    *("pictures with the object called present, %", "expected calibration error of pixels"),
    "rank correlation of expected and true IoU",
    *("IoU with the object, mean over pictures, %, without a decision", "the same with the decision"),
)


def relative(rows: Rows) -> Rows:
    """Return rows whose measures are compared with those of all pictures of their class in the same file."""
    measures = rows.measures.copy()
    nothing = torch.zeros(1, len(MEASURES))
    for source, label in {*zip(rows.source.tolist(), rows.label.tolist(), strict=True)}:
        chosen = (rows.source == source) & (rows.label == label)
        own = torch.from_numpy(measures[chosen]).float()[:, None]
        others = Expectation(nothing, torch.zeros(1), nothing, nothing).relative_to(own)
        measures[chosen] = others.standardised(own)[:, 0].numpy()
    return replace(rows, measures=measures)


def judged_by_others(rows: Rows, other: Rows) -> Judged:
    """Fit constants to ``other`` on the classes of three folds, and apply them to ``rows`` of the fourth."""
    presence, slope, offset = (np.zeros(len(rows.label)) for _ in range(3))
    for fold in range(FOLDS):
        own = (rows.label - 1) * FOLDS // CLASSES == fold
        rest = (other.label - 1) * FOLDS // CLASSES != fold
        presence[own] = scores(rows, fit_presence(other, rest))[own]
        slope[own], offset[own] = fit_calibration(other, rest)
    return Judged(rows, presence, slope, offset)


def judged_by_code(rows: Rows, *, compared: bool) -> Judged:
    """Apply the constants of the code, those for comparison with other pictures if ``compared``."""
    several = (rows.shots > 1)[:, None]
    coefficients = np.where(several, np.append(LEFT_OUT, LEFT_OUT_SUMMAND), np.append(ALONE, ALONE_SUMMAND))
    if compared:
        coefficients = np.broadcast_to(np.append(RELATIVE, RELATIVE_SUMMAND), coefficients.shape)
    presence = (rows.measures * coefficients[:, :-1]).sum(1) + coefficients[:, -1]
    slope, offset = (np.where(several[:, 0], *pair) for pair in zip(CALIBRATION_SEVERAL, CALIBRATION_ONE, strict=True))
    return Judged(rows, presence, slope, offset)


def judged(rows: Rows, other: Rows | None, *, adapted: bool) -> Judged:
    """Judge rows by constants that are fitted to others, or by those of the code."""
    alone = judged_by_others(rows, other) if other else judged_by_code(rows, compared=False)
    if not adapted:
        return alone
    own = relative(rows)
    compared = judged_by_others(own, relative(other)) if other else judged_by_code(own, compared=True)
    return replace(alone, presence=(alone.presence + compared.presence) / 2)


def with_intervals(judged: Judged, seed: int) -> list[tuple[float, float, float]]:
    """Return all figures, each with its 95 % interval over pictures."""
    rows, lowest = judged.rows, lowest_logits(judged, RULES[2], PRESENT)
    found = figures(judged, lowest, np.arange(len(rows.label)))
    kinds = [(label, side) for label in np.unique(rows.label) for side in (False, True)]
    groups = [np.flatnonzero((rows.label == label) & (rows.shown == side)) for label, side in kinds]
    rng = np.random.default_rng(seed)
    samples = [
        figures(judged, lowest, np.concatenate([rng.choice(group, len(group)) for group in groups]))
        for _ in range(DRAWS)
    ]
    low, high = np.percentile(samples, [2.5, 97.5], axis=0).tolist()
    return list(zip(found, low, high, strict=True))


def counted_pictures(rows: Rows) -> str:
    """Return how many pictures the rows are of."""
    return f"{int(rows.shown.sum())} pictures with the object, {int((~rows.shown).sum())} without."


def judge(options: argparse.Namespace) -> None:
    """Print the figures of rows."""
    rows, other = read(options.rows), read(options.fitted_on) if options.fitted_on else None
    found = judged(rows, other, adapted=options.adapted)
    print("| figure | value | 95 % |\n|---|---|---|")
    for name, (value, low, high) in zip(NAMES, with_intervals(found, options.seed), strict=True):
        print(f"| {name} | {value:.3g} | {low:.3g} to {high:.3g} |")
    print(f"\n{counted_pictures(rows)}\n")
    print("\n".join(exchange_table(found)))


def best_areas(judged: Judged, rule: str) -> list[float]:
    """Return the smallest area marked without the object, %, that each loss of mIoU in ``POINTS`` buys by a rule."""
    everything = np.arange(len(judged.presence))
    steps = np.linspace(0, 1, 101)[:-1]
    curve = [exchange(judged.rows, lowest_logits(judged, rule, at), everything) for at in steps]
    return [min(one.area for one in curve if one.miou >= curve[0].miou - points) for points in POINTS]


def exchange_table(judged: Judged) -> list[str]:
    """Return the table of the smallest areas by rule."""
    lines = [
        "| rule | " + " | ".join(f"−{points:g} mIoU" for points in POINTS) + " |",
        "|" + "---|" * (len(POINTS) + 1),
    ]
    return lines + [
        f"| {rule} | " + " | ".join(f"{area:.1f} %" for area in best_areas(judged, rule)) + " |" for rule in RULES
    ]


BARS = (  # name, what is asked, number among the figures
    ("AUROC of presence", "≥ 0.95", 0),
    ("area marked without the object, %", "≤ 3", 3),
    ("calibration error of pixels", "≤ 0.05", 7),
    ("rank correlation of expected and true IoU", "≥ 0.6", 8),
)


def bars(judgements: dict[str, Judged], intervals: dict[str, list[tuple[float, float, float]]]) -> list[str]:
    """Return the table of what is asked and what is reached; a column per judgement."""
    lines = [f"| bar | asked | {' | '.join(judgements)} |", "|---|---|" + "---|" * len(judgements)]
    for name, asked, at in BARS:
        cells = ["{:.3g} [{:.3g} to {:.3g}]".format(*intervals[key][at]) for key in judgements]
        lines.append(f"| {name} | {asked} | {' | '.join(cells)} |")
    costs = [
        [f"{round(intervals[key][at][0] - intervals[key][at + 1][0], 1) + 0.0:.1f}" for key in judgements]
        for at in (4, 9)
    ]
    areas = [f"{best_areas(one, RULES[2])[POINTS.index(1.0)]:.1f} %" for one in judgements.values()]
    lines.insert(4, f"| mIoU that this costs, points | ≤ 1 | {' | '.join(costs[0])} |")
    lines.insert(5, f"| area if the cost is one point | ≤ 3 % | {' | '.join(areas)} |")
    lines.insert(6, f"| mean IoU over pictures that the decision costs, points | – | {' | '.join(costs[1])} |")
    return lines


def write_page(options: argparse.Namespace) -> None:
    """Write the tables below the mark of the page; its text is written by hand."""
    other = read(options.train)
    judgements: dict[str, Judged] = {}
    intervals: dict[str, list[tuple[float, float, float]]] = {}
    sections: list[str] = []
    for path in [*options.val, *options.train]:
        rows = read([path])
        alone, adapted = (judged(rows, other, adapted=one) for one in (False, True))
        found = [with_intervals(one, options.seed) for one in (alone, adapted)]
        sections += ["", f"## {path.stem}", "", "| figure | supports alone [95 %] | adapted to the pictures [95 %] |"]
        sections.append("|---|---|---|")
        for name, *values in zip(NAMES, *found, strict=True):
            cells = ["{:.3g} [{:.3g} to {:.3g}]".format(*value) for value in values]
            sections.append(f"| {name} | {' | '.join(cells)} |")
        sections += ["", counted_pictures(rows), "", "Area marked without the object, by what a rule may cost in mIoU;"]
        sections += ["supports alone:", "", *exchange_table(alone), "", "Adapted to the pictures:", ""]
        sections += exchange_table(adapted)
        if path in options.val:
            name = f"{path.stem}, constants of the code"
            judgements |= {path.stem: alone, name: judged(rows, None, adapted=False)}
            intervals |= {path.stem: found[0], name: with_intervals(judgements[name], options.seed)}
    write_below(options.out, MARK, [*bars(judgements, intervals), *sections])


def fit(options: argparse.Namespace) -> None:
    """Print the constants that follow from all rows."""
    rows = read(options.rows)
    everything = np.ones(len(rows.label), bool)
    print("calibration:", *(f"{value:.3f}" for value in fit_calibration(rows, everything)))
    for kind, own in (("as measured", rows), ("relative to the other pictures", relative(rows))):
        print(f"{kind}:")
        for name, value in zip((*MEASURES, "summand"), fit_presence(own, everything), strict=True):
            print(f"    {name}: {value:.4f}")


def main() -> None:
    """Run one of the three parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    measured = parts.add_parser("measure")
    measured.add_argument("--voc", type=Path, required=True)
    measured.add_argument("--list", default="val")
    measured.add_argument("--weights", required=True)
    measured.add_argument("--stem", default="")
    measured.add_argument("--shots", type=int, default=5)
    measured.add_argument("--together", action="store_true", help="search for all classes at once")
    measured.add_argument("--queries", type=int, help="with and without each class, at most; by default all")
    measured.add_argument("--features", type=Path, required=True, help="scratch folder for the features")
    measured.add_argument("--min-pixels", type=int, default=1152)
    measured.add_argument("--seed", type=int, default=0)
    measured.add_argument("--out", type=Path, required=True)
    measured.set_defaults(run=measure)
    fitted = parts.add_parser("fit")
    fitted.add_argument("--rows", type=Path, nargs="+", required=True)
    fitted.set_defaults(run=fit)
    judge_part = parts.add_parser("judge")
    judge_part.add_argument("--rows", type=Path, nargs="+", required=True)
    judge_part.add_argument(
        "--fitted-on", type=Path, nargs="+", help="rows of training images; or the code's constants"
    )
    judge_part.add_argument("--adapted", action="store_true", help="compare measures with those of the other pictures")
    judge_part.add_argument("--seed", type=int, default=0)
    judge_part.set_defaults(run=judge)
    page = parts.add_parser("page")
    page.add_argument("--val", type=Path, nargs="+", required=True)
    page.add_argument("--train", type=Path, nargs="+", required=True)
    page.add_argument("--seed", type=int, default=0)
    page.add_argument("--out", type=Path, required=True)
    page.set_defaults(run=write_page)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
