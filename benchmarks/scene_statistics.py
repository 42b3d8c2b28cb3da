"""Compare statistics of the built-in scenes with those of a VOC folder, measured in the same way.

    python -m benchmarks.scene_statistics --voc $NOVELSEG_DATA/voc-subset --voc-weights RESNET18 --out FILE.md

The scenes are the validation images of the preset ``demo``. Each data set has its own encoder that has seen none of the
measured classes: the ImageNet ResNet-18 for photographs, ``weights/scenes-resnet18-w16.safetensors`` for scenes. No
trained or refined variant is scored: the scenes are calibrated on these figures alone (decision 0004).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.labels import VOID, binary
from novelseg.core.progress import track
from novelseg.data.classes import VOC
from novelseg.data.drawing.kinds import CLASSES, KINDS
from novelseg.data.scenes import SceneSettings, scene
from novelseg.inference.bundle import pretrained_bundle
from novelseg.inference.photos import read_class_mask, read_photo
from novelseg.methods.matching.prototypes import match_many, support_prototypes

SCENES = SceneSettings(seed=0, train=320, val=160, size=96)  # the settings of the preset `demo`
SCENE_WEIGHTS = Path("weights/scenes-resnet18-w16.safetensors")
DRAWS = 2000
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class DataSet:
    """Images with masks: their number, a function that returns a pair, classes, and smallest object counted, px."""

    count: int
    pair: Callable[[int], tuple[Image, Image]]
    classes: int
    min_pixels: int


@dataclass(frozen=True)
class Statistics:
    """What is compared; the names are those of :data:`ROWS`."""

    share: str
    quartiles: str
    objects: str
    most: str
    within: str
    across: str
    ratio: str
    matching: str
    marked: str
    true: str


ROWS = {
    "share": "share of the image that a class covers, mean over images and classes present",
    "quartiles": "its quartiles",
    "objects": "classes per image, mean",
    "most": "images with 1, 2, 3, and more classes, %",
    "within": "mean cosine of two cells of a class in one image",
    "across": "mean cosine of two cells of a class in two images",
    "ratio": "their quotient [95 % interval over images]",
    "matching": "matching, one support, mIoU [95 % interval over queries]",
    "marked": "share of the query that matching marks",
    "true": "share of the query that the class covers",
}


def voc(root: Path, name: str) -> DataSet:
    """Open a list of a VOC folder."""
    ids = (root / f"ImageSets/Segmentation/{name}.txt").read_text(encoding="utf8").split()

    def pair(number: int) -> tuple[Image, Image]:
        mask = read_class_mask(root / "SegmentationClass" / f"{ids[number]}.png", len(VOC))
        return read_photo(root / "JPEGImages" / f"{ids[number]}.jpg"), mask

    return DataSet(len(ids), pair, len(VOC), 1152)


def scenes() -> DataSet:
    """Return the validation scenes."""
    return DataSet(SCENES.val, lambda number: scene(SCENES, SCENES.train + number), len(CLASSES), 72)


def cosines(sums: list[torch.Tensor], counts: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean cosine of two cells of a class in each image, (N,), and in each two images, (N, N).

    Parameters
    ----------
    sums
        Sum of the normalised features of the class's cells, (C,), of each image.
    counts
        Number of these cells; at least two.
    """
    totals, numbers = torch.stack(sums).double().numpy(), np.array(counts, np.float64)
    products = totals @ totals.T  # a sum of cosines per pair of images
    within = (products.diagonal() - numbers) / (numbers * (numbers - 1))  # without the cosine of a cell with itself
    return within, products / (numbers[:, None] * numbers)


def ratio(
    pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]], rng: np.random.Generator | None
) -> tuple[float, float]:
    """Return the mean cosine within an image and across two, mean over classes; of resampled images if asked."""
    means = []
    for within, across in pairs:
        count = len(within)
        weight = np.ones(count) if rng is None else np.bincount(rng.integers(count, size=count), minlength=count)
        others = weight.sum() ** 2 - (weight**2).sum()
        if others > 0:  # a draw of one image alone has no two images
            apart = weight @ across @ weight - (weight**2 * across.diagonal()).sum()
            means.append((weight @ within / weight.sum(), apart / others))
    inside, outside = np.mean(means, 0)
    return float(inside), float(outside)


