"""Cards of the report's three browsers: episodes, pseudo labels and prototypes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import binary
from novelseg.data.index import Index
from novelseg.data.labelstore import PseudoLabelStore
from novelseg.data.store import ImageStore
from novelseg.evaluation.comparisons import Evaluation
from novelseg.formats import hdf5
from novelseg.formats.examples import EXAMPLES
from novelseg.formats.features import FEATURES
from novelseg.formats.files import EXAMPLES_FILE
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.formats.regions import REGIONS
from novelseg.formats.shards import in_order
from novelseg.methods.variants import PRETRAINED, PRETRAINED_REFINED, REFINED, SPFL
from novelseg.ops.counts import object_iou
from novelseg.report import pictures
from novelseg.report.gallery import Gallery
from novelseg.report.page import Browser

LEAST_SHARE = 0.05  # of a prototype's pixels or of a class's pixels, for the prototype to be listed under the class


@dataclass(frozen=True)
class FoldFiles:
    """Files of one fold: prototypes, and the shards of features and pseudo labels; of the latter there may be none."""

    fold: int
    prototypes: Path
    features: list[Path]
    pseudolabels: list[Path]


def group_by_fold(
    prototypes: list[Path], features: list[Path], pseudolabels: list[Path], regions: list[Path]
) -> list[FoldFiles]:
    """Group the files by fold and sort them by fold and shard; their order does not matter.

    Raises
    ------
    InputError
        If a file is missing, given twice, or of a fold without prototypes.
    """
    shards = len(regions)
    if len(features) != len(prototypes) * shards or (pseudolabels and len(pseudolabels) != len(features)):
        raise InputError(
            f"{len(prototypes)} files of prototypes, {shards} shards of regions, {len(features)} of features, "
            f"{len(pseudolabels)} of pseudo labels; give, for each fold, one shard of features and, if there are any, "
            "one of pseudo labels per shard of regions"
        )
    centres, vectors = _by_fold(prototypes, PROTOTYPES), _by_fold(features, FEATURES)
    labels = _by_fold(pseudolabels, PSEUDOLABELS)
    folds = []
    for fold, paths in sorted(centres.items()):
        if len(paths) > 1:
            raise InputError(
                f"{paths[1]}: has the prototypes of fold {fold}, as does {paths[0]}; give one file per fold"
            )
        own = [in_order(files.get(fold, []), spec) for files, spec in ((vectors, FEATURES), (labels, PSEUDOLABELS))]
        counts = shards, shards if pseudolabels else 0
        for files, spec, expected in zip(own, (FEATURES, PSEUDOLABELS), counts, strict=True):
            if len(files) != expected:
                raise InputError(
                    f"{paths[0]}: {len(files)} shards of {spec.name} are of fold {fold}; expected {expected}, one per "
                    "shard of regions; give all of every fold"
                )
        folds.append(FoldFiles(fold, paths[0], *own))
    return folds


def _by_fold(paths: list[Path], spec: hdf5.Spec) -> dict[int, list[Path]]:
    """Group the files of one kind by the fold that they state."""
    groups: dict[int, list[Path]] = {}
    for path in paths:
        with hdf5.opened(path, spec, checked=True) as file:
            groups.setdefault(hdf5.attribute(file, "fold"), []).append(path)
    return groups


def labels_browser(data: Index, store: ImageStore, regions: list[Path], folds: list[FoldFiles], count: int) -> Browser:
    """Build the browser of pseudo labels: the first ``count`` training images of each fold, with regions and labels."""
    return Browser(
        "pseudo-labels",
        "Pseudo labels",
        "The first training images of each fold, with their regions and the prototype of each pixel at three levels, "
        "from fine to coarse. Objects and background have separate prototypes. Black pixels have no label; the colours "
        "are random.",
        [card for entry in folds for card in _labels_cards(data, store, regions, entry, count)],
        ["fold", "image", "base classes"],
        ["regions"],
    )


def _labels_cards(
    data: Index, store: ImageStore, regions: list[Path], files: FoldFiles, count: int
) -> list[dict[str, Any]]:
    """Build the cards of one fold: its first ``count`` images that have pseudo labels."""
    cards: list[dict[str, Any]] = []
    numbers = {name: number for number, name in enumerate(data.ids)}
    for region_path, label_path in zip(regions, files.pseudolabels, strict=True):
        if len(cards) == count:
            break
        with hdf5.opened(region_path, REGIONS) as region_file, PseudoLabelStore([label_path], files.fold) as labels:
            names = hdf5.texts(region_file, "id")
            _require_known(region_file, data, names)
            for row, name in enumerate(names):
                if len(cards) == count:
                    break
                if name in labels:
                    cards.append(_labels_card(data, store, region_file, row, numbers[name], labels, files.fold))
    return cards


def _require_known(file: hdf5.Artifact, data: Index, names: list[str]) -> None:
    """Check that images and classes that a file names are in the index."""
    unknown = sorted(set(names) - set(data.ids))
    if unknown:
        raise file.wrong(f"the image '{unknown[0]}' is not in the index")
    if "class" in file.spec.fields and (file["class"][:] > len(data.classes)).any():
        raise file.wrong(f"dataset 'class' has labels above {len(data.classes)}, the number of classes in the index")


def _labels_card(
    data: Index,
    store: ImageStore,
    region_file: hdf5.Artifact,
    row: int,
    number: int,
    labels: PseudoLabelStore,
    fold: int,
) -> dict[str, Any]:
    """Build the card of one image: the image, its regions, and its pseudo labels at each level."""
    name, image = data.ids[number], store.image(number)
    region = hdf5.Ragged.get(region_file, "labels", row)
    if region.size != image.shape[0] * image.shape[1]:
        raise region_file.wrong(f"the label map of '{name}' differs in size from its image")
    region = region.reshape(image.shape[:2])
    count = int(region.max()) + 1
    views = [
        {"caption": "image", "base": "image", "layer": ""},
        {"caption": f"{count} regions", "base": "image", "layer": pictures.borders_layer(region)},
    ]
    for level, (map_, k) in enumerate(zip(labels.labels(name), labels.clusters, strict=True), 1):
        views.append({"caption": f"level {level} (K = {k})", "base": "image", "layer": pictures.labels_layer(map_)})
    present = [data.classes[label - 1] for label in data.base(fold) if data.pixels[number, label]]
    return {
        "main": 1,
        **{"title": f"fold {fold}: {name}", "facts": {"fold": [fold], "image": [name], "base classes": present}},
        **{"scores": {"regions": count}, "pictures": {"image": pictures.tile(image)}, "views": views},
    }


def _episode_cards(data: Index, store: ImageStore, evaluation: Evaluation, count: int) -> Iterator[dict[str, Any]]:
    """Yield cards of the first stored episodes: supports, query, ground truth, confident cells and all predictions."""
    numbers = {name: number for number, name in enumerate(data.ids)}
    fold, shot = evaluation.about["fold"], evaluation.about["shot"]
    with hdf5.opened(evaluation.folder / EXAMPLES_FILE, EXAMPLES) as file:
        variants = hdf5.attribute(file, "variants")
        queries, supports = hdf5.texts(file, "query"), hdf5.texts(file, "supports")
        _require_known(file, data, [name for text in (*queries, *supports) for name in text.split()])
        for row in range(min(count, len(queries))):
            label, name = int(file["class"][row]), data.classes[int(file["class"][row]) - 1]
            query, truth = store.image(numbers[queries[row]]), binary(store.mask(numbers[queries[row]]), label)
            bases, views = {"query": pictures.tile(query)}, []
            for position, support in enumerate(supports[row].split()):
                bases[f"support {position}"] = pictures.tile(store.image(numbers[support]))
                layer = pictures.mask_layer(binary(store.mask(numbers[support]), label))
                views.append({"caption": "support", "base": f"support {position}", "layer": layer})
            views += [
                {"caption": "query", "base": "query", "layer": ""},
                {"caption": "ground truth", "base": "query", "layer": pictures.mask_layer(truth)},
            ]
            cells = hdf5.Ragged.get(file, "confident", row).reshape(file["cells"][row])
            if cells.size:
                caption = "confident query cells: red object, blue background"
                views.append({"caption": caption, "base": "query", "layer": pictures.cells_layer(cells, truth.shape)})
            prior = hdf5.Ragged.get(file, "prior", row).reshape(file["prior_cells"][row])
            if prior.size:
                bases["prior"] = pictures.heat(query, prior)
                views.append({"caption": "activation map of the class: dark 0, yellow 1", "base": "prior", "layer": ""})
            if (int(file["height"][row]), int(file["width"][row])) != truth.shape:
                raise file.wrong(f"the predictions of '{queries[row]}' differ in size from the image")
            maps = hdf5.Ragged.get(file, "predictions", row).reshape(len(variants), *truth.shape)
            scores = {variant: _iou(map_, truth) for variant, map_ in zip(variants, maps, strict=True)}
            for variant, map_ in zip(variants, maps, strict=True):
                caption = f"{variant}: {scores[variant]:.1f}" if scores[variant] is not None else variant
                views.append({"caption": caption, "base": "query", "layer": pictures.mask_layer(map_)})
            enlarged = next((name for name in (REFINED, SPFL) if name in variants), variants[-1])
            yield {
                "main": len(views) - len(variants) + list(variants).index(enlarged),
                "title": f"fold {fold}, {shot}-shot: {name} in {queries[row]}",
                "facts": {"class": [name], "fold": [fold], "shot": [shot]},
                **{"scores": scores, "pictures": bases, "views": views},
            }


def _iou(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float | None:
    """Compute the IoU of an episode's object in per cent; None if neither mask contains the object."""
    iou = object_iou(prediction, truth)
    return None if iou is None else round(100 * iou, 1)  # shown with one digit everywhere, and rounded once


