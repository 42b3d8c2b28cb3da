"""Curves and heat maps of studies."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from novelseg.core.random import numpy_generator
from novelseg.evaluation.metrics import bootstrap_miou, seed_mean
from novelseg.formats.study_results import STUDY_CURVE
from novelseg.report.pictures import svg

SAMPLES = 1000  # of the bootstrap


def _rank(pair: tuple[str, str]) -> tuple[list[float], str]:
    """Return the sort key of a setting and variant: by the setting's numbers; "none", without numbers, comes first."""
    setting, variant = pair
    return [] if setting == "none" else [float(number) for number in setting.split("/")], variant


def curve(folds: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Average the mIoU of every setting and variant over folds, with bootstrap intervals over query images."""
    rows = []
    first = next(iter(folds.values()))
    pairs = first[["setting", "variant"]].drop_duplicates().itertuples(index=False)
    for setting, variant in sorted(pairs, key=_rank):
        parts = {
            fold: frame[(frame["setting"] == setting) & (frame["variant"] == variant)] for fold, frame in folds.items()
        }
        samples = [
            np.append(seed_mean(part), bootstrap_miou(part, SAMPLES, numpy_generator(0, "study", fold)))
            for fold, part in parts.items()
        ]
        mean = 100 * np.mean(samples, axis=0)
        low, high = np.percentile(mean[1:], [2.5, 97.5])
        rows.append((setting, variant, mean[0], low, high, sum(map(len, parts.values()))))
    return pd.DataFrame(rows, columns=[column.name for column in STUDY_CURVE.columns])


def supports_picture(table: pd.DataFrame, title: str) -> bytes:
    """Plot the mIoU of every variant against the number of supports, as SVG (A, Fig. 8)."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    variants = sorted(table["variant"].unique())
    for number, variant in enumerate(variants):
        part = table[table["variant"] == variant]
        part = part.assign(k=part["setting"].astype(int)).sort_values("k")
        shift = 0.12 * (number - (len(variants) - 1) / 2)  # intervals of one setting lie side by side
        reach = (part["miou"] - part["miou_low"], part["miou_high"] - part["miou"])
        axes.errorbar(part["k"] + shift, part["miou"], yerr=reach, marker="o", capsize=2, elinewidth=1, label=variant)
    axes.set(xlabel="supports", ylabel="mIoU, %")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend()
    return svg(figure)


def thresholds_picture(table: pd.DataFrame, title: str) -> bytes:
    """Plot the mIoU of every pair of thresholds as a heat map, as SVG (A, Fig. 7)."""
    refined = table[table["setting"] != "none"]
    thresholds = refined["setting"].str.split("/", expand=True).astype(float)
    grid = refined.assign(fg=thresholds[0], bg=thresholds[1]).pivot_table(index="fg", columns="bg", values="miou")
    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, origin="lower", cmap="viridis", aspect="auto")
    middle = (grid.to_numpy().min() + grid.to_numpy().max()) / 2
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        colour = "white" if value < middle else "black"
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(grid.shape[1]), [f"{value:g}" for value in grid.columns])
    axes.set_yticks(range(grid.shape[0]), [f"{value:g}" for value in grid.index])
    axes.set(xlabel="τ_bg", ylabel="τ_fg")
    matching = table.loc[table["setting"] == "none", "miou"].iloc[0]
    axes.set_title(f"{title}\nmatching alone: {matching:.1f}", fontsize=9)
    figure.colorbar(image, label="mIoU, %")
    return svg(figure)


PICTURES = {"supports": supports_picture, "thresholds": thresholds_picture}


def title_of(about: dict[str, object], folds: list[int]) -> str:
    """Return a title of two lines: the folds, and the training of the encoder."""
    encoder = about["encoder"]
    assert isinstance(encoder, dict)
    return (
        f"folds {', '.join(map(str, folds))}; {encoder['arch']}, trained with {encoder['shot']} support(s),\n"
        f"{encoder['iterations']} iterations at {encoder['resolution']}"
    )
