"""The tables of docs/results/cam-classifier.md, computed from the rows."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.camclassifier.cache import FOLDS
from benchmarks.camclassifier.episodes import DRAWS, SUPPORTS
from novelseg.ops.counts import COUNTS

LEARNED = 0.5  # training accuracy from which a classifier counts as trained (cam.classifier_accuracy)


def samples_of(rows: pd.DataFrame, score: str, times: NDArray[np.int64], queries: list[str]) -> NDArray[np.float64]:
    """Compute a score, per cent, of all rows (first) and of resampled queries, (1 + samples,)."""
    place = {query: number for number, query in enumerate(queries)}
    where = rows["query"].map(place).to_numpy()
    every = np.concatenate([np.ones((1, len(queries)), np.int64), times])
    if score == "miou":
        classes = rows["class"].astype("category").cat.codes.to_numpy()
        tables = []
        for name in ("fg_intersection", "fg_union"):
            table = np.zeros((len(queries), classes.max() + 1))
            np.add.at(table, (where, classes), rows[name].to_numpy())
            tables.append(every @ table)
        values: NDArray[np.float64] = np.nanmean(
            np.where(tables[1] > 0, tables[0] / np.maximum(tables[1], 1), np.nan), 1
        )
        return 100 * values
    sums = np.zeros((len(queries), len(COUNTS)))
    np.add.at(sums, where, rows[list(COUNTS)].to_numpy())
    total = every @ sums
    halves: NDArray[np.float64] = (total[:, 0] / total[:, 1] + total[:, 2] / total[:, 3]) / 2
    return 100 * halves


def fold_samples(rows: pd.DataFrame, name: str, score: str) -> dict[str, NDArray[np.float64]]:
    """Compute a score of every value of a column on the same resampled queries of one fold, the mean over seeds."""
    queries = sorted(rows["query"].unique())
    times = np.random.default_rng(0).multinomial(len(queries), np.full(len(queries), 1 / len(queries)), size=DRAWS)
    return {
        str(value): np.mean([samples_of(one, score, times, queries) for _, one in part.groupby("seed")], axis=0)
        for value, part in rows.groupby(name)
    }


def shown(values: NDArray[np.float64], sign: str = "") -> str:
    """Write a value and the 95 % interval of its samples."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return f"{values[0]:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    """Write a table."""
    return [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {' | '.join(row)} |" for row in rows), ""]


def maps_section(frame: pd.DataFrame) -> list[str]:
    """Write what the classifiers learned and what their maps tell, and the choice of every fold."""
    lines = []
    keys = ["pooling", "relu", "iterations"]
    own = frame[(frame["support"] == "own") & (frame["weighting"] == "scores")]
    pseudo = own[own["list"] == "pseudo-novel"]
    other = frame[(frame["support"] == "other") & (frame["list"] == "pseudo-novel")].set_index(["fold", *keys])
    uniform = frame[(frame["support"] == "uniform") & (frame["list"] == "pseudo-novel")].set_index(["fold", *keys])
    rows = []
    for key, part in pseudo.groupby(keys, sort=False):
        indexed = part.set_index(["fold", *keys])
        apart = other.loc[indexed.index]
        rows.append(
            [
                *(f"`{key[0]}`", "yes" if key[1] else "no", f"{key[2]}"),
                *(f"{part[name].mean():.2f}" for name in ("train_accuracy", "val_accuracy", "val_commonest")),
                *(f"{part['val_loss'].mean():.3f}", f"{part['auc'].mean():.3f}", f"{apart['auc'].mean():.3f}"),
                *(f"{uniform.loc[indexed.index]['auc'].mean():.3f}", f"{apart['own_minus'].mean():+.3f}"),
                f"{part['miou'].mean():.1f}",
            ]
        )
    header = ["`pooling`", "`relu`", "iterations", "accuracy, training", "held-out", "commonest class", "held-out loss"]
    header += ["AUC, own support", "another's", "S = 1", "own − another's", "map alone, mIoU"]
    lines += markdown(header, rows)
    return lines


def choice_section(frame: pd.DataFrame) -> list[str]:
    """Write the setting of each fold that is best on its pseudo-novel classes, and its result on the novel ones."""
    keys = ["pooling", "relu", "iterations"]
    rows = []
    own = frame[(frame["support"] == "own") & (frame["weighting"] == "scores")]
    for fold in range(FOLDS):
        pseudo = own[(own["list"] == "pseudo-novel") & (own["fold"] == fold) & (own["train_accuracy"] >= LEARNED)]
        best = pseudo.sort_values("auc", kind="stable").iloc[-1]
        same = frame[(frame["fold"] == fold) & (frame["list"] == "novel")]
        same = same[(same[keys] == best[keys]).all(axis=1) & (same["weighting"] == "scores")].set_index("support")
        cells = [f"{fold}", f"`{best['pooling']}`", "yes" if best["relu"] else "no", f"{best['iterations']}"]
        cells += [f"{best['auc']:.3f}", *(f"{float(str(same.loc[name, 'auc'])):.3f}" for name in SUPPORTS)]
        gain = same.loc["other"]
        cells += [
            f"{gain['own_minus']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]",
            f"{float(str(same.loc['own', 'miou'])):.1f}",
        ]
        rows.append(cells)
    header = ["fold", "`pooling`", "`relu`", "iterations", "AUC, pseudo-novel", "AUC, novel: own support", "another's"]
    return markdown([*header, "S = 1", "shuffled", "own − another's [95 %]", "map alone, mIoU"], rows)


def weighting_section(frame: pd.DataFrame) -> list[str]:
    """Write AUC and mIoU of the map by the weighting of the known classes' maps, on pseudo-novel classes."""
    rows = []
    part = frame[(frame["list"] == "pseudo-novel") & (frame["support"] == "own")]
    part = part[part["iterations"] == part["iterations"].max()]
    for key, one in part.groupby(["pooling", "relu", "weighting"], sort=False):
        cells = [f"`{key[0]}`", "yes" if key[1] else "no", f"`{key[2]}`"]
        rows.append([*cells, f"{one['auc'].mean():.3f}", f"{one['miou'].mean():.1f}"])
    return markdown(["`pooling`", "`relu`", "`weighting`", "AUC", "map alone, mIoU"], rows)


def joint_section(frame: pd.DataFrame) -> list[str]:
    """Write mIoU and FB-IoU of the joint trainings with held-out classes."""
    rows = []
    keys, frame = ["pooling", "relu", "classifier", "joint"], frame.assign(seed=0)
    frame["row"] = frame["support"] + frame["detach"].map(" {:g}".format)
    for key, part in frame.groupby(keys):
        samples = {
            score: [fold_samples(one, "row", score) for _, one in part.groupby("fold")] for score in ("miou", "fb_iou")
        }
        mean = {
            score: {name: np.mean([one[name] for one in folds], axis=0) for name in folds[0]}
            for score, folds in samples.items()
        }
        constant = next((name for name in mean["miou"] if name.startswith("constant")), "")
        for name in [*(name for name in mean["miou"] if name.startswith("own")), *([constant] if constant else [])]:
            own, share = mean["miou"][name], name.rpartition(" ")[2]
            cells = [f"`{key[0]}`", "yes" if key[1] else "no", f"{key[2]}", f"{key[3]}"]
            cells += ["constant map"] if name == constant else [f"map, {share} detached"]
            cells += [shown(own), shown(mean["fb_iou"][name])]
            if name != constant:
                cells += [shown(own - mean["miou"][f"other {share}"], "+")]
                cells += [shown(own - mean["miou"][constant], "+")] if constant else []
            rows.append([*cells, "", ""][:9])
    header = ["`pooling`", "`relu`", "classifier's iterations", "joint", "trained with", "`cam`, mIoU", "FB-IoU"]
    return markdown([*header, "minus another episode's support, mIoU", "minus constant, mIoU"], rows)


def ablation_section(frame: pd.DataFrame) -> list[str]:
    """Write scores and paired differences of the ablation on the novel classes, of one training seed."""
    lines, frame = [], frame[frame["seed"] == 0]
    sums = frame.groupby(["fold", "variant"])[list(COUNTS)].sum()
    # Prediction and object together have as many pixels as their union and intersection; the object is the same.
    both, valid = sums["fg_union"] + sums["fg_intersection"], sums["bg_union"] + sums["fg_intersection"]
    more = 100 * (both - both.xs("cam, map", level="variant")) / valid
    marked = more.groupby("variant").mean()
    for score, name in (("miou", "mIoU"), ("fb_iou", "FB-IoU")):
        folds = {str(fold): fold_samples(part, "variant", score) for fold, part in frame.groupby("fold")}
        variants = sorted(
            {variant for one in folds.values() for variant in one}, key=lambda text: (len(text) > 20, text)
        )
        rows = []
        for variant in variants:
            held = [one for one in folds.values() if variant in one]
            mean, best = (np.mean([one[key] for one in held], axis=0) for key in (variant, "cam, map"))
            cells = [f"{one[variant][0]:.1f}" if variant in one else "–" for one in folds.values()]
            gain = "" if variant == "cam, map" else shown(best - mean, "+")
            rows.append([f"`{variant}`", *cells, shown(mean), gain, f"{marked[variant]:+.1f}"])
        header = [f"{name}", *(f"fold {fold}" for fold in folds), "mean [95 %]", "`cam, map` minus it [95 %]"]
        header += ["area marked beside `cam, map`, % of the pictures"]
        lines += markdown(header, rows)
    return lines


def seed_samples(rows: pd.DataFrame, score: str) -> dict[str, NDArray[np.float64]]:
    """Compute a score of every variant for each training seed of a fold, on the same resampled queries and seeds.

    Returns
    -------
    dict of (seeds + 1, 1 + samples)
        A row per seed, and at the end the mean over seeds, whose samples draw both queries and seeds with replacement.
    """
    queries, seeds = sorted(rows["query"].unique()), sorted(rows["seed"].unique())
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(queries), np.full(len(queries), 1 / len(queries)), size=DRAWS)
    weights = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=DRAWS) / len(seeds)
    weights = np.concatenate([np.full((1, len(seeds)), 1 / len(seeds)), weights]).T  # (seeds, 1 + samples)
    found = {}
    for variant, part in rows.groupby("variant"):
        each = np.stack([samples_of(part[part["seed"] == seed], score, times, queries) for seed in seeds])
        found[str(variant)] = np.concatenate([each, (weights * each).sum(0, keepdims=True)])
    return found


