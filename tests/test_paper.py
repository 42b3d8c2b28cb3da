"""Tables and figures of the papers, from the tiny experiment, beside the papers' own numbers."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from novelseg.formats import tables
from novelseg.formats.results import SCORES
from novelseg.report.sheet import views_of
from tests.conftest import ROOT
from tests.makers import Project, tiny_values, write_values
from workflow import paper
from workflow.__main__ import main


@pytest.fixture
def own(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tiny experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts").symlink_to(project.root / "artifacts")
    (tmp_path / "report").mkdir()
    shutil.copy(project.root / "report/results.tsv", tmp_path / "report")
    write_values(tmp_path / "params.yaml", tiny_values())
    return tmp_path


def rows(name: str) -> list[dict[str, str]]:
    with Path(f"report/paper/{name}.tsv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_components_stand_beside_the_papers(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "A-III"]) == 0
    assert capsys.readouterr().out.split() == ["report/paper/A-III.md", "report/paper/A-III.tsv"]
    scores = tables.read(own / "report/results.tsv", SCORES).set_index("variant")
    table = {row["method"]: row for row in rows("A-III")}
    assert list(table) == ["Baseline", "single-level SPFL", "SPFL", "SPFL + SROFB"]
    for method, variant in (("Baseline", "baseline"), ("SPFL", "spfl"), ("SPFL + SROFB", "spfl+srofb")):
        score = scores.loc[variant]
        assert table[method]["fold 0"] == f"{score['miou']:.1f}"
        assert f"[{score['miou_low']:.1f}, {score['miou_high']:.1f}]" in table[method]["mean"]
    assert table["single-level SPFL"]["fold 0"] == "–"
    assert table["SPFL + SROFB"]["paper, mean"] == "63.7"
    page = (own / "report/paper/A-III.md").read_text(encoding="utf8")
    assert "Not in this experiment: spfl-single-level with 1 support(s); see plan" in page
    assert "They stand side by side and cannot be compared." in page
    assert "Only fold 0 of four" in page
    assert "not comparable with published numbers" in page
    assert "* train_list: train " in page


@pytest.mark.parametrize("name", ["A-I", "A-II", "A-IV", "B-II"])
def test_the_other_tables_have_every_row_of_the_papers(own: Path, name: str) -> None:
    assert main(["paper", name]) == 0
    table, backbone = paper.TABLES[name], "ResNet-50"
    published = paper._published(table, backbone)
    made = {(row["method"], row["shots"]): row["paper, mean"] for row in rows(name)}
    assert made == {(row["method"], row["shots"]): row["mean"] for row in published}
    assert {row["ours"] for row in rows(name)} - {""} == {line.variant for line in table.lines}
    own_means = [row["mean"] for row in rows(name) if row["ours"] and row["mean"] != "–"]
    assert all(("±" in mean) == (name == "B-II") for mean in own_means)  # the intervals of the scores are of the mIoU


def test_a_protocol_of_the_paper_is_compared(own: Path) -> None:
    scores = tables.read(own / "report/results.tsv", SCORES).assign(protocol="pascal5i (native size, trainaug)")
    folds = [scores.assign(fold=fold) for fold in ("0", "1", "2", "3", "mean")]
    tables.write(own / "report/results.tsv", SCORES, pd.concat(folds, ignore_index=True).assign(source="voc+sbd"))
    assert main(["paper", "A-III"]) == 0
    page = (own / "report/paper/A-III.md").read_text(encoding="utf8")
    assert "cannot be compared" not in page
    assert "Only fold" not in page
    assert all(row["fold 3"] != "–" for row in rows("A-III") if row["method"] != "single-level SPFL")


def test_rows_of_other_gammas_are_kept(own: Path) -> None:
    assert main(["paper", "A-V"]) == 0
    first = next(row for row in rows("A-V") if row["ours"])
    assert first["method"] == "γ = 0.5, 1, 1"
    write_values(own / "params.yaml", tiny_values(train={"gamma": [1.0, 1.0, 1.0]}))
    assert main(["paper", "A-V"]) == 0
    measured = {row["method"]: row["fold 0"] for row in rows("A-V") if row["ours"]}
    assert measured.keys() == {"γ = 0.5, 1, 1", "γ = 1, 1, 1"}
    assert len(rows("A-V")) == 5
    scores = tables.read(own / "report/results.tsv", SCORES)
    tables.write(own / "report/results.tsv", SCORES, scores.assign(protocol="another"))
    assert main(["paper", "A-V"]) == 0
    assert {row["method"] for row in rows("A-V") if row["ours"]} == {"γ = 1, 1, 1"}


@pytest.mark.parametrize("name", ["A-4", "A-5", "A-6", "B-2"])
def test_pictures_are_drawn(own: Path, name: str) -> None:
    assert main(["paper", name]) == 0
    with Image.open(own / f"report/paper/{name}.png") as picture:
        assert min(picture.size) > 300
    assert f"![{paper.FIGURES[name].title}]({name}.png)" in (own / f"report/paper/{name}.md").read_text(encoding="utf8")


def test_curves_come_from_the_studies(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def study(name: str, grid: str | None, words: list[str]) -> str:
        (own / f"studies/{name}").mkdir(parents=True)
        for suffix in ("tsv", "svg"):
            (own / f"studies/{name}/curve.{suffix}").write_text(" ".join(words), encoding="utf8")
        return "        5 srofb      40.0"

    monkeypatch.setattr(paper, "study", study)
    assert main(["paper", "A-8", "--episodes", "4"]) == 0
    page = (own / "report/paper/A-8.md").read_text(encoding="utf8")
    assert "Encoders here were trained with 1 support(s), those of the paper with 5." in page
    assert "5 srofb      40.0" in page
    assert (own / "report/paper/A-8.svg").read_text(encoding="utf8") == "--episodes 4"


def test_what_cannot_be_shown_is_said(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "A-9"]) == 2
    assert "there is no 'A-9'; did you mean 'A-" in capsys.readouterr().err
    assert main(["paper", "A-I", "--episodes", "4"]) == 2
    assert "A-I takes no options" in capsys.readouterr().err
    cards = [{"views": [{"caption": "query", "base": "q", "layer": ""}], "pictures": {"q": ""}, "title": "t"}]
    assert views_of(cards[0], ["spfl+srofb", "query"]) == [("query", "", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "_cards", lambda *_: cards)
        assert main(["paper", "B-2"]) == 2
    assert "no stored episode shows 'activation map of the class'; set plan.cam to true" in capsys.readouterr().err
    (own / "report/results.tsv").unlink()
    assert main(["paper", "A-I"]) == 2
    assert "run the pipeline first" in capsys.readouterr().err


def test_every_table_and_figure_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper"]) == 0
    page = (ROOT / "docs/paper.md").read_text(encoding="utf8")
    for name in paper.NAMES:
        assert f"`{name}`" in page
    assert len(capsys.readouterr().out.splitlines()) == len(paper.NAMES)
