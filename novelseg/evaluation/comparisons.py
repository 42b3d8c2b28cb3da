"""Tables of the report, computed from the rows of evaluations."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.random import numpy_generator
from novelseg.data.index import ATTRIBUTES
from novelseg.evaluation.metrics import bootstrap_miou, class_iou, scores, seed_mean
from novelseg.formats import tables
from novelseg.formats.about import read_about
from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.episode_results import RESULTS
from novelseg.formats.files import ABOUT, ROWS
from novelseg.formats.record import fits
from novelseg.formats.results import SCORES
from novelseg.methods.variants import NAMES, VARIANTS

MEAN = "mean"
# Keys of the protocol that `evaluate` records.
PROTOCOL_KEYS = (*ATTRIBUTES, "resolution", "weights", "cam")
# Types of what the tables use of a record and of its protocol.
ABOUT_TYPES: dict[str, Any] = {
    **{"fold": int, "shot": int, "classes": dict[str, str], "parameters": dict[str, int]},
    **{"unscored": list[str]},
}
PROTOCOL_TYPES: dict[str, Any] = {
    **{"classes": list[str], "lists": list[str], "list_digests": list[str], "folds": int, "held_out": int},
    **{"source": str, "layout": str, "novel_images": str, "min_object_pixels": int, "resolution": str},
    **{"weights": str, "cam": str},
}
# Keys among them whose values are columns of the tables.
COPIED_KEYS = ("source", "novel_images", "min_object_pixels", "resolution", "weights", "cam")


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one fold and shot: its folder, its rows, and the record ``about`` them."""

    folder: Path
    rows: pd.DataFrame
    about: dict[str, Any]


def read_evaluations(folders: list[Path]) -> list[Evaluation]:
    """Read folders that `evaluate` wrote, sorted by fold and shot; their order does not matter.

    Raises
    ------
    InputError
        If a folder cannot be read, or a fold and shot is given twice.
    """
    read = [read_evaluation(folder) for folder in folders]
    read.sort(key=lambda evaluation: (evaluation.about["fold"], evaluation.about["shot"]))
    for first, second in pairwise(read):
        same = all(first.about[key] == second.about[key] for key in ("fold", "shot", "protocol"))
        if same:  # of two protocols, the tables themselves complain
            raise InputError(
                f"{second.folder}: evaluates fold {second.about['fold']} with {second.about['shot']} support(s), as "
                f"does {first.folder}; give each once"
            )
    return read


def read_evaluation(folder: Path) -> Evaluation:
    """Read a folder that `evaluate` wrote.

    Raises
    ------
    InputError
        If a file is missing or cannot be read, or was written by older code.
    """
    about = folder / ABOUT
    record = read_about(about, "evaluate")
    protocol = record.get("protocol")
    absent = [key for key in PROTOCOL_KEYS if not isinstance(protocol, dict) or key not in protocol]
    if absent:
        raise InputError(f"{about}: made by older code, which did not record `{absent[0]}`; rerun `evaluate`")
    for key, kind in ABOUT_TYPES.items():
        if not fits(record.get(key), kind):
            raise InputError(f"{about}: '{key}' is {record.get(key)!r:.60}; expected {kind}; rerun `evaluate`")
    for key, kind in PROTOCOL_TYPES.items():
        if not fits(record["protocol"][key], kind):
            raise InputError(f"{about}: '{key}' is {record['protocol'][key]!r:.60}; expected {kind}; rerun `evaluate`")
    lists, names = (record["protocol"][key] for key in ("list_digests", "classes"))
    if not len(record["protocol"]["lists"]) == len(lists) == 2 or len(set(names)) < len(names):
        raise InputError(f"{about}: does not name two lists with their digests, or a class twice; rerun `evaluate`")
    if not 0 <= record["fold"] < record["protocol"]["folds"] or record["shot"] < 1:
        raise InputError(f"{about}: states fold {record['fold']} and {record['shot']} supports; rerun `evaluate`")
    rows = tables.read(folder / ROWS, RESULTS)
    if fault := _rows_fault(rows, record):
        raise InputError(f"{folder / ROWS}: {fault}; rerun `evaluate`")
    return Evaluation(folder, rows, record)