def seeds_section(frame: pd.DataFrame) -> list[str]:
    """Write the ablation of folds that were trained with several seeds."""
    rows = []
    seeds = sorted(frame["seed"].unique())
    for fold, part in frame.groupby("fold"):
        complete = part.groupby("variant")["seed"].nunique() == len(seeds)
        part = part[part["variant"].map(complete)]
        if part["seed"].nunique() < 2:
            continue
        scores = {score: seed_samples(part, score) for score in ("miou", "fb_iou")}
        for variant in sorted(scores["miou"], key=lambda name: name != "cam, map"):
            for score, name in (("miou", "mIoU"), ("fb_iou", "FB-IoU")):
                own, reference = scores[score][variant], scores[score]["cam, map"]
                values = own if variant == "cam, map" else reference - own
                sign = "" if variant == "cam, map" else "+"
                cells = [f"{one[0]:{sign}.1f}" for one in values[:-1]]
                spread = np.std(values[:-1, 0], ddof=1)
                title = f"`{variant}`" if variant == "cam, map" else f"`cam, map` minus `{variant}`"
                rows.append([str(fold), title, name, *cells, f"± {spread:.1f}", shown(values[-1], sign)])
    header = ["fold", "variant", "score", *(f"seed {seed}" for seed in seeds), "between seeds", "all seeds [95 %]"]
    return markdown(header, rows)


