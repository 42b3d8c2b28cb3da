"""Tables over repetitions of the trainings: the same episodes, scored by encoders of several training seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from novelseg.evaluation.comparisons import Evaluation, comparison_table, protocol_columns, score_table
from novelseg.evaluation.metrics import TRAINING
from novelseg.formats.repetitions import ALL, SEED_COMPARISONS, SEED_SCORES

KEYS = ["fold", "shot", "variant"]


def pool(repetitions: dict[int, list[Evaluation]]) -> list[Evaluation]:
    """Return one evaluation per fold and shot with the rows of all training seeds.

    Parameters
    ----------
    repetitions
        Training seed → its evaluations, the same folds and shots in the same order.
    """
    pooled = []
    for parts in zip(*repetitions.values(), strict=True):
        rows = [part.rows.assign(**{TRAINING: seed}) for seed, part in zip(repetitions, parts, strict=True)]
        pooled.append(replace(parts[0], rows=pd.concat(rows, ignore_index=True)))
    return pooled


def seed_tables(
    repetitions: dict[int, list[Evaluation]], protocol: str, samples: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the tables ``seed_results`` and ``seed_comparisons``.

    The rows of one training seed are those of its report: their intervals are over query images. The rows ``all`` are
    means over training seeds, and their intervals are over query images and training seeds
    (:func:`novelseg.evaluation.metrics.bootstrap_miou`). Folds have trainings of their own, whose seeds are resampled
    independently; ``training_std`` of a mean over folds is the deviation of the repetitions' means.

    Parameters
    ----------
    repetitions
        Training seed → its evaluations, the same folds, shots, variants and episodes in the same order.
    protocol
        Name of the protocol.
    samples, seed
        Number of bootstrap samples, and their seed.

    Raises
    ------
    InputError
        If two repetitions follow different protocols.
    """
    protocol_columns([evaluation for own in repetitions.values() for evaluation in own], protocol)
    groups = {str(number): own for number, own in repetitions.items()} | {ALL: pool(repetitions)}
    scores = {name: score_table(own, protocol, samples, seed) for name, own in groups.items()}
    gains = {name: comparison_table(own, protocol, samples, seed) for name, own in groups.items()}
    count = len(repetitions)
    scores[ALL]["episodes"] //= count  # the same episodes, scored once by each
    return (
        _joined(scores, count, "miou", KEYS)[[column.name for column in SEED_SCORES.columns]],
        _joined(gains, count, "gain", [*KEYS, "reference"])[[column.name for column in SEED_COMPARISONS.columns]],
    )


def _joined(tables: dict[str, pd.DataFrame], count: int, value: str, keys: list[str]) -> pd.DataFrame:
    """Stack the tables of all seeds and of their mean, with the deviation of ``value`` between the seeds."""
    single = pd.concat([table for name, table in tables.items() if name != ALL])
    spread = single.groupby(keys)[value].std(ddof=1).rename("training_std").reset_index()
    parts = [
        table.merge(spread, how="left", on=keys, validate="one_to_one").assign(training=name, trainings=count)
        if name == ALL
        else table.assign(training=name, training_std=np.nan, trainings=1)
        for name, table in tables.items()
    ]
    return pd.concat(parts, ignore_index=True)