def gallery_browser(
    data: Index, store: ImageStore, regions: list[Path], folds: list[FoldFiles], *, crops: int, images: int
) -> Browser:
    """Build the browser of prototypes, of every fold, both sides and all levels.

    ``crops`` is the number of nearest members per prototype, ``images`` the largest number of images that are searched
    per fold.
    """
    return Browser(
        "prototypes",
        "Prototypes",
        "Prototypes of background regions and of objects, with their nearest regions or objects, outlined, in at most "
        f"{images} training images per fold. A prototype of a coarser level shows the nearest member of each child. "
        "Bars show the classes of the members' pixels, and in grey the pixels without annotation. The classes in "
        "background regions were not used in training: select a novel class to see the prototypes that contain it. "
        "Purity is the share of the largest class among the annotated pixels. Members are counted in all training "
        "images.",
        [card for entry in folds for card in _gallery_cards(data, store, regions, entry, crops, images)],
        ["fold", "side", "level", "novel class", "class"],
        ["purity", "members", "share annotated"],
    )


def _gallery_cards(
    data: Index, store: ImageStore, regions: list[Path], files: FoldFiles, crops: int, images: int
) -> Iterator[dict[str, Any]]:
    gallery = Gallery(files.prototypes, data, store, crops)
    gallery.gather(files.features, regions, images)
    novel = set(data.names(data.novel(files.fold)))
    for entry in gallery.prototypes(regions):
        listed = [name for name, *shares in entry["classes"] if max(shares) >= LEAST_SHARE]
        side = {"bg": "background", "fg": "foreground"}[entry["side"]]
        facts = {"fold": [files.fold], "side": [side], "level": [entry["level"]], "class": listed}
        facts["novel class"] = [name for name in listed if name in novel]
        scores = {"purity": entry["purity"], "members": entry["members"], "share annotated": entry["annotated"]}
        title = f"fold {files.fold}, {side}, level {entry['level']}, #{entry['number']}"
        yield {"title": title, "facts": facts, "scores": scores, "fold": files.fold, **entry}


def episodes_browser(data: Index, store: ImageStore, evaluations: list[Evaluation], count: int) -> Browser:
    """Build the browser of episodes: the first ``count`` of every evaluation, with the predictions of all variants."""
    cards = [card for evaluation in evaluations for card in _episode_cards(data, store, evaluation, count)]
    scored = list(dict.fromkeys(name for card in cards for name in card["scores"]))
    return Browser(
        "episodes",
        "Episodes",
        "The first episodes of the first seed: supports, query, ground truth, the query cells that a classifier was "
        "trained on, if there is one, and the prediction of every variant with its IoU in the episode.",
        cards,
        ["class", "fold", "shot"],
        scored,
        worst=next((name for name in (REFINED, SPFL, PRETRAINED_REFINED, PRETRAINED) if name in scored), ""),
        unit="IoU %",
    )