def curves_section(frame: pd.DataFrame) -> list[str]:
    """Write the areas under the curve after the joint training."""
    rows = []
    for (detach, seed, fold), part in frame.groupby(["detach", "seed", "fold"]):
        one = part.set_index("support")
        gain = one.loc["other"]
        cells = [str(detach), str(fold), str(seed), *(f"{float(str(one.loc[name, 'auc'])):.3f}" for name in SUPPORTS)]
        rows.append([*cells, f"{gain['own_minus']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"])
    return markdown(
        ["detached share", "fold", "seed", "own support", "another's", "S = 1", "shuffled", "own − another's [95 %]"],
        rows,
    )


SECTIONS = {
    "maps": ("cam-classifier-maps.tsv", maps_section),
    "weighting": ("cam-classifier-maps.tsv", weighting_section),
    "choice": ("cam-classifier-maps.tsv", choice_section),
    "joint": ("cam-classifier-joint.tsv", joint_section),
    "ablation": ("cam-classifier-ablation.tsv", ablation_section),
    "seeds": ("cam-classifier-ablation.tsv", seeds_section),
    "curves": ("cam-classifier-curves.tsv", curves_section),
}


def write_tables(options: argparse.Namespace) -> None:
    """Compute the tables of the document from the rows, between its markers; the text around them stays."""
    path = options.out / "cam-classifier.md"
    lines = path.read_text(encoding="utf8").splitlines()
    for name, (file, section) in SECTIONS.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if not (options.out / file).exists() or start not in lines:
            continue
        table = section(pd.read_csv(options.out / file, sep="\t", dtype={"query": str}))
        lines[lines.index(start) + 1 : lines.index(end)] = ["", *table]
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
