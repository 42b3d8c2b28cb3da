"""Digests, records, the judge's edges and the lock, without an engine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.formats.provenance import parse_record, read_record
from stages.interface import interface
from stages.provenance.digests import Digests, digest_once
from stages.provenance.record import Recorder, artifact_files
from tests.makers import tiny_values, write_values
from workflow import remote
from workflow.config import load
from workflow.records import leftovers, prune
from workflow.tracking import Tracking, alone


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with parameters, as the working folder."""
    write_values(tmp_path / "params.yaml", tiny_values())
    (tmp_path / ".cache").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: Path, text: str) -> Path:
    """A file with a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_digest_is_remembered_until_the_file_changes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(here / "a", "one")
    asked: list[Path] = []

    def counted(file: Path) -> str:
        asked.append(file)
        return digest(file)

    monkeypatch.setattr("stages.provenance.digests.digest", counted)
    assert Digests().of("a") == digest(path) == Digests().of("a") == digest_once(Path("a"))
    assert len(asked) == 1
    path.write_text("two")
    assert Digests().known("a") is None
    assert Digests().of("a") == digest(path)
    assert Digests().of("none") is None
    with pytest.raises(FileNotFoundError):
        digest_once(Path("none"))


def test_a_torn_memory_costs_a_reading_and_nothing_else(here: Path) -> None:
    path = written(here / "a", "one")
    Digests().of("a")
    memory = here / ".cache/digests.tsv"
    memory.write_text(memory.read_text()[:-20] + "\nnonsense\n\t\t\n")
    assert Digests().of("a") == digest(path)


def test_many_lines_are_compacted_and_others_lines_kept(here: Path) -> None:
    path = written(here / "a", "one")
    first = Digests()
    for number in range(300):
        os.utime(path, ns=(number, number + 1))
        first.of("a")
    written(here / "b", "two")
    Digests().of("b")
    first.compact()
    assert len((here / ".cache/digests.tsv").read_text().splitlines()) == 2
    assert Digests().known("a") == digest(path)
    assert Digests().known("b") == digest(here / "b")


def test_a_folder_is_its_names_and_bytes_links_followed(here: Path) -> None:
    written(here / "elsewhere/x.jpg", "x")
    (here / "raw").mkdir()
    (here / "raw/images").symlink_to(here / "elsewhere")
    (here / "raw/dangling").symlink_to(here / "nowhere")
    before = Digests().of("raw")
    written(here / "elsewhere/x.jpg", "y")
    after = Digests().of("raw")
    assert after != before
    (here / "elsewhere/x.jpg").rename(here / "elsewhere/y.jpg")
    assert Digests().of("raw") not in (before, after)


def test_a_record_names_artifacts_by_path_and_the_rest_by_option(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(here / "artifacts/train/fold0/log.tsv", "log")
    written(here / "artifacts/train/fold0/weights", "w")
    written(here / "artifacts/train/fold0/.hidden", "h")
    options = {
        "pseudolabels": [Path("artifacts/train/fold0")],
        "weights": written(here / "w.pth", "weights"),
        "fold": 3,
        "device": "cpu",
        "out": Path("artifacts/x/1.h5"),
    }
    monkeypatch.setitem(sys.modules, "pycocotools", sys)  # what else the process has loaded does not count
    record = Path("provenance/x/1.json")
    written(here / record, "an older one")
    recorder = Recorder(record, "train", interface("train").scientific(options), {"index": {"folds": 4}}, Digests())
    assert not record.exists()
    written(here / "artifacts/x/0.h5", "another's")
    written(here / "artifacts/x/1.h5", "made")
    recorder.write()
    made = read_record(record)
    assert made is not None
    assert made.options == {"fold": "3"}
    assert set(made.inputs) == {"artifacts/train/fold0/log.tsv", "artifacts/train/fold0/weights", "weights"}
    assert made.outputs == {"artifacts/x/1.h5": digest(here / "artifacts/x/1.h5")}
    assert made.versions["python"].startswith("3.")
    assert set(made.versions) == {"python", "numpy", "torch", "h5py", "pandas", "PIL", "kornia"}
    assert artifact_files("params.yaml") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stage": 1}', "not json", '{"stage": "a", "more": 2}'])
def test_what_is_no_record_is_none(here: Path, text: str) -> None:
    assert parse_record(text) is None
    assert read_record(written(here / "r.json", text)) is None
    (here / "folder").mkdir()
    assert read_record(here / "folder") is None


def test_a_record_of_the_wrong_shape_is_none(here: Path) -> None:
    whole: dict[str, Any] = {name: {} for name in ("options", "parameters", "inputs", "versions")}
    whole |= {"stage": "a", "code": "b", "outputs": {"artifacts/a/0.h5": "c"}}
    assert parse_record(json.dumps(whole)) is not None
    for name in whole:
        assert parse_record(json.dumps({**whole, name: 3})) is None


def test_a_fault_while_judging_stops_snakemake(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake goes on after an exception of an input function, as if nothing were stale."""
    monkeypatch.setattr("workflow.tracking._override", lambda digests: None)
    written(here / "report/index.html", "")
    tracking = Tracking(SimpleNamespace(is_main_process=True), load())
    stale = tracking.inputs("index", images=[])["stale"]
    with pytest.raises(SystemExit, match=r"error: AttributeError: .*get_rule"):
        stale(SimpleNamespace(items=lambda: []))


