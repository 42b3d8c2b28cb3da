"""Evaluations, logs and pictures → tables, metrics and one page.

Reads
    ``index``, ``images`` (all shards), ``regions`` and ``pseudolabels`` (one shard, for pictures), the folders of all
    trainings and evaluations.
Writes
    a folder: ``index.html``, ``results.tsv``, ``classes.tsv``, ``comparisons.tsv``, ``metrics.json``, ``plots/`` (one
    log per training).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from stages.artifacts import hdf5, tables
from stages.artifacts.formats.class_results import CLASS_SCORES
from stages.artifacts.formats.comparisons import COMPARISONS
from stages.artifacts.formats.examples import EXAMPLES
from stages.artifacts.formats.files import EXAMPLES_FILE, LOG_FILE, WEIGHTS
from stages.artifacts.formats.regions import REGIONS
from stages.artifacts.formats.results import SCORES
from stages.artifacts.formats.training_log import LOG
from stages.core.files import whole_folder
from stages.data.index import Index, read_index
from stages.data.store import ImageStore, PseudoLabelStore
from stages.models.files import read_about
from stages.ops.labels import binary
from stages.reporting import pictures
from stages.reporting.page import Strip, render
from stages.reporting.scoring import Evaluation, class_table, comparison_table, metrics, read_evaluation, score_table
from stages.sections.report import Params


def _run_name(folder: Path) -> str:
    """Name of a training from what lies beside its weights."""
    about = read_about(folder / WEIGHTS)
    shot = f" {about['shot']}-shot" if "shot" in about else ""
    variant = f" {about['variant']}" if "variant" in about else ""
    return f"{about['stage']} fold {about['fold']}{shot}{variant}"


def _training_strips(
    data: Index, store: ImageStore, regions: Path, pseudolabels: Path, fold: int, count: int
) -> list[Strip]:
    """Image, regions and three levels of pseudo labels of the first training images of a shard."""
    strips: list[Strip] = []
    numbers = {name: number for number, name in enumerate(data.ids)}
    with hdf5.opened(regions, REGIONS) as cuts, PseudoLabelStore([pseudolabels], fold) as labels:
        for row, name in enumerate(hdf5.texts(cuts, "id")):
            if len(strips) == count:
                break
            if name not in labels:
                continue
            image = store.image(numbers[name])
            region = hdf5.Ragged.get(cuts, "labels", row).reshape(image.shape[:2])
            shown = [
                ("image", pictures.tile(image)),
                (f"{int(region.max()) + 1} regions", pictures.region_borders(image, region)),
            ]
            for level, (map_, k) in enumerate(zip(labels.labels(name), labels.clusters, strict=True), 1):
                shown.append((f"pseudo labels, level {level} (K = {k})", pictures.label_map(map_)))
            strips.append(Strip(name, shown))
    return strips


def _episode_strips(data: Index, store: ImageStore, evaluation: Evaluation, count: int) -> list[Strip]:
    """Supports, query, truth, confident cells and every variant's prediction of the first kept episodes."""
    strips = []
    numbers = {name: number for number, name in enumerate(data.ids)}
    with hdf5.opened(evaluation.folder / EXAMPLES_FILE, EXAMPLES) as file:
        variants = hdf5.attribute(file, "variants")
        queries, supports = hdf5.texts(file, "query"), hdf5.texts(file, "supports")
        for row in range(min(count, len(queries))):
            label = int(file["class"][row])
            query = store.image(numbers[queries[row]])
            size = query.shape[:2]
            shown = [
                ("support", pictures.overlay(store.image(numbers[name]), _mask(store, numbers[name], label)))
                for name in supports[row].split()
            ]
            shown.append(("query", pictures.tile(query)))
            shown.append(("truth", pictures.overlay(query, _mask(store, numbers[queries[row]], label))))
            cells = hdf5.Ragged.get(file, "confident", row).reshape(file["cells"][row])
            shown.append(("confident query cells: red object, blue ground", pictures.confident(query, cells)))
            prior = hdf5.Ragged.get(file, "prior", row).reshape(file["prior_cells"][row])
            if prior.size:
                shown.append(("activation map of the class: dark 0, yellow 1", pictures.heat(query, prior)))
            maps = hdf5.Ragged.get(file, "predictions", row).reshape(len(variants), *size)
            shown += [(name, pictures.overlay(query, map_)) for name, map_ in zip(variants, maps, strict=True)]
            about = evaluation.about
            strips.append(Strip(f"fold {about['fold']}, {about['shot']}-shot: {data.classes[label - 1]}", shown))
    return strips


def _mask(store: ImageStore, image: int, label: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    masked: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = binary(torch.from_numpy(store.mask(image)), label).numpy()
    return masked


def _note(evaluations: list[Evaluation]) -> str:
    protocol = evaluations[0].about["protocol"]
    unscored = sorted({name for evaluation in evaluations for name in evaluation.about["unscored"]})
    return (
        f"Training list: {protocol['lists'][0]}; training images with novel classes: {protocol['novel_images']}. "
        f"Validation list: {protocol['lists'][1]}. Folds: {protocol['folds']}, {protocol['layout']}. "
        f"Small-object rule: {protocol['min_object_pixels']} px. Training images: {protocol['resolution']}; "
        f"tests at the images' own size. Pretrained weights: {protocol['weights']}. "
        + (f"CAM prior: {protocol['cam']} (the paper: the last features, at 320 px). " if protocol["cam"] else "")
        + (f"Novel classes left out: {', '.join(unscored)}. " if unscored else "")
        + "The last iterate of every training is scored; nothing was chosen on novel classes."
    )


def run(
    *,
    index: Path,
    images: list[Path],
    regions: Path,
    pseudolabels: Path,
    trainings: list[Path],
    evaluations: list[Path],
    out: Path,
    params: Params,
) -> None:
    """Write the report as one folder."""
    data = read_index(index)
    found = [read_evaluation(folder) for folder in evaluations]
    logs = {_run_name(folder): tables.read(folder / LOG_FILE, LOG) for folder in trainings}
    table = score_table(found, params.protocol, params.bootstrap, params.seed)
    classes = class_table(found, params.protocol)
    comparisons = comparison_table(found, params.protocol, params.bootstrap, params.seed)
    with ImageStore(images, data) as store:
        strips = _training_strips(data, store, regions, pseudolabels, found[0].about["fold"], params.images)
        episodes = [strip for part in found for strip in _episode_strips(data, store, part, params.episodes)]
    page = render(
        protocol=params.protocol,
        note=_note(found),
        table=table,
        classes=classes,
        comparisons=comparisons,
        curves=pictures.loss_curves(logs),
        galleries=[("Regions and pseudo labels", strips), ("Episodes", episodes)],
    )
    with whole_folder(out) as scratch:
        (scratch / "index.html").write_text(page, encoding="utf8")
        tables.write(scratch / "results.tsv", SCORES, table)
        tables.write(scratch / "classes.tsv", CLASS_SCORES, classes)
        tables.write(scratch / "comparisons.tsv", COMPARISONS, comparisons)
        (scratch / "metrics.json").write_text(json.dumps(metrics(table), indent=1) + "\n", encoding="utf8")
        for name, log in logs.items():
            tables.write(scratch / "plots" / f"{name.replace(' ', '-')}.tsv", LOG, log)
