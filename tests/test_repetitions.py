"""Result tables over several training seeds: their intervals, what may be joined, and how repetitions are made."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.trainingseeds import document
from novelseg.core.files import digest
from novelseg.evaluation.comparisons import PROTOCOL_KEYS, Evaluation
from novelseg.evaluation.metrics import TRAINING, bootstrap_miou, scores, seed_mean
from novelseg.evaluation.repetitions import seed_tables
from novelseg.formats import tables
from novelseg.formats.about import write_about
from novelseg.formats.episode_results import RESULTS
from novelseg.formats.provenance import Record
from novelseg.formats.repetitions import SEED_COMPARISONS, SEED_SCORES
from stages.params.schema import read_yaml
from tests.conftest import ROOT
from tests.makers import tiny_values, write_values
from workflow.__main__ import main
from workflow.config import load
from workflow.join import SHARED
from workflow.plan import record_of

QUERIES = 12


def made_rows(rng: np.random.Generator, variants: dict[str, int], luck: int = 0) -> pd.DataFrame:
    """Rows of two lists of episodes: each variant has its own hits, and a training's ``luck``, in 100 px."""
    parts = []
    for seed in (0, 1):
        for variant, hits in variants.items():
            intersections = np.clip(rng.integers(20, 60, QUERIES) + hits + luck, 0, 100)
            facts = {"seed": seed, "episode": range(QUERIES), "variant": variant}
            counts = {"fg_intersection": intersections, "fg_union": 100, "bg_intersection": 1, "bg_union": 2}
            names = {"query": [f"q{n}" for n in range(QUERIES)], "class": [1 + n % 3 for n in range(QUERIES)]}
            parts.append(pd.DataFrame({**facts, **names, **counts}))
    return pd.concat(parts, ignore_index=True)


def slow_bootstrap(rows: pd.DataFrame, queries: np.ndarray, trainings: np.ndarray) -> float:
    """One sample written out: every drawn training seed is scored on every drawn query, as often as drawn."""
    names, mious = sorted(rows["query"].unique()), []
    for training, count in zip(sorted(rows[TRAINING].unique()), trainings, strict=True):
        own = rows[rows[TRAINING] == training]
        drawn = [own[own["query"] == name] for name, times in zip(names, queries, strict=True) for _ in range(times)]
        mious += [seed_mean(pd.concat(drawn).drop(columns=TRAINING))] * count
    return float(np.mean(mious))


def test_bootstrap_draws_queries_and_training_seeds_as_the_slow_one(rng: np.random.Generator) -> None:
    parts = [made_rows(rng, {"spfl": 0}, luck).assign(training=seed) for seed, luck in ((0, 0), (3, 20), (7, 5))]
    rows = pd.concat(parts)
    fast = bootstrap_miou(rows, 25, np.random.default_rng(4))
    again = np.random.default_rng(4)
    queries = again.multinomial(QUERIES, np.full(QUERIES, 1 / QUERIES), size=25)
    trainings = again.multinomial(3, np.full(3, 1 / 3), size=25)
    pairs = zip(queries, trainings, strict=True)
    assert np.allclose(fast, [slow_bootstrap(rows, *drawn) for drawn in pairs])


def test_one_training_has_the_samples_of_rows_without_the_column(rng: np.random.Generator) -> None:
    rows = made_rows(rng, {"spfl": 0})
    one, plain = (bootstrap_miou(part, 50, np.random.default_rng(1)) for part in (rows.assign(training=5), rows))
    assert (one == plain).all()


def test_the_interval_holds_the_luck_of_the_training(rng: np.random.Generator) -> None:
    """Three trainings 20 points apart on the same queries: the interval reaches from the worst to the best."""
    rows = made_rows(rng, {"spfl": 0})
    rows["fg_intersection"] = 40  # queries are alike
    lucky = pd.concat([rows.assign(training=seed, fg_intersection=40 + luck) for seed, luck in enumerate((-20, 0, 20))])
    found = scores(lucky, 400, np.random.default_rng(0))
    assert found.miou == pytest.approx(40)
    assert found.miou_std == pytest.approx(0)  # of the lists of episodes
    assert [found.miou_low, found.miou_high] == pytest.approx([20, 60], abs=7)


