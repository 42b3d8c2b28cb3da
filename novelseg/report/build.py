"""The report: what a page says about evaluations, trainings and studies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from novelseg.core.errors import InputError
from novelseg.evaluation.comparisons import Evaluation
from novelseg.formats.files import WEIGHTS
from novelseg.formats.network import read_record
from novelseg.formats.record import NetworkRecord
from novelseg.report import pictures
from novelseg.report.page import only_fold


def run_name(folder: Path) -> str:
    """Name of a training from the record that lies beside its weights."""
    record = read_record(folder / WEIGHTS, NetworkRecord)
    shot = f" {record.shot}-shot" if record.shot else ""
    variant = f" {record.variant}" if record.variant else ""
    return f"{record.stage} fold {record.fold}{shot}{variant}"


def protocol_note(evaluations: list[Evaluation]) -> str:
    """What the page says of the protocol under its title."""
    protocol = evaluations[0].about["protocol"]
    unscored = sorted({name for evaluation in evaluations for name in evaluation.about["unscored"]})
    return (
        f"Training list: {protocol['lists'][0]}; training images with novel classes: {protocol['novel_images']}. "
        f"Validation list: {protocol['lists'][1]}. Folds: {protocol['folds']}, {protocol['layout']}. "
        f"Small-object rule: {protocol['min_object_pixels']} px. Training images: {protocol['resolution']}; "
        f"tests at the images' own size. Pretrained weights: {protocol['weights']}. "
        + (f"CAM prior: {protocol['cam']} (the paper: the last features, at 320 px). " if protocol["cam"] else "")
        + (f"Novel classes left out: {', '.join(unscored)}. " if unscored else "")
        + "The last iterate of every training is scored; none was chosen."
    )


def figures(logs: dict[str, pd.DataFrame], table: pd.DataFrame, studies: Path | None) -> list[tuple[str, str]]:
    """Figures with their titles: over supports, of the studies that were run, of the losses.

    Raises
    ------
    InputError
        If there is a folder of studies without one in it.
    """
    found = []
    if len(set(table["shot"])) > 1:
        fold = only_fold(table)
        title = f"mIoU against supports, fold {fold}, with 95 % intervals"
        found.append((title, pictures.shots_curve(table, fold)))
    figures = sorted(studies.glob("*/curve.svg")) if studies else []
    if studies and not figures:
        raise InputError(
            f"{studies}: holds no study (NAME/curve.svg); run `python -m workflow study`, or empty report.studies"
        )
    found += [(f"Study: {path.parent.name}", pictures.svg_uri(path)) for path in figures]
    return [*found, *pictures.loss_curves(logs)]
