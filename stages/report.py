"""Write the report: tables, metrics and one page.

Reads
    the folders of all trainings and evaluations, and of studies, if any; for the pictures ``index``, ``images`` and
    ``regions`` (all shards), ``prototypes`` (of every fold), ``features`` and ``pseudolabels`` (all shards of every
    fold, fold after fold).
Writes
    a folder: ``index.html``, ``results.tsv``, ``classes.tsv``, ``comparisons.tsv``, ``metrics.json``, ``plots/`` (one
    log per training).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from novelseg.core.files import whole_folder
from novelseg.core.options import Help
from novelseg.data.index import read_index
from novelseg.data.store import ImageStore
from novelseg.evaluation.comparisons import class_table, comparison_table, metrics, read_evaluations, score_table
from novelseg.formats import tables
from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.files import LOG_FILE
from novelseg.formats.regions import REGIONS
from novelseg.formats.results import SCORES
from novelseg.formats.shards import in_order
from novelseg.formats.training_log import LOG
from novelseg.report.build import figures, protocol_note, run_names
from novelseg.report.cards import episodes_browser, gallery_browser, group_by_fold, labels_browser
from novelseg.report.page import render
from stages.options import ImageShards, IndexFile, Out
from stages.params.report import Params


def run(
    *,
    index: IndexFile,
    images: ImageShards,
    regions: Annotated[list[Path], Help("all region shards")],
    features: Annotated[list[Path], Help("all feature shards, fold after fold")],
    prototypes: Annotated[list[Path], Help("prototypes of every fold")],
    evaluations: Annotated[list[Path], Help("folders of all evaluations")],
    out: Out,
    params: Params,
    pseudolabels: Annotated[list[Path] | None, Help("all shards of pseudo labels, if any, fold after fold")] = None,
    trainings: Annotated[list[Path] | None, Help("folders of all trainings, if any")] = None,
    studies: Annotated[Path | None, Help("folder of studies whose curves are shown")] = None,
) -> None:
    """Write the report as one folder."""
    regions = in_order(regions, REGIONS)
    fold_files = group_by_fold(prototypes, features, pseudolabels or [], regions)
    data = read_index(index)
    results = read_evaluations(evaluations)
    logs = {name: tables.read(folder / LOG_FILE, LOG) for name, folder in run_names(trainings or []).items()}
    table = score_table(results, params.protocol, params.bootstrap, params.seed)
    classes = class_table(results, params.protocol)
    comparisons = comparison_table(results, params.protocol, params.bootstrap, params.seed)
    with ImageStore(images, data) as store:
        browsers = [episodes_browser(data, store, results, params.episodes)]
        if pseudolabels:
            browsers.append(labels_browser(data, store, regions, fold_files, params.images))
        if params.crops:
            browsers.append(
                gallery_browser(data, store, regions, fold_files, crops=params.crops, images=params.gallery_images)
            )
    page = render(
        protocol=params.protocol,
        note=protocol_note(results),
        table=table,
        classes=classes,
        comparisons=comparisons,
        curves=figures(logs, table, studies),
        browsers=browsers,
    )
    with whole_folder(out) as scratch:
        (scratch / "index.html").write_text(page, encoding="utf8")
        tables.write(scratch / "results.tsv", SCORES, table)
        tables.write(scratch / "classes.tsv", CLASS_SCORES, classes)
        tables.write(scratch / "comparisons.tsv", COMPARISONS, comparisons)
        (scratch / "metrics.json").write_text(json.dumps(metrics(table), indent=1) + "\n", encoding="utf8")
        (scratch / "plots").mkdir()  # DVC requires it, even if nothing was trained
        for name, log in logs.items():
            tables.write(scratch / "plots" / f"{name.replace(' ', '-')}.tsv", LOG, log)
