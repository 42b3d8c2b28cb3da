"""Cards of the report's browsers: episodes, pseudo labels, prototypes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from novelseg.core.errors import InputError
from novelseg.core.labels import binary
from novelseg.data.index import Index
from novelseg.data.store import ImageStore, PseudoLabelStore
from novelseg.evaluation.comparisons import Evaluation
from novelseg.formats import hdf5
from novelseg.formats.examples import EXAMPLES
from novelseg.formats.files import EXAMPLES_FILE
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.regions import REGIONS
from novelseg.methods.variants import REFINED, SPFL
from novelseg.ops.counts import object_iou
from novelseg.report import pictures
from novelseg.report.gallery import Gallery
from novelseg.report.page import Browser

LEAST_SHARE = 0.05  # of the members' pixels, or of the class', for a prototype to be listed under it


@dataclass(frozen=True)
class Learned:
    """What training knew of the images of a fold: prototypes, and the shards of features and pseudo labels."""

    fold: int
    prototypes: Path
    features: list[Path]
    pseudolabels: list[Path]


def group_by_fold(
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


def labels_browser(data: Index, store: ImageStore, regions: list[Path], learned: list[Learned], count: int) -> Browser:
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


def gallery_browser(
    data: Index, store: ImageStore, regions: list[Path], learned: list[Learned], *, crops: int, images: int
) -> Browser:
    """Prototypes of every fold, of both sides and all levels."""
    return Browser(
        "prototypes",
        "Prototypes",
        "Prototypes of background regions and of objects, with the nearest of the regions (or objects) of at most "
        f"{images} training images a fold, outlined; a coarser one shows the nearest of each child. "
        "Bars show which classes the members' pixels belong to, grey where no mask says: in background regions these "
        "are classes that training knew nothing of. Choose a novel class to see the prototypes that it has fallen "
        "into. Purity is the largest share of what is annotated. Members count the whole corpus.",
        [card for entry in learned for card in _gallery_cards(data, store, regions, entry, crops, images)],
        ["fold", "side", "level", "novel class", "class"],
        ["purity", "members", "share annotated"],
    )


def _gallery_cards(
    data: Index, store: ImageStore, regions: list[Path], learned: Learned, crops: int, images: int
) -> Iterator[dict[str, Any]]:
    gallery = Gallery(learned.prototypes, data, store, crops)
    gallery.gather(learned.features, regions, images)
    novel = set(data.names(data.novel(learned.fold)))
    for entry in gallery.prototypes(regions):
        held = [name for name, *shares in entry["classes"] if max(shares) >= LEAST_SHARE]
        side = {"bg": "background", "fg": "foreground"}[entry["side"]]
        facts = {"fold": [learned.fold], "side": [side], "level": [entry["level"]], "class": held}
        facts["novel class"] = [name for name in held if name in novel]
        scores = {"purity": entry["purity"], "members": entry["members"], "share annotated": entry["annotated"]}
        title = f"fold {learned.fold}, {side}, level {entry['level']}, #{entry['number']}"
        yield {"title": title, "facts": facts, "scores": scores, "fold": learned.fold, **entry}


def episodes_browser(data: Index, store: ImageStore, evaluations: list[Evaluation], count: int) -> Browser:
    """Supports, query, truth and predictions of the first kept episodes of every evaluation."""
    cards = [card for evaluation in evaluations for card in _episode_cards(data, store, evaluation, count)]
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
