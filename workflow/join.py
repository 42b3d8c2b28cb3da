"""``python -m workflow join FOLDER …``: one result table from repetitions of the trainings with other seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import pandas as pd

from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.core.numbers import fixed
from novelseg.evaluation.comparisons import Evaluation, read_evaluations
from novelseg.evaluation.repetitions import seed_tables
from novelseg.formats import tables
from novelseg.formats.files import ROWS
from novelseg.formats.provenance import Record, read_record
from novelseg.formats.repetitions import ALL, SEED_COMPARISONS, SEED_SCORES
from workflow.config import PARAMS, load
from workflow.plan import READS, record_of, stage_of

FOLDER = Path("studies/seeds")
RESULTS, COMPARISONS = "results.tsv", "comparisons.tsv"
# Sections whose parameter `seed` is a training seed.
TRAINED = ("baseline", "train", "cam")
# Stages whose outputs do not depend on a training, so that repetitions have the same.
SHARED = ("images", "index", "hierarchies", "regions", "episodes")


@dataclass(frozen=True)
class Repetition:
    """The evaluations of a project, and the provenance records of all that they were made from."""

    folder: Path
    evaluations: list[Evaluation]
    records: dict[str, Record]

    @property
    def scope(self) -> list[tuple[int, int]]:
        """Fold and number of supports of every evaluation."""
        return [(evaluation.about["fold"], evaluation.about["shot"]) for evaluation in self.evaluations]

    @cached_property
    def seed(self) -> int:
        """The training seed.

        Raises
        ------
        InputError
            If nothing was trained, or trainings have several seeds.
        """
        seeds = {
            f"{record.stage}.seed": int(record.parameters[record.stage]["seed"])
            for record in self.records.values()
            if record.stage in TRAINED
        }
        if len(set(seeds.values())) != 1:
            found = ", ".join(f"{name} {seed}" for name, seed in seeds.items()) or "no training"
            raise InputError(f"{self.folder}: has {found}; expected trainings with one seed")
        return next(iter(seeds.values()))


def read_repetition(folder: Path, folds: list[int] | None) -> Repetition:
    """Read the evaluations of a project, of all folds or some, and check that its records describe them.

    Raises
    ------
    InputError
        If there is no evaluation of a fold, or a file and its record disagree.
    """
    top = folder / "artifacts/evaluate"
    found = sorted(path.parent for path in top.glob(f"fold*/*shot/{ROWS}"))
    chosen = [path for path in found if folds is None or path.parent.name in {f"fold{fold}" for fold in folds}]
    absent = [fold for fold in folds or [] if not any(path.parent.name == f"fold{fold}" for path in chosen)]
    if absent or not chosen:
        which = f"fold {absent[0]}" if absent else "any fold"
        raise InputError(f"{top}: has no evaluation of {which}; finish the repetition, or give other --folds")
    records: dict[str, Record] = {}
    for path in chosen:
        output = (path / ROWS).relative_to(folder).as_posix()
        record = _trace(folder, output, records)
        if record.outputs[output] != digest(path / ROWS):
            raise InputError(f"{path / ROWS}: is not the file that its record describes; rerun `evaluate`")
    return Repetition(folder, read_evaluations(chosen), records)


def _trace(folder: Path, output: str, records: dict[str, Record]) -> Record:
    """Read the record of an output, and those of all artifacts that it was made from, into ``records``."""
    path = record_of(output)
    if path in records:
        return records[path]
    record = read_record(folder / path)
    if record is None or output not in record.outputs:
        raise InputError(f"{folder / path}: no record of {output}; run `snakemake` in {folder}")
    records[path] = record
    for name, md5 in record.inputs.items():
        if name.startswith("artifacts/") and _trace(folder, name, records).outputs.get(name) != md5:
            raise InputError(f"{folder / name}: has changed since {output} was made; run `snakemake` in {folder}")
    return record


def check(repetitions: list[Repetition], paths: frozenset[str] = frozenset()) -> None:
    """Check that repetitions differ in their training seeds and in nothing else.

    Parameters
    ----------
    repetitions
        The repetitions.
    paths
        Parameters that are paths to files outside the pipeline; their content counts instead, as an input.

    Raises
    ------
    InputError
        If two have the same seed, or another difference; the message names the first one.
    """
    if len(repetitions) < 2:
        raise InputError(f"{len(repetitions)} folder(s) given; expected at least two repetitions to join")
    first, *others = repetitions
    for other in others:
        if difference := next(_differences(first, other, paths), ""):
            raise InputError(f"{other.folder}: {difference}; expected repetitions that differ in training seeds alone")
    for one, two in combinations(repetitions, 2):
        if one.seed == two.seed:
            raise InputError(f"{two.folder}: has training seed {two.seed}, as {one.folder}; give each seed once")


def _differences(first: Repetition, other: Repetition, paths: frozenset[str]) -> Iterator[str]:
    """Yield how ``other`` differs from ``first``, the plainest first."""
    if other.scope != first.scope:
        has, expected = (", ".join(f"fold {f} {k}-shot" for f, k in part.scope) for part in (other, first))
        yield f"has {has}, but {first.folder} has {expected} (see --folds, and `python -m workflow prune`)"
        return
    if missing := sorted(first.records.keys() ^ other.records.keys()):
        without = other if missing[0] in first.records else first
        yield f"{missing[0]} is missing in {without.folder}"
        return
    pairs = [(path, record, other.records[path]) for path, record in first.records.items()]
    for _, own, theirs in pairs:
        yield from _parameters(first.folder, own, theirs, paths)
    for path, own, theirs in pairs:
        yield from _inputs(first.folder, path, own, theirs)
    for one, two in zip(first.evaluations, other.evaluations, strict=True):
        yield from _rows(one, two)
    for _, own, theirs in pairs:
        if own.code != theirs.code:
            yield f"its stage {theirs.stage} ran with other code than in {first.folder}"


def _rows(one: Evaluation, two: Evaluation) -> Iterator[str]:
    """Yield why the rows of two evaluations are not of the same variants and episodes."""
    variants = [set(evaluation.rows["variant"]) for evaluation in (one, two)]
    if differing := sorted(variants[0] ^ variants[1]):
        yield f"the variant '{differing[0]}' is only in one of {two.folder} and {one.folder}"
    names = ["seed", "episode", "query", "class"]
    episodes = [evaluation.rows[names].drop_duplicates(ignore_index=True) for evaluation in (one, two)]
    if not episodes[0].equals(episodes[1]):
        yield f"the episodes in {two.folder} are not those in {one.folder}"


def _parameters(folder: Path, own: Record, theirs: Record, paths: frozenset[str]) -> Iterator[str]:
    for section in sorted(own.parameters.keys() | theirs.parameters.keys()):
        one, two = (record.parameters.get(section, {}) for record in (own, theirs))
        for key in sorted(one.keys() | two.keys()):
            free = f"{section}.{key}" in paths or (key == "seed" and section in TRAINED)
            if one.get(key) != two.get(key) and not free:
                yield f"{section}.{key} is {two.get(key)}, but {folder} has {one.get(key)}"


def _inputs(folder: Path, path: str, own: Record, theirs: Record) -> Iterator[str]:
    """Yield inputs that differ although no training made them: lists, episodes, images, weights."""
    for name in sorted(own.inputs.keys() | theirs.inputs.keys()):
        shared = not name.startswith("artifacts/") or stage_of(name) in SHARED
        if shared and own.inputs.get(name) != theirs.inputs.get(name):
            yield f"{name} of {path} is not the same as in {folder}"


def join(folders: list[Path], folds: list[int] | None = None, out: Path = FOLDER) -> str:
    """Write the tables of all training seeds and of their mean, and return the latter as text.

    Protocol, number of bootstrap samples and their seed are those of the first folder's section ``report``.

    Raises
    ------
    InputError
        If a repetition is not finished, or repetitions differ in more than their training seeds.
    """
    repetitions = [read_repetition(folder, folds) for folder in folders]
    config = load(folders[0] / PARAMS)
    check(repetitions, frozenset(key for stage in READS for key in config.external(stage)))
    report = config.values("report")
    by_seed = {one.seed: one.evaluations for one in sorted(repetitions, key=lambda one: one.seed)}
    scores, gains = seed_tables(by_seed, report["protocol"], report["bootstrap"], report["seed"])
    tables.write(out / RESULTS, SEED_SCORES, scores)
    tables.write(out / COMPARISONS, SEED_COMPARISONS, gains)
    names = ", ".join(f"seed {one.seed} ({one.folder})" for one in repetitions)
    lines = [f"{report['protocol']}: {names}", *_lines(scores, "miou", ".1f"), "", *_lines(gains, "gain", "+.1f")]
    note = "±: deviation between training seeds; 95 % intervals over query images and training seeds"
    return "\n".join([*lines, "", note, f"{out / RESULTS}, {out / COMPARISONS}"])


def _lines(table: pd.DataFrame, value: str, form: str) -> Iterator[str]:
    """Yield the rows over all training seeds as text: the score or gain, its deviation between seeds, its interval."""
    head = f"{'shot':>4} {'fold':>5} {'variant':<29} "
    yield head + (f"{'over':<29} {'gain':>6}" if "reference" in table else f"{'mIoU':>6}") + f" {'±':>4}  interval"
    for row in table[table["training"] == ALL].to_dict("records"):
        score, low, high = (fixed(row[name], form) for name in (value, f"{value}_low", f"{value}_high"))
        names = f"{row['variant']:<29} " + (f"{row['reference']:<29} " if "reference" in row else "")
        yield f"{row['shot']:>4} {row['fold']:>5} {names}{score:>6} {row['training_std']:>4.1f}  [{low}, {high}]"
