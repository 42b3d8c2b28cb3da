"""Texts and figures of the report page: names of trainings, description of the protocol, and curves."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from novelseg.core.errors import InputError
from novelseg.evaluation.comparisons import MEAN, Evaluation
from novelseg.formats.files import WEIGHTS
from novelseg.formats.network import read_record
from novelseg.formats.protocol import missing_rows
from novelseg.formats.record import NetworkRecord
from novelseg.report import pictures
from novelseg.report.answers import summary_fold

TRAINERS = ("baseline", "train", "cam")  # stages that train, in the order of their curves


def run_names(folders: list[Path]) -> dict[str, Path]:
    """Return the folders of trainings by their names, sorted by stage, fold, shot and variant.

    Raises
    ------
    InputError
        If a training is given twice, or a folder has no network.
    """
    records = [(read_record(folder / WEIGHTS, NetworkRecord), folder) for folder in folders]
    names: dict[str, Path] = {}
    for record, folder in sorted(records, key=lambda entry: _rank(entry[0])):
        name = run_name(record)
        if name in names:
            raise InputError(f"{folder}: holds the training '{name}', as does {names[name]}; give each once")
        names[name] = folder
    return names


def _rank(record: NetworkRecord) -> tuple[int, int, int, str]:
    stage = TRAINERS.index(record.stage) if record.stage in TRAINERS else len(TRAINERS)
    return stage, record.fold, record.shot or 0, record.variant or ""


def run_name(record: NetworkRecord) -> str:
    """Return the name of a training."""
    shot = f" {record.shot}-shot" if record.shot else ""
    variant = f" {record.variant}" if record.variant else ""
    return f"{record.stage} fold {record.fold}{shot}{variant}"


def protocol_note(evaluations: list[Evaluation]) -> list[tuple[str, str]]:
    """Return the facts of the protocol of the evaluations, by name."""
    protocol = evaluations[0].about["protocol"]
    unscored = sorted({name for evaluation in evaluations for name in evaluation.about["unscored"]})
    facts = {
        "training list": protocol["lists"][0],
        "validation list": protocol["lists"][1],
        "training images with novel classes": protocol["novel_images"],
        "folds": f"{protocol['folds']}, {protocol['layout']}",
        "minimum size of an object": f"{protocol['min_object_pixels']} px",
        "training images": protocol["resolution"],
        "test images": "at their own size",
        "rows": missing_rows(protocol["resolution"]),
        "CAM prior": f"{protocol['cam']} (the paper: the last features, at 320 px)" if protocol["cam"] else "",
        "novel classes left out": ", ".join(unscored),
        "pretrained weights, MD5": protocol["weights"],
        "choice of weights": "those after the last iteration; no checkpoint was selected",
    }
    return [(name, value) for name, value in facts.items() if value]


def figures(logs: dict[str, pd.DataFrame], table: pd.DataFrame, studies: Path | None) -> list[tuple[str, str]]:
    """Draw the figures: mIoU of all variants, curves of the studies, and losses.

    Parameters
    ----------
    logs
        Log of each training, by its name.
    table
        Scores of all variants, folds and shots.
    studies
        Folder of studies, or None.

    Returns
    -------
    list of tuple
        Title and data URI of each figure.

    Raises
    ------
    InputError
        If the folder ``studies`` contains no study.
    """
    fold = summary_fold(table)
    where = "mean over folds" if fold == MEAN else f"fold {fold}"
    titled = [(f"mIoU with 95 % intervals, {where}", pictures.intervals(table[table["fold"] == fold]))]
    curves = sorted(studies.glob("*/curve.svg")) if studies else []
    if studies and not curves:
        raise InputError(
            f"{studies}: contains no study (NAME/curve.svg); run `python -m workflow study`, or leave report.studies "
            "empty"
        )
    titled += [(f"Study: {path.parent.name}", pictures.svg_uri(path)) for path in curves]
    return [*titled, *pictures.loss_curves(logs)]