def _rows_fault(rows: pd.DataFrame, about: dict[str, Any]) -> str:
    """Return as a phrase why rows of an evaluation cannot be its result; empty if they can."""
    if rows.empty:
        return "has no rows"
    if unknown := sorted(set(rows["variant"]) - set(NAMES)):
        return f"has the unknown variant '{unknown[0]}'"
    if unnamed := sorted(set(rows["variant"]) - about["parameters"].keys()):
        return f"has the variant '{unnamed[0]}', which {ABOUT} does not describe"
    if strange := sorted(set(rows["class"].astype(str)) - about["classes"].keys()):
        return f"has the class {strange[0]}, which {ABOUT} does not name"
    return ""


def _variants(evaluation: Evaluation) -> list[str]:
    return list(dict.fromkeys(evaluation.rows["variant"]))


def protocol_columns(evaluations: list[Evaluation], name: str) -> dict[str, str | int]:
    """Return the protocol of all evaluations as columns of a table.

    Raises
    ------
    InputError
        If two evaluations follow different protocols.
    """
    first = evaluations[0]
    protocol = first.about["protocol"]
    for other in evaluations[1:]:
        for key in PROTOCOL_KEYS:
            value = other.about["protocol"][key]
            if value != protocol[key]:
                raise InputError(
                    f"{other.folder}: its {key} is {value}, but {first.folder} has {protocol[key]}; a table holds one "
                    "protocol: report these evaluations separately"
                )
    train, val = (f"{name} {md5}" for name, md5 in zip(protocol["lists"], protocol["list_digests"], strict=True))
    names = "".join(f"{name}\n" for name in protocol["classes"])
    return {
        "protocol": name,
        "classes": f"{len(protocol['classes'])} {hashlib.md5(names.encode()).hexdigest()}",
        "train_list": train,
        "val_list": val,
        "folds": f"{protocol['folds']} {protocol['layout']}"
        + (f", {fold} held out" if (fold := protocol["held_out"]) >= 0 else ""),
        **{key: protocol[key] for key in COPIED_KEYS},
    }


def _variant_columns(columns: dict[str, str | int], variant: str) -> dict[str, str | int]:
    """Return the protocol columns of a variant; the CAM prior has a resolution of its own."""
    return {**columns, "resolution": columns["cam"]} if variant.startswith("cam") else columns


def score_table(evaluations: list[Evaluation], protocol: str, samples: int, seed: int) -> pd.DataFrame:
    """Build the table of scores: one row per fold, shot and variant, and one per mean over several folds."""
    rows: list[dict[str, Any]] = []
    columns = protocol_columns(evaluations, protocol)
    for evaluation in evaluations:
        fold, shot = evaluation.about["fold"], evaluation.about["shot"]
        for variant in _variants(evaluation):
            part = evaluation.rows[evaluation.rows["variant"] == variant]
            # All variants have the same key, so that their intervals come from the same resampled query images.
            variant_scores = scores(part, samples, numpy_generator(seed, "bootstrap", fold, shot))
            rows.append(
                {
                    **_variant_columns(columns, variant),
                    "fold": str(fold),
                    "shot": shot,
                    "variant": variant,
                    **asdict(variant_scores),
                    "episodes": len(part),
                    "seeds": part["seed"].nunique(),
                    "parameters": evaluation.about["parameters"][variant],
                    "unscored": ", ".join(evaluation.about["unscored"]),
                }
            )
    frame = pd.DataFrame(rows)
    frame = pd.concat([frame, *_means(frame)], ignore_index=True)
    return frame[[column.name for column in SCORES.columns]]


