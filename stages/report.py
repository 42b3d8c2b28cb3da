"""Evaluations, logs and pictures → tables, metrics and one page.

Reads
    ``index``, ``images``, ``regions`` (all shards), ``prototypes`` (of every fold), ``features``, ``pseudolabels`` (all
    shards of every fold, fold after fold), for pictures; the folders of all trainings and evaluations; the folder of
    studies, if any.
Writes
    a folder: ``index.html``, ``results.tsv``, ``classes.tsv``, ``comparisons.tsv``, ``metrics.json``, ``plots/`` (one
    log per training).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.files import whole_folder
from novelseg.core.labels import binary
from novelseg.core.options import Help
from novelseg.data.index import Index, read_index
from novelseg.data.store import ImageStore, PseudoLabelStore
from novelseg.evaluation.comparisons import (
    Evaluation,
    class_table,
    comparison_table,
    metrics,
    read_evaluation,
    score_table,
)
from novelseg.formats import hdf5, tables
from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.examples import EXAMPLES
from novelseg.formats.files import EXAMPLES_FILE, LOG_FILE, WEIGHTS
from novelseg.formats.network import read_record
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.record import NetworkRecord
from novelseg.formats.regions import REGIONS
from novelseg.formats.results import SCORES
from novelseg.formats.training_log import LOG
from novelseg.methods.variants import REFINED, SPFL
from novelseg.ops.counts import object_iou
from novelseg.report import pictures
from novelseg.report.gallery import Gallery
from novelseg.report.page import Browser, only_fold, render
from stages.options import ImageShards, IndexFile, Out
from stages.params.report import Params

LEAST_SHARE = 0.05  # of the members' pixels, or of the class', for a prototype to be listed under it


def _run_name(folder: Path) -> str:
    """Name of a training from what lies beside its weights."""
    record = read_record(folder / WEIGHTS, NetworkRecord)
    shot = f" {record.shot}-shot" if record.shot else ""
    variant = f" {record.variant}" if record.variant else ""
    return f"{record.stage} fold {record.fold}{shot}{variant}"


@dataclass(frozen=True)
class Learned:
    """What training knew of the images of a fold: prototypes, and the shards of features and pseudo labels."""

    fold: int
    prototypes: Path
    features: list[Path]
    pseudolabels: list[Path]


def _by_fold(
    prototypes: list[Path], features: list[Path], pseudolabels: list[Path], regions: list[Path]
) -> list[Learned]:
    """The files of each fold.

    Raises
    ------
    InputError
        If they are not as many as folds and shards ask for.
    """
    shards = len(regions)
    if not len(features) == len(pseudolabels) == len(prototypes) * shards:
        raise InputError(
            f"{len(prototypes)} files of prototypes, {shards} shards of regions, {len(features)} of features, "
            f"{len(pseudolabels)} of pseudo labels; expected features and pseudo labels for each fold and shard, the "
            "shards of each fold in the order of the regions"
        )
    found = []
    for number, path in enumerate(prototypes):
        with hdf5.opened(path, PROTOTYPES) as file:
            fold = hdf5.attribute(file, "fold")
        mine = slice(number * shards, (number + 1) * shards)
        found.append(Learned(fold, path, features[mine], pseudolabels[mine]))
    return found


def _labels_browser(data: Index, store: ImageStore, regions: list[Path], learned: list[Learned], count: int) -> Browser:
    """Image, regions and three levels of pseudo labels of the first training images of each fold."""
    return Browser(
        "pseudo-labels",
        "Pseudo labels",
        "The first training images of each fold: their regions, and the prototype that every pixel is labelled with at "
        "three levels, fine to coarse, objects and background apart; black is not labelled. Colours are drawn.",
        [card for entry in learned for card in _labels_cards(data, store, regions, entry, count)],
        ["fold", "image", "base classes"],
        ["regions"],
    )


def _labels_cards(
    data: Index, store: ImageStore, regions: list[Path], learned: Learned, count: int
) -> list[dict[str, Any]]:
    cards: list[dict[str, Any]] = []
    numbers = {name: number for number, name in enumerate(data.ids)}
    for cut, labelled in zip(regions, learned.pseudolabels, strict=True):
        if len(cards) == count:
            break
        with hdf5.opened(cut, REGIONS) as cuts, PseudoLabelStore([labelled], learned.fold) as labels:
            for row, name in enumerate(hdf5.texts(cuts, "id")):
                if len(cards) == count:
                    break
                if name in labels:
                    cards.append(_labels_card(data, store, cuts, row, numbers[name], labels, learned.fold))
    return cards


def _labels_card(
    data: Index, store: ImageStore, cuts: h5py.File, row: int, number: int, labels: PseudoLabelStore, fold: int
) -> dict[str, Any]:
    name, image = data.ids[number], store.image(number)
    region = hdf5.Ragged.get(cuts, "labels", row).reshape(image.shape[:2])
    count = int(region.max()) + 1
    views = [
        {"caption": "image", "base": "image", "layer": ""},
        {"caption": f"{count} regions", "base": "image", "layer": pictures.borders_layer(region)},
    ]
    for level, (map_, k) in enumerate(zip(labels.labels(name), labels.clusters, strict=True), 1):
        views.append({"caption": f"level {level} (K = {k})", "base": "image", "layer": pictures.labels_layer(map_)})
    held = [data.classes[label - 1] for label in data.base(fold) if data.pixels[number, label]]
    return {
        **{"title": f"fold {fold}: {name}", "facts": {"fold": [fold], "image": [name], "base classes": held}},
        **{"scores": {"regions": count}, "pictures": {"image": pictures.tile(image)}, "views": views},
    }


def _episode_cards(data: Index, store: ImageStore, evaluation: Evaluation, count: int) -> Iterator[dict[str, Any]]:
    """Supports, query, truth, confident cells and every variant's prediction of the first kept episodes."""
    numbers = {name: number for number, name in enumerate(data.ids)}
    fold, shot = evaluation.about["fold"], evaluation.about["shot"]
    with hdf5.opened(evaluation.folder / EXAMPLES_FILE, EXAMPLES) as file:
        variants = hdf5.attribute(file, "variants")
        queries, supports = hdf5.texts(file, "query"), hdf5.texts(file, "supports")
        for row in range(min(count, len(queries))):
            label, name = int(file["class"][row]), data.classes[int(file["class"][row]) - 1]
            query, truth = store.image(numbers[queries[row]]), binary(store.mask(numbers[queries[row]]), label)
            shown, views = {"query": pictures.tile(query)}, []
            for place, support in enumerate(supports[row].split()):
                shown[f"support {place}"] = pictures.tile(store.image(numbers[support]))
                layer = pictures.mask_layer(binary(store.mask(numbers[support]), label))
                views.append({"caption": "support", "base": f"support {place}", "layer": layer})
            views += [
                {"caption": "query", "base": "query", "layer": ""},
                {"caption": "truth", "base": "query", "layer": pictures.mask_layer(truth)},
            ]
            cells = hdf5.Ragged.get(file, "confident", row).reshape(file["cells"][row])
            if cells.size:
                caption = "confident query cells: red object, blue ground"
                views.append({"caption": caption, "base": "query", "layer": pictures.cells_layer(cells, truth.shape)})
            prior = hdf5.Ragged.get(file, "prior", row).reshape(file["prior_cells"][row])
            if prior.size:
                shown["prior"] = pictures.heat(query, prior)
                views.append({"caption": "activation map of the class: dark 0, yellow 1", "base": "prior", "layer": ""})
            maps = hdf5.Ragged.get(file, "predictions", row).reshape(len(variants), *truth.shape)
            scores = {variant: _iou(map_, truth) for variant, map_ in zip(variants, maps, strict=True)}
            for variant, map_ in zip(variants, maps, strict=True):
                caption = f"{variant}: {scores[variant]:.1f}" if scores[variant] is not None else variant
                views.append({"caption": caption, "base": "query", "layer": pictures.mask_layer(map_)})
            yield {
                "title": f"fold {fold}, {shot}-shot: {name} in {queries[row]}",
                "facts": {"class": [name], "fold": [fold], "shot": [shot]},
                **{"scores": scores, "pictures": shown, "views": views},
            }