FACTS = dict.fromkeys(PROTOCOL_KEYS, "x") | {"held_out": -1, "lists": ["a", "b"], "list_digests": ["c", "d"]}
FACTS |= {"classes": ["one", "two", "three"], "folds": 4, "min_object_pixels": 5}
ABOUT = {"shot": 1, "protocol": FACTS, "unscored": [], "parameters": {"baseline": 1, "spfl": 1}}
ABOUT["classes"] = {"1": "one", "2": "two", "3": "three"}


def test_tables_hold_every_seed_and_their_mean(rng: np.random.Generator) -> None:
    """SPFL is 4, 6 and 8 points better than the Baseline in three trainings, on every query of two folds."""
    states = rng.bit_generator.state
    repetitions: dict[int, list[Evaluation]] = {}
    for seed, gain in ((0, 4), (1, 6), (2, 8)):
        repetitions[seed] = []
        for fold in (0, 1):
            rng.bit_generator.state = states  # the same hits
            base = made_rows(rng, {"baseline": 0})
            better = base.assign(variant="spfl", fg_intersection=base["fg_intersection"] + gain)
            repetitions[seed].append(Evaluation(Path(f"{seed}"), pd.concat([base, better]), {**ABOUT, "fold": fold}))
    table, gains = seed_tables(repetitions, "name", 300, 0)
    assert table["training"].unique().tolist() == ["0", "1", "2", "all"]
    assert table["fold"].unique().tolist() == ["0", "1", "mean"]
    joined = table[(table["training"] == "all") & (table["fold"] == "0")]
    assert joined["episodes"].tolist() == [2 * QUERIES] * 2
    joined = gains[gains["training"] == "all"]
    assert joined["gain"].tolist() == pytest.approx([6, 6, 6])
    assert joined["training_std"].tolist() == pytest.approx([2, 2, 2])
    lows, highs = joined["gain_low"].tolist(), joined["gain_high"].tolist()
    assert [lows[0], highs[0]] == pytest.approx([4, 8], abs=0.7)
    assert highs[2] - lows[2] < highs[0] - lows[0]  # the seeds of two folds are independent
    single = gains[gains["training"] == "1"]
    assert single["gain_low"].tolist() == pytest.approx([6, 6, 6])
    assert single["training_std"].isna().all()


Change = Callable[[Path], None]


def write_repetition(folder: Path, seed: int, **changes: Any) -> Path:
    """Write a project with one evaluation and the records of its chain, with ``changes`` to a record or the rows."""
    rows = made_rows(np.random.default_rng(0), changes.get("variants", {"baseline": 0, "spfl": 3}), luck=seed)
    place = folder / f"artifacts/evaluate/fold{changes.get('fold', 0)}/1shot"
    place.mkdir(parents=True)
    tables.write(place / "rows.parquet", RESULTS, rows[[column.name for column in RESULTS.columns]])
    write_about(place / "about.json", {**ABOUT, "fold": changes.get("fold", 0)})
    write_values(folder / "params.yaml", tiny_values(baseline={"seed": seed}, train={"seed": seed}))
    made = place.relative_to(folder).as_posix() + "/rows.parquet"
    names = {
        "episodes": "artifacts/episodes/fold0/1shot/seed0.tsv",
        "baseline": "artifacts/baseline/fold0/1shot/weights.safetensors",
        "train": "artifacts/train/fold0/1shot/hierarchical/weights.safetensors",
    }
    digests = {name: f"{stage}{seed}" for stage, name in names.items()}
    digests[names["episodes"]] = changes.get("episodes", "the same")
    parameters: dict[str, dict[str, Any]] = {
        "train": {"seed": seed, "gamma": [1.0]},
        "baseline": {"seed": seed},
        "episodes": {"count": 6},
    }
    parameters["train"] |= changes.get("train", {})
    for stage, name in names.items():
        section = {stage: parameters[stage]}
        write_record(folder, Record(stage, {}, section, "code", {}, {name: digests[name]}, {}))
    read = {**digests, "weights": "the same"}
    settings = {"srofb": {"feature_norm": changes.get("feature_norm", 8.0)}}
    code = changes.get("code", "code")
    write_record(folder, Record("evaluate", {}, settings, code, read, {made: digest(folder / made)}, {}))
    return folder


