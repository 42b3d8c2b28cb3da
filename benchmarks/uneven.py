"""Two classes with unequal numbers of supports: what the discriminant of each class counts in the closed-form head.

    python -m benchmarks.uneven --voc $NOVELSEG_DATA/voc-subset --weights PATH --stem msra --out docs/results/uneven.md

A correction on the page, taken as an example, gives one class more supports than another. For episodes of two classes
of a fold, supports are drawn from the training list (``COUNTS`` of each class), and each rule scores the same queries:
feature cells, without a decision of presence. The rule of a fold is the best one on training pictures with the classes
of the other folds, and is then shown on the validation list.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.similar import two_classes
from benchmarks.untrained import Pictures
from novelseg.core.labels import VOID
from novelseg.inference.findings import winners
from novelseg.inference.segmenter import Segmenter
from novelseg.methods.closed_form.head import combine, statistics_of, support_cells

COUNTS = ((2, 1), (3, 1), (1, 2), (1, 3), (4, 2), (2, 4))
FOLDS, PER_FOLD = 4, 5
MIN_PIXELS = 1152
# Factor of the discriminant of each class, given the number of its supports.
RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "own": lambda shown: (shown - 1) / shown,
    "fewest": lambda shown: ((shown.min() - 1) / shown.min()).expand_as(shown),
    "mean": lambda shown: ((shown.mean() - 1) / shown.mean()).expand_as(shown),
    "most": lambda shown: ((shown.max() - 1) / shown.max()).expand_as(shown),
}


class Experiment:
    """Episodes on two lists of pictures, whose features are computed once."""

    def __init__(self, options: argparse.Namespace) -> None:
        segmenter = Segmenter.load(weights=options.weights, stem=options.stem)
        self._extract, self._settings = segmenter._extract, segmenter.bundle_.refiners.closed_form
        self._options = options
        self._lists = {name: Pictures(options.voc, name) for name in ("train", "val")}
        self._units: dict[tuple[str, int], Tensor] = {}

    def _unit(self, name: str, number: int) -> Tensor:
        if (name, number) not in self._units:
            (features,) = self._extract([self._lists[name].image(number)])
            self._units[name, number] = F.normalize(features, dim=0).half()  # to keep many
        return self._units[name, number].float()

    def _labels(self, name: str, number: int, pair: list[int]) -> Tensor:
        mask = torch.from_numpy(two_classes(self._lists[name].mask(number), pair))
        height, width = self._unit(name, number).shape[1:]
        return self._extract.grid.labels_at_cells(mask, (height, width))

    def _pool(self, name: str, label: int) -> list[int]:
        rng = np.random.default_rng([0, label])
        large = np.flatnonzero(self._lists[name].pixels[:, label] >= MIN_PIXELS)
        return [int(number) for number in rng.permutation(large)[: self._options.pool]]

    def episode(self, fold: int, number: int, queries: str) -> NDArray[np.float64] | None:
        """Return intersections and unions of both classes, (rules, 2, 2); None if a class is at no cell."""
        rng = np.random.default_rng([fold, number])
        pair = (1 + PER_FOLD * fold + rng.permutation(PER_FOLD)[:2]).tolist()
        pixels, supports = self._lists["train"].pixels, []
        for label, other, count in zip(pair, pair[::-1], COUNTS[number % len(COUNTS)], strict=True):
            own = [one for one in rng.permutation(self._pool("train", label)).tolist() if not pixels[one, other]]
            supports += [one for one in own if one not in supports][:count]
        asked = []
        for label in pair:
            order = rng.permutation(self._pool(queries, label)).tolist()
            asked += [one for one in order if queries != "train" or one not in supports][: self._options.queries]
        statistics = [
            statistics_of(support_cells(self._unit("train", one), self._labels("train", one, pair)), 2, self._settings)
            for one in supports
        ]
        shown = (torch.stack([one.counts for one in statistics])[:, 1:] > 0).sum(0).float()
        if (shown == 0).any():
            return None
        head = combine(statistics, self._settings)
        counts = np.zeros((len(RULES), 2, 2))
        for one in asked:
            unit, truth = self._unit(queries, one), self._labels(queries, one, pair).numpy()
            for place, rule in enumerate(RULES.values()):
                weights = self._settings.discriminant_weight * rule(shown)
                answer = winners(replace(head, weights=weights).scores_of(unit).numpy(), [0.0, 0.0])
                for label in (1, 2):
                    found, true = (answer == label) & (truth != VOID), truth == label
                    counts[place, label - 1] += (found & true).sum(), (found | true).sum()
        return counts

    def fold(self, fold: int, queries: str) -> NDArray[np.float64]:
        """Return the mean IoU of both classes of all episodes of a fold, (episodes, rules)."""
        found = [self.episode(fold, number, queries) for number in range(self._options.episodes)]
        kept = np.stack([one for one in found if one is not None])
        scores: NDArray[np.float64] = (kept[..., 0] / np.maximum(kept[..., 1], 1)).mean(-1)
        means = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in zip(RULES, scores.mean(0), strict=True))
        print(f"{queries}, fold {fold}: {means}", flush=True)
        return scores


def report(train: list[NDArray[np.float64]], val: list[NDArray[np.float64]]) -> str:
    """Return the page of results."""
    names = list(RULES)
    lines = [f"| list | fold | {' | '.join(names)} | chosen on other folds |", "|" + "---|" * (len(names) + 3)]
    for name, scores in (("train", train), ("val", val)):
        for fold, own in enumerate(scores):
            others = np.concatenate([one for other, one in enumerate(train) if other != fold])
            best = names[int(others.mean(0).argmax())] if name == "val" else ""
            cells = " | ".join(f"{100 * value:.1f}" for value in own.mean(0))
            lines.append(f"| {name} | {fold} | {cells} | {best} |")
    return PAGE.format(table="\n".join(lines), counts=", ".join(f"{one}:{other}" for one, other in COUNTS))


PAGE = """# Classes with unequal numbers of supports

`python -m benchmarks.uneven --voc DIR --weights PATH --stem msra --out docs/results/uneven.md` writes this page.
Episodes of two classes with {counts} supports; mean IoU of both, %, at feature
cells, without a decision of presence; 12 episodes a fold and list, so that small differences do not count.
The discriminant of a class is multiplied by (n - 1)/n, with n supports of that class (`own`). A corrected result that
becomes a support of one class alone thus makes its logits larger in comparison with those of the others, also where
the others are right. Alternatives take the n of the class with the fewest supports, of that with the most, or the mean.

{table}
"""


def main() -> None:
    """Measure both lists, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--stem", default="")
    parser.add_argument("--pool", type=int, default=6, help="pictures of each class and list")
    parser.add_argument("--episodes", type=int, default=12, help="episodes of each fold and list")
    parser.add_argument("--queries", type=int, default=2, help="queries of each class")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    experiment = Experiment(options)
    train, val = ([experiment.fold(fold, name) for fold in range(FOLDS)] for name in ("train", "val"))
    page = report(train, val)
    print(page)
    if options.out:
        options.out.write_text(page, encoding="utf8")


if __name__ == "__main__":
    main()