def test_leftovers_spare_checkpoints_of_planned_trainings(here: Path) -> None:
    written(here / "artifacts/train/fold0/1shot/.hierarchical.checkpoint", "half")
    old = written(here / "artifacts/train/fold9/1shot/.hierarchical.checkpoint", "half")
    scratch = written(here / "artifacts/images/.0.h5.77.tmp", "half")
    note = written(here / "report/mine.txt", "a note")
    assert leftovers(load()) == [path.relative_to(here) for path in (scratch, old)]
    prune()
    assert note.exists()
    assert not old.parent.exists()
    with pytest.raises(InputError, match="there is no stage 'imags'; did you mean 'images'"):
        prune(("imags",))


def test_one_run_at_a_time(here: Path) -> None:
    with alone(), pytest.raises(InputError, match="another run is at work in this folder"), alone():
        pass
    with alone():
        pass


def test_the_lock_is_read_as_dvc_writes_it(here: Path) -> None:
    written(here / "dvc.lock", "stages:\n  a:\n    outs: []\n    params: {params.yaml: {srofb: {rate: 5e-05}}}\n")
    assert remote.locked_stages()["a"]["params"]["params.yaml"]["srofb"]["rate"] == 5e-05
    for text in ("", "[]", "stages: 3", "<<<<<<< HEAD\nstages: {}\n", "stages:\n  a: {outs: [3]}"):
        written(here / "dvc.lock", text)
        with pytest.raises(InputError, match=r"dvc\.lock: not a valid lock file"):
            remote.locked_stages()


@pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and names that Windows does not have")
def test_a_raw_folder_of_odd_files_has_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".cache").mkdir()
    for name in ("raw/a", "raw/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.txt").write_text(name)
    expected = Digests().of("raw")
    (tmp_path / "raw/a/up").symlink_to("..")
    (tmp_path / "raw/above").symlink_to(tmp_path)
    os.mkfifo("raw/pipe")
    (tmp_path / "raw/broken").symlink_to("none")
    assert Digests().of("raw") == expected
    (tmp_path / "raw/a/there").symlink_to("../b")  # two that lead to one another
    (tmp_path / "raw/b/here").symlink_to("../a")
    first = Digests().of("raw")
    assert first not in (None, expected)
    Path(os.fsdecode(b"raw/caf\xe9\r\xe2\x80\xa8.txt")).write_text("a name that is not UTF-8")
    second = Digests().of("raw")
    assert second not in (None, first, expected)
    odd = Path(os.fsdecode(b"raw/caf\xe9\r\xe2\x80\xa8.txt"))
    assert Digests().of(odd) == Digests().known(odd) == digest(odd)