def _means(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Average over folds, which are independent: deviations and half intervals add in quadrature."""
    parts = []
    for (shot, variant), part in frame.groupby(["shot", "variant"], sort=False):
        if len(part) == 1:
            continue
        count = len(part)
        miou = part["miou"].mean()
        below, above = (
            float(np.sqrt((side**2).sum()) / count)
            for side in (part["miou"] - part["miou_low"], part["miou_high"] - part["miou"])
        )
        row = {
            **part.iloc[0].to_dict(),
            "fold": MEAN,
            "shot": shot,
            "variant": variant,
            "miou": miou,
            "miou_low": miou - below,
            "miou_high": miou + above,
            "miou_std": float(np.sqrt((part["miou_std"] ** 2).sum()) / count),
            "fb_iou": part["fb_iou"].mean(),
            "fb_iou_std": float(np.sqrt((part["fb_iou_std"] ** 2).sum()) / count),
            "episodes": part["episodes"].sum(),
            "unscored": ", ".join(filter(None, part["unscored"])),
        }
        parts.append(pd.DataFrame([row]))
    return parts


def class_table(evaluations: list[Evaluation], protocol: str) -> pd.DataFrame:
    """Build the table of class scores: one row per fold, shot, variant and novel class."""
    rows = []
    columns = protocol_columns(evaluations, protocol)
    for evaluation in evaluations:
        about = evaluation.about
        for variant in _variants(evaluation):
            part = evaluation.rows[evaluation.rows["variant"] == variant]
            for label, iou in class_iou(part).items():
                rows.append(
                    {
                        **_variant_columns(columns, variant),
                        "fold": about["fold"],
                        "shot": about["shot"],
                        "variant": variant,
                        "class": about["classes"][str(label)],
                        "iou": 100 * iou,
                        "episodes": int((part["class"] == label).sum()),
                    }
                )
    return pd.DataFrame(rows)[[column.name for column in CLASS_SCORES.columns]]


def comparison_table(evaluations: list[Evaluation], protocol: str, samples: int, seed: int) -> pd.DataFrame:
    """Build the table of comparisons: one row per pair of variants, shot, and fold or mean over folds.

    Both variants of a pair are scored on the same resampled query images.
    """
    columns = protocol_columns(evaluations, protocol)
    pairs = [(variant.name, reference) for variant in VARIANTS for reference in variant.compared_with]
    rows = []
    for shot in sorted({evaluation.about["shot"] for evaluation in evaluations}):
        folds = [evaluation for evaluation in evaluations if evaluation.about["shot"] == shot]
        resamples = {str(part.about["fold"]): _samples(part, samples, seed) for part in folds}
        if len(folds) > 1:  # folds are independent, and so are their resamples
            shared = set.intersection(*(set(mious) for mious in resamples.values()))
            means = {name: np.mean([mious[name] for mious in resamples.values()], axis=0) for name in shared}
            resamples[MEAN] = means
        for fold, mious in resamples.items():
            for variant, reference in pairs:
                if variant in mious and reference in mious:
                    gains = mious[variant] - mious[reference]
                    low, high = np.percentile(gains[1:], [2.5, 97.5])
                    names = {"fold": fold, "shot": shot, "variant": variant, "reference": reference}
                    scores = {"gain": gains[0], "gain_low": low, "gain_high": high, "better": (gains[1:] > 0).mean()}
                    rows.append({**_variant_columns(columns, variant), **names, **scores})
    return pd.DataFrame(rows, columns=[column.name for column in COMPARISONS.columns])


def _samples(evaluation: Evaluation, samples: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return mIoU of each variant, per cent: first the mean over seeds, then one value per bootstrap sample."""
    mious = {}
    for variant, part in evaluation.rows.groupby("variant", sort=False):
        rng = numpy_generator(seed, "bootstrap", evaluation.about["fold"], evaluation.about["shot"])
        mious[str(variant)] = 100 * np.append(seed_mean(part), bootstrap_miou(part, samples, rng))
    return mious


def metrics(table: pd.DataFrame) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Nest the scores for `dvc metrics` by fold, shot and variant."""
    nested: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for row in table.to_dict("records"):
        fold = row["fold"] if row["fold"] == MEAN else f"fold{row['fold']}"
        variants = nested.setdefault(fold, {}).setdefault(f"{row['shot']}-shot", {})
        variants[row["variant"]] = {name: round(float(row[name]), 4) for name in ("miou", "miou_std", "fb_iou")}
    return nested
