"""Tables and studies as people ask for them."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from novelseg.formats import tables
from novelseg.formats.protocol import caution
from novelseg.formats.results import SCORES
from novelseg.formats.study_results import STUDY_CURVE
from novelseg.report.studies import _rank
from tests.conftest import ROOT
from tests.makers import Project
from tests.warm import started
from workflow.__main__ import main
from workflow.presets import names, resolve_preset
from workflow.published import lines, published


@pytest.fixture
def own(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the tiny experiment as the working folder, where stages are found as in the project's."""
    copy = Project(shutil.copytree(project.root, tmp_path / "own"), project.weights)
    monkeypatch.chdir(copy.root)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return copy


def test_markdown_holds_every_number_of_the_tables(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.root)
    assert main(["table", "--markdown"]) == 0
    page = capsys.readouterr().out
    for row in tables.read(project.root / "report/results.tsv", SCORES).to_dict("records"):
        line = rf"^\| {row['shot']} \| {re.escape(row['variant'])} \| {row['miou']:.1f} ± {row['miou_std']:.1f} \["
        assert re.search(line, page, re.M), row["variant"]
    heads = re.findall(r"^\| shot .*$", page, re.M)
    assert heads[0] == "| shot | variant | fold 0 |"
    assert len(heads) == 4
    widths = {len(re.findall(r"\|", line)) for line in page.splitlines() if line.startswith("| 1 | spfl | baseline")}
    assert widths == {5}
    assert main(["table"]) == 0
    assert "spfl+srofb" in capsys.readouterr().out


def test_published_rows_stand_beside_results_of_their_protocol_only() -> None:
    assert published("demo (built-in scenes)") == published("voc-subset-cpu") == []
    rows = {preset: published(f"{preset} (native size)") for preset in ("pascal5i", "pascal5i-r101", "coco20i-r101")}
    means = {
        preset: [row["mean"] for row in own if row["method"] == "the paper's method" and row["paper"] == "A"]
        for preset, own in rows.items()
    }
    assert means == {"pascal5i": ["63.7", "67.4"], "pascal5i-r101": ["64.2", "69.5"], "coco20i-r101": ["37.1", "44.9"]}
    gammas = [row["method"] for row in rows["pascal5i"] if row["table"] == "V"]
    assert gammas == ["γ = 1, 1, 1", "γ = 1, 0.5, 0.5", "γ = 0.5, 1, 0.5", "γ = 0.5, 0.5, 1", "γ = 0.5, 1, 1"]
    page = "\n".join(lines("pascal5i (native size)"))
    assert "not comparable row by row" in page
    assert "best of twenty snapshots" in page


def test_protocols_of_the_presets_name_their_data_set() -> None:
    shown = {name for name in names() if published(resolve_preset(name)["report"]["protocol"])}
    assert shown == {"pascal5i", "pascal5i-r101", "coco20i-contiguous", "coco20i-fwb", "coco20i-r101"}


def test_a_table_of_the_scenes_says_what_it_is_worth(own: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert caution("scenes") in (own.root / "report/index.html").read_text(encoding="utf8")
    for words in (["table"], ["table", "--markdown"]):
        assert main(words) == 0
        assert caution("scenes") in capsys.readouterr().out.replace("\n", " ")
    # The data set counts, not the name of the preset.
    scores = tables.read(own.root / "report/results.tsv", SCORES)
    tables.write(own.root / "report/results.tsv", SCORES, scores.assign(source="voc"))
    assert main(["table"]) == 0
    assert "drawings" not in capsys.readouterr().out


def test_settings_are_ordered_as_numbers() -> None:
    pairs = [("10", "srofb"), ("10", "matching"), ("2", "srofb"), ("0.6/0.8", "srofb"), ("none", "matching")]
    assert [setting for setting, _ in sorted(pairs, key=_rank)] == ["none", "0.6/0.8", "2", "10", "10"]


@pytest.mark.processes
@pytest.mark.parametrize("name", ["supports", "thresholds"])
def test_a_study_runs_every_fold_and_draws_a_curve(
    own: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(sys, "executable", str(started().folder / "python"))  # of the folds
    grid = {"supports": "1 2", "thresholds": "0.6 0.8"}[name]
    assert main(["study", name, "--grid", grid, "--episodes", "4", "--threads", "1"]) == 0
    curve = tables.read(own.root / f"studies/{name}/curve.tsv", STUDY_CURVE)
    assert curve["episodes"].tolist() == [4] * len(curve)
    assert (own.root / f"studies/{name}/curve.svg").read_bytes().startswith(b"<?xml")
    assert f"studies/{name}/curve.svg" in capsys.readouterr().out
    if name == "thresholds":
        return
    # A fold that fails leaves no curve behind that shows something else.
    assert main(["study", name, "--grid", "much"]) == 2
    assert "the study of fold 0 did not finish" in capsys.readouterr().err
    assert not (own.root / f"studies/{name}/curve.tsv").exists()


def test_a_study_needs_its_encoder(own: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "support"]) == 2
    assert "there is no study 'support'; did you mean 'supports'" in capsys.readouterr().err
    shutil.rmtree(own.path("train/fold0/1shot/hierarchical"))
    assert main(["study", "supports"]) == 2
    assert "no such file; run `snakemake train_all` first" in capsys.readouterr().err