def _iou(found: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float | None:
    """IoU of an episode's object, per cent."""
    iou = object_iou(found, truth)
    return None if iou is None else round(100 * iou, 2)


def _gallery_browser(
    data: Index, store: ImageStore, regions: list[Path], learned: list[Learned], params: Params
) -> Browser:
    """Prototypes of every fold, of both sides and all levels."""
    return Browser(
        "prototypes",
        "Prototypes",
        "Prototypes of background regions and of objects, with the nearest of the regions (or objects) of at most "
        f"{params.gallery_images} training images a fold, outlined; a coarser one shows the nearest of each child. "
        "Bars show which classes the members' pixels belong to, grey where no mask says: in background regions these "
        "are classes that training knew nothing of. Choose a novel class to see the prototypes that it has fallen "
        "into. Purity is the largest share of what is annotated. Members count the whole corpus.",
        [card for entry in learned for card in _gallery_cards(data, store, regions, entry, params)],
        ["fold", "side", "level", "novel class", "class"],
        ["purity", "members", "share annotated"],
    )


def _gallery_cards(
    data: Index, store: ImageStore, regions: list[Path], learned: Learned, params: Params
) -> Iterator[dict[str, Any]]:
    gallery = Gallery(learned.prototypes, data, store, params.crops)
    gallery.gather(learned.features, regions, params.gallery_images)
    novel = set(data.names(data.novel(learned.fold)))
    for entry in gallery.prototypes(regions):
        held = [name for name, *shares in entry["classes"] if max(shares) >= LEAST_SHARE]
        side = {"bg": "background", "fg": "foreground"}[entry["side"]]
        facts = {"fold": [learned.fold], "side": [side], "level": [entry["level"]], "class": held}
        facts["novel class"] = [name for name in held if name in novel]
        scores = {"purity": entry["purity"], "members": entry["members"], "share annotated": entry["annotated"]}
        title = f"fold {learned.fold}, {side}, level {entry['level']}, #{entry['number']}"
        yield {"title": title, "facts": facts, "scores": scores, "fold": learned.fold, **entry}


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
        + "The last iterate of every training is scored; none was chosen."
    )