def write_record(folder: Path, record: Record) -> None:
    """Write the record of an output."""
    path = folder / record_of(next(iter(record.outputs)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(record)), encoding="utf8")


def test_join_writes_tables_and_names_the_repetitions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_repetition(tmp_path / f"s{seed}", seed) for seed in (4, 0, 2)]
    assert main(["join", *map(str, folders), "--out", str(tmp_path / "out")]) == 0
    page = capsys.readouterr().out
    assert all(f"seed {seed} ({folder})" in page for seed, folder in zip((4, 0, 2), folders, strict=True))
    table = tables.read(tmp_path / "out/results.tsv", SEED_SCORES)
    assert table["training"].unique().tolist() == ["0", "2", "4", "all"]
    gains = tables.read(tmp_path / "out/comparisons.tsv", SEED_COMPARISONS)
    assert (gains["reference"] == "baseline").all()
    assert gains["trainings"].tolist() == [1, 1, 1, 3]


def test_the_document_holds_what_the_tables_hold(tmp_path: Path) -> None:
    folders = [str(write_repetition(tmp_path / f"s{seed}", seed)) for seed in (0, 2)]
    assert main(["join", *folders, "--out", str(tmp_path / "out")]) == 0
    for name in ("results", "comparisons"):
        shutil.copy(tmp_path / f"out/{name}.tsv", tmp_path / f"training-seeds-demo-{name}.tsv")
    lines = document(tmp_path).splitlines()
    assert sum(line.startswith("## ") for line in lines) == 1  # the other section has no tables here
    assert "| fold | shot | variant | all seeds | seed 0 | seed 2 |" in lines
    (gain,) = [line for line in lines if line.startswith("| 0 | 1 | spfl | baseline |")]
    row = tables.read(tmp_path / "out/comparisons.tsv", SEED_COMPARISONS).set_index("training").loc["all"]
    assert (
        f"| {row['gain']:+.1f} ± {row['training_std']:.1f} [{row['gain_low']:+.1f}, {row['gain_high']:+.1f}] |" in gain
    )


