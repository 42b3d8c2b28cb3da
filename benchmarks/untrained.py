"""Segment with untrained ImageNet weights: every variant on the same episodes of a VOC folder, with paired intervals.

    python -m benchmarks.untrained --voc $NOVELSEG_DATA/voc-subset --list val --weights PATH --shots 5 --out FILE.tsv

Supports and queries are drawn from one list, with a generator of their own; the class of an episode has at least
``--min-pixels`` in each of them. Nothing is trained, so that no class is a base class. The table has a row per episode,
query and variant. What is printed is computed from it: the mean over classes of summed intersections over summed
unions, its difference from matching with a 95 % interval over queries, the milliseconds per query (of the features, and
beside them), and the area that is marked in pictures without the object.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tables import write_rows
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.labels import VOID
from novelseg.core.progress import track
from novelseg.inference.bundle import pretrained_bundle
from novelseg.inference.photos import read_class_mask, read_photo
from novelseg.methods.bank import SupportBank
from novelseg.methods.contract import Case, RefinementTask
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.refiners import REFINERS, SEGMENTER_VARIANTS
from novelseg.methods.variants import MATCHING

COLUMNS = ("class", "episode", "query", "shows_class", "variant", "intersection", "union", "area_share", "milliseconds")
CLASSES, DRAWS = 20, 2000


class Pictures:
    """Images and masks of a list, or of at most ``count`` pictures of it, decoded when they are asked for."""

    def __init__(self, voc: Path, name: str, count: int = 10**6) -> None:
        self._voc = voc
        listed = (voc / f"ImageSets/Segmentation/{name}.txt").read_text(encoding="utf8").split()
        self.ids = listed if count >= len(listed) else np.random.default_rng(0).permutation(listed)[:count].tolist()
        self.pixels = np.stack([np.bincount(self.mask(n).reshape(-1), minlength=256) for n in range(len(self.ids))])

    def image(self, number: int) -> NDArray[np.uint8]:
        return read_photo(self._voc / "JPEGImages" / f"{self.ids[number]}.jpg")

    def mask(self, number: int) -> NDArray[np.uint8]:
        return read_class_mask(self._voc / "SegmentationClass" / f"{self.ids[number]}.png", CLASSES)

    def size(self, number: int) -> tuple[int, int]:
        height, width = self.mask(number).shape
        return height, width


def draw(pictures: Pictures, options: argparse.Namespace) -> list[tuple[int, int, list[int], list[int]]]:
    """Draw class, episode, supports and queries (with and without the class)."""
    rng = np.random.default_rng(options.seed)
    drawn = []
    for label in range(1, CLASSES + 1):
        large = np.flatnonzero(pictures.pixels[:, label] >= options.min_pixels)
        if len(large) <= options.shots:
            raise SystemExit(
                f"class {label}: expected at least {options.shots + 1} pictures with {options.min_pixels} px of it, "
                f"found {len(large)}; use more pictures, fewer supports or a smaller --min-pixels"
            )
        absent = np.flatnonzero(pictures.pixels[:, label] == 0)
        for episode in range(options.episodes):
            order = rng.permutation(large).tolist()
            supports, queries = order[: options.shots], order[options.shots :][: options.queries]
            without = rng.choice(absent, options.queries, replace=False).tolist()
            drawn.append((label, episode, supports, queries + without))
    return drawn


def measure(pictures: Pictures, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of all episodes."""
    bundle = pretrained_bundle(options.weights, options.stem)
    extract = FeatureExtractor(bundle.encoder, "fp32", torch.device("cpu"))
    bank = SupportBank(extract, pictures.size, pictures.image, pictures.mask, budget_mb=2000)
    refiners = {name: REFINERS[name](bundle.refiners) for name in options.variants if name != MATCHING}
    rows = []
    drawn = draw(pictures, options)
    for label, episode, supports, queries in track(drawn, len(drawn), "untrained", "episode"):
        bank.load(set(supports))
        shown = tuple(bank.support(number, label) for number in supports)
        prototypes = torch.stack([one.prototypes for one in shown]).mean(0)
        for query in queries:
            start = time.perf_counter()
            bank.load({query, *supports})
            features_ms = 1e3 * (time.perf_counter() - start)
            start = time.perf_counter()
            rough = match_many(bank[query], prototypes[None], bundle.record.scale)[0]
            found = {MATCHING: (rough[1] - rough[0], 1e3 * (time.perf_counter() - start))}
            case = Case(options.seed, episode, query, label, tuple(supports))
            task = RefinementTask(case, shown, bank[query], rough, bundle.record.scale)
            for name, refiner in refiners.items():
                start = time.perf_counter()
                found[name] = refiner.refine([task])[0].logits, 1e3 * (time.perf_counter() - start)
            truth = pictures.mask(query)
            known = truth != VOID
            for name, (logits, milliseconds) in {"features": (None, features_ms), **found}.items():
                row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
                row |= {"class": label, "episode": episode, "query": pictures.ids[query], "variant": name}
                row |= {"shows_class": int(label in truth), "milliseconds": f"{milliseconds:.1f}"}
                if logits is not None:
                    mask = bank.grid.upsample(logits[None, None].float(), truth.shape)[0, 0].numpy() > 0
                    inside = mask & known
                    row |= {"intersection": int((inside & (truth == label)).sum())}
                    row |= {"union": int((inside | (truth == label)).sum()), "area_share": f"{mask.mean():.5f}"}
                rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]], seed: int) -> str:
    """Return the table of the variants."""
    names = [name for name in SEGMENTER_VARIANTS if any(row["variant"] == name for row in rows)]
    present = {n: [row for row in rows if row["variant"] == n and int(row["shows_class"])] for n in names}
    labels = np.array([int(row["class"]) for row in present[names[0]]])
    counts = {
        name: np.array([[int(row["intersection"]), int(row["union"])] for row in own], np.float64)
        for name, own in present.items()
    }
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    draws = [[rng.choice(own, len(own)) for own in members] for _ in range(DRAWS)]

    def score(name: str, picks: list[NDArray[np.int64]]) -> float:
        return 100 * float(np.mean([np.divide(*counts[name][pick].sum(0)) for pick in picks]))

    base = [score(MATCHING, picks) for picks in draws]
    lines = ["| variant | mIoU, % | minus matching [95 %] | ms per query | area marked without the object, % |"]
    lines += ["|---|---|---|---|---|"]
    for name in names:
        difference = score(name, members) - score(MATCHING, members)
        spread = np.percentile([score(name, picks) - one for picks, one in zip(draws, base, strict=True)], [2.5, 97.5])
        own = [row for row in rows if row["variant"] == name]
        time_ms = np.median([float(row["milliseconds"]) for row in own])
        area = 100 * np.mean([float(row["area_share"]) for row in own if not int(row["shows_class"])])
        gain = "" if name == MATCHING else f"{difference:+.1f} [{spread[0]:+.1f}, {spread[1]:+.1f}]"
        lines.append(f"| `{name}` | {score(name, members):.1f} | {gain} | {time_ms:.0f} | {area:.1f} |")
    features = np.median([float(row["milliseconds"]) for row in rows if row["variant"] == "features"])
    lines.append(f"\n{len(labels)} queries with the object, as many without; features: {features:.0f} ms per query.")
    return "\n".join(lines)


def source_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that say which pictures and weights are measured."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("--list", default="val")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--stem", default="")
    parser.add_argument("--min-pixels", type=int, default=1152)
    return parser


def episode_parser(description: str, shots: int) -> argparse.ArgumentParser:
    """Return a parser of the options that say which pictures, weights and episodes are measured."""
    parser = source_parser(description)
    parser.add_argument("--shots", type=int, default=shots)
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--queries", type=int, default=5)
    return parser


def main() -> None:
    """Measure, write the rows and print the table."""
    parser = episode_parser(__doc__.splitlines()[0], shots=1)
    parser.add_argument("--variants", nargs="+", choices=SEGMENTER_VARIANTS, default=list(SEGMENTER_VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(Pictures(options.voc, options.list), options)
    write_rows(options.out, COLUMNS, rows)
    print(summary(rows, options.seed))


if __name__ == "__main__":
    main()