def _episodes_browser(cards: list[dict[str, Any]]) -> Browser:
    scored = list(dict.fromkeys(name for card in cards for name in card["scores"]))
    return Browser(
        "episodes",
        "Episodes",
        "The first episodes of the first seed: supports, query, truth, the query cells that refine the classifier, if "
        "it is refined, and what every variant predicts, with its IoU in this episode.",
        cards,
        ["class", "fold", "shot"],
        scored,
        worst=next((name for name in (REFINED, SPFL) if name in scored), ""),
        unit="IoU %",
    )


def _curves(logs: dict[str, pd.DataFrame], table: pd.DataFrame, studies: Path | None) -> list[tuple[str, str]]:
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


def run(
    *,
    index: IndexFile,
    images: ImageShards,
    regions: Annotated[list[Path], Help("region shards, all of them")],
    features: Annotated[list[Path], Help("feature shards of every fold, fold after fold")],
    prototypes: Annotated[list[Path], Help("prototypes of every fold")],
    pseudolabels: Annotated[list[Path], Help("shards of pseudo labels of every fold, fold after fold")],
    trainings: Annotated[list[Path], Help("folders of all trainings")],
    evaluations: Annotated[list[Path], Help("folders of all evaluations")],
    out: Out,
    params: Params,
    studies: Annotated[Path | None, Help("folder of studies whose curves are shown")] = None,
) -> None:
    """Write the report as one folder."""
    learned = _by_fold(prototypes, features, pseudolabels, regions)
    data = read_index(index)
    found = [read_evaluation(folder) for folder in evaluations]
    logs = {_run_name(folder): tables.read(folder / LOG_FILE, LOG) for folder in trainings}
    table = score_table(found, params.protocol, params.bootstrap, params.seed)
    classes = class_table(found, params.protocol)
    comparisons = comparison_table(found, params.protocol, params.bootstrap, params.seed)
    with ImageStore(images, data) as store:
        browsers = [
            _episodes_browser([card for part in found for card in _episode_cards(data, store, part, params.episodes)]),
            _labels_browser(data, store, regions, learned, params.images),
        ]
        if params.crops:
            browsers.append(_gallery_browser(data, store, regions, learned, params))
    page = render(
        protocol=params.protocol,
        note=_note(found),
        table=table,
        classes=classes,
        comparisons=comparisons,
        curves=_curves(logs, table, studies),
        browsers=browsers,
    )
    with whole_folder(out) as scratch:
        (scratch / "index.html").write_text(page, encoding="utf8")
        tables.write(scratch / "results.tsv", SCORES, table)
        tables.write(scratch / "classes.tsv", CLASS_SCORES, classes)
        tables.write(scratch / "comparisons.tsv", COMPARISONS, comparisons)
        (scratch / "metrics.json").write_text(json.dumps(metrics(table), indent=1) + "\n", encoding="utf8")
        for name, log in logs.items():
            tables.write(scratch / "plots" / f"{name.replace(' ', '-')}.tsv", LOG, log)