def measure(data: DataSet, weights: Path, name: str, seed: int, queries: int) -> Statistics:
    """Measure the statistics of a data set under an encoder."""
    extract = FeatureExtractor(pretrained_bundle(weights).encoder, "fp32", torch.device("cpu"))
    rng = np.random.default_rng(seed)
    masks, features, shares, present = list[Image](), list[torch.Tensor](), list[float](), list[int]()
    holders: dict[int, list[int]] = {label: [] for label in range(1, data.classes + 1)}
    for number in track(range(data.count), data.count, name, "image"):
        image, mask = data.pair(number)
        masks.append(mask)
        features.append(extract([image])[0])  # (C, h, w)
        pixels = np.bincount(mask.reshape(-1), minlength=256)
        labels = [label for label in holders if pixels[label]]
        present.append(len(labels))
        shares += [float(pixels[label] / mask.size) for label in labels]
        for label in labels:
            if pixels[label] >= data.min_pixels:
                holders[label].append(number)
    sums: dict[int, tuple[list[torch.Tensor], list[int]]] = {label: ([], []) for label in holders}
    for label, numbers in holders.items():
        for number in numbers:
            size = (features[number].shape[1], features[number].shape[2])
            cells = extract.grid.labels_at_cells(torch.from_numpy(binary(masks[number], label)), size)
            own = F.normalize(features[number][:, cells == 1], dim=0)  # (C, n)
            if own.shape[1] > 1:
                sums[label][0].append(own.sum(1))
                sums[label][1].append(own.shape[1])
    pairs = [cosines(*one) for one in sums.values() if len(one[1]) > 1]
    within, across = ratio(pairs, None)
    spread = np.percentile([np.divide(*ratio(pairs, rng)) for _ in range(DRAWS)], [2.5, 97.5])
    scored = _match(extract, features, masks, holders, rng, queries)
    return Statistics(
        share=f"{np.mean(shares):.3f}",
        quartiles=", ".join(f"{value:.3f}" for value in np.percentile(shares, [25, 50, 75])),
        objects=f"{np.mean(present):.2f}",
        most=", ".join(f"{100 * np.mean(np.clip(present, 0, 4) == n):.0f}" for n in (1, 2, 3, 4)),
        within=f"{within:.3f}",
        across=f"{across:.3f}",
        ratio=f"{within / across:.3f} [{spread[0]:.3f}, {spread[1]:.3f}]",
        matching="{:.1f} [{:.1f}, {:.1f}]".format(*_miou(scored, rng)),
        marked=f"{scored[:, 3].mean():.3f}",
        true=f"{scored[:, 4].mean():.3f}",
    )


def _match(
    extract: FeatureExtractor,
    features: list[torch.Tensor],
    masks: list[Image],
    holders: dict[int, list[int]],
    rng: np.random.Generator,
    queries: int,
) -> NDArray[np.float64]:
    """Match queries of every class with one support each: class, intersection, union, share marked, share true."""
    rows = []
    for label, numbers in holders.items():
        for query in rng.permutation(numbers)[:queries].tolist():
            support = int(rng.choice([number for number in numbers if number != query]))
            mask = torch.from_numpy(binary(masks[support], label))
            prototypes = support_prototypes(features[support][None, None], mask[None, None], extract.grid)
            logits = match_many(features[query], prototypes, 10.0)[0]
            truth = masks[query]
            marked = extract.grid.upsample((logits[1] - logits[0])[None, None], truth.shape)[0, 0].numpy() > 0
            known = truth != VOID
            inside, own = marked & known, truth == label
            rows.append((label, (inside & own).sum(), (inside | own).sum(), inside.mean(), own.mean()))
    return np.array(rows, np.float64)


def _miou(scored: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the mean over classes of summed intersections over summed unions, %, and its interval."""
    members = [np.flatnonzero(scored[:, 0] == label) for label in np.unique(scored[:, 0])]

    def score(picks: list[NDArray[np.int64]]) -> float:
        return 100 * float(np.mean([np.divide(*scored[pick, 1:3].sum(0)) for pick in picks]))

    low, high = np.percentile([score([rng.choice(m, len(m)) for m in members]) for _ in range(DRAWS)], [2.5, 97.5])
    return score(members), float(low), float(high)


def main() -> None:
    """Measure both data sets, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voc", type=Path, help="VOC folder; without it, the scenes alone are measured")
    parser.add_argument("--list", default="val")
    parser.add_argument("--voc-weights", type=Path, help="ImageNet ResNet-18")
    parser.add_argument("--scene-weights", type=Path, default=SCENE_WEIGHTS)
    parser.add_argument("--queries", type=int, default=30, help="queries per class, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    if options.voc and not options.voc_weights:
        parser.error("--voc-weights is missing; give the weight file of an ImageNet ResNet-18")
    torch.set_num_threads(1)
    columns: dict[str, Statistics] = {}
    if options.voc:
        data = voc(options.voc, options.list)
        columns[f"{options.voc.name}, {options.list}"] = measure(
            data, options.voc_weights, "VOC", options.seed, options.queries
        )
    columns["scenes, val"] = measure(scenes(), options.scene_weights, "scenes", options.seed, options.queries)
    lines = [f"| | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name in (field.name for field in fields(Statistics)):
        lines += [f"| {ROWS[name]} | {' | '.join(getattr(one, name) for one in columns.values())} |"]
    breeds = sorted({len(kind.breeds) for kind in KINDS})
    lines.append(f"\nBreeds per class of the scenes: {', '.join(map(str, breeds))}.")
    print("\n".join(lines))
    if options.out:
        head = "# Statistics of the built-in scenes beside those of photographs\n\nWritten by"
        options.out.write_text(f"{head} `python -m benchmarks.scene_statistics`.\n\n" + "\n".join(lines) + "\n", "utf8")


if __name__ == "__main__":
    main()