def test_the_published_document_is_what_its_program_writes() -> None:
    folder = ROOT / "docs/results"
    assert (folder / "training-seeds.md").read_text(encoding="utf8") == document(folder)


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 0}, "has training seed 0, as"),
    "parameter": ({"feature_norm": 0.0}, "srofb.feature_norm is 0.0, but"),
    "parameter of a training": ({"train": {"gamma": [2.0]}}, "train.gamma is [2.0], but"),
    "seeds of two trainings": ({"train": {"seed": 7}}, "expected trainings with one seed"),
    "episodes": ({"episodes": "others"}, "artifacts/episodes/fold0/1shot/seed0.tsv of provenance/evaluate"),
    "fold": ({"fold": 1}, "has fold 1 1-shot, but"),
    "variants": ({"variants": {"baseline": 0}}, "the variant 'spfl' is only in one of"),
    "code": ({"code": "older"}, "its stage evaluate ran with other code"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_join_refuses_what_is_no_repetition(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    changes, message = REFUSALS[name]
    one = write_repetition(tmp_path / "one", 0)
    two = write_repetition(tmp_path / "two", **{"seed": 1, **changes})
    assert main(["join", str(one), str(two), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_join_refuses_files_that_their_records_do_not_describe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [write_repetition(tmp_path / name, seed) for seed, name in enumerate(("one", "two"))]
    words = ["join", *map(str, folders), "--out", str(tmp_path / "out")]
    assert main([*words, "--folds", "0", "3"]) == 2
    assert "has no evaluation of fold 3" in capsys.readouterr().err
    assert main(words[:2]) == 2
    assert "expected at least two repetitions" in capsys.readouterr().err
    rows = "artifacts/evaluate/fold0/1shot/rows.parquet"
    kept = (folders[1] / rows).read_bytes()
    shutil.copy(folders[0] / rows, folders[1] / rows)
    assert main(words) == 2
    assert "is not the file that its record describes" in capsys.readouterr().err
    (folders[1] / rows).write_bytes(kept)
    trained = "artifacts/train/fold0/1shot/hierarchical/weights.safetensors"
    write_record(folders[1], Record("train", {}, {"train": {"seed": 1}}, "code", {}, {trained: "anew"}, {}))
    assert main(words) == 2
    assert f"{trained}: has changed since" in capsys.readouterr().err
    (folders[1] / record_of(trained)).unlink()
    assert main(words) == 2
    assert f"no record of {trained}" in capsys.readouterr().err


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, list[str]]]:
    """A project of two folds with the stages before all trainings, and the calls of Snakemake, which does nothing."""
    monkeypatch.chdir(tmp_path)
    write_values(Path("params.yaml"), tiny_values(plan={"folds": [1, 0]}))
    for output in (path for stage in SHARED for path in load().targets.of(stage)):
        for path in (Path(output), Path(record_of(output))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(output, encoding="utf8")
    calls: list[tuple[Path, list[str]]] = []

    def snakemake(words: list[str], *, folder: Path, **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append((folder, words))
        printed = "job count\nevaluate 1\ntrain 2\nimages 0\ntotal 3\n" if folder != Path() else "Nothing to be done"
        return subprocess.CompletedProcess(words, 0, printed, "")

    monkeypatch.setattr("workflow.seeds.snakemake", snakemake)
    monkeypatch.setattr("workflow.seeds.join", lambda folders, folds: f"joined {[*map(str, folders)]} {folds}")
    return calls


def test_repetitions_run_fold_after_fold_with_shared_files(
    planned: list[tuple[Path, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "seeds", "--grid", "0 5", "--cores", "2"]) == 0
    other = Path("repetitions/seed5")
    assert f"joined ['.', '{other}'] [1, 0]" in capsys.readouterr().out
    (_, shared), *runs = planned
    assert shared[-5:] == ["images_all", "index_all", "hierarchies_all", "regions_all", "episodes_all"]
    targets = [f"artifacts/evaluate/fold{fold}/1shot/rows.parquet" for fold in (1, 1, 0, 0)]
    assert [(folder, words[-1]) for folder, words in runs] == [*zip([Path(), other] * 2, targets, strict=True)]
    assert all(words[-4:-1] == ["--cores", "2", "--"] for _, words in runs)
    own, project = read_yaml(other / "params.yaml"), read_yaml(Path("params.yaml"))
    differences = {
        f"{section}.{key}": value
        for section, values in own.items()
        for key, value in values.items()
        if value != project[section][key]
    }
    weights = {name: str(Path(project[name]["weights"]).absolute()) for name in ("encoder", "hierarchies")}
    seeds = {"baseline.seed": 5, "train.seed": 5, "cam.seed": 5}
    assert differences == seeds | {f"{name}.weights": path for name, path in weights.items()}
    assert (other / "artifacts/index/index.h5").samefile("artifacts/index/index.h5")
    assert (other / "provenance/index/index.json").exists()


def test_the_state_of_repetitions(planned: list[tuple[Path, list[str]]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "seeds", "--grid", "0 5 6", "--cores", "1"]) == 0
    capsys.readouterr()
    shutil.rmtree("repetitions/seed6")
    assert main(["study", "seeds", "--grid", "0 5 6", "--state"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "training seed 0 (.): 2 of 2 evaluations finished",
        f"training seed 5 ({Path('repetitions/seed5')}): 1 of 2 evaluations finished, 3 jobs to run",
        f"training seed 6 ({Path('repetitions/seed6')}): not begun",
    ]
    assert planned[-1][1][-4:-2] == ["reason", "--"]
    assert main(["study", "supports", "--state"]) == 2
    assert "--state is for `study seeds`" in capsys.readouterr().err
    own = Path("repetitions/seed5/params.yaml")
    own.write_text(own.read_text(encoding="utf8") + "# changed\n", encoding="utf8")
    assert main(["study", "seeds", "--grid", "0 5", "--state"]) == 0
    assert "seed5): begun with other parameters than the project has now" in capsys.readouterr().out
    assert own.read_text(encoding="utf8").endswith("# changed\n")
    for grid in ("1", "1 1", "a b", "-1 2", f"0 {1 << 63}", f"0 {10**30}"):
        assert main(["study", "seeds", f"--grid={grid}"]) == 2
        assert "expected at least two different training seeds" in capsys.readouterr().err
