"""A hundred mutations of `tests/fuzz.py`, which reads thousands; and what it has found, with files made by hand."""

from __future__ import annotations

import io
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from novelseg.core.errors import InputError
from novelseg.data.npy import read_npy
from novelseg.data.pictures import decode
from novelseg.evaluation.comparisons import read_evaluation
from novelseg.formats import hdf5, tables
from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.examples import EXAMPLES
from novelseg.formats.features import FEATURES
from novelseg.formats.index import INDEX
from novelseg.formats.network import header_of, read_header, sealed
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.provenance import parse_record
from novelseg.formats.regions import REGIONS
from novelseg.formats.study_results import STUDY_ROWS
from novelseg.formats.training_log import LOG
from novelseg.inference.bundle import BUNDLE, load_bundle
from novelseg.regions.weights import load_model, save_model
from tests import fuzz
from tests.fuzz import Child, all_targets, shown
from tests.fuzzing.files import chunk, png
from tests.fuzzing.target import CRASH, FAULTS, HANG, OTHER, REFUSED, SAME, TRACEBACK, Attempts, Mutation, Target
from tests.makers import REGION_WEIGHTS as SHIPPED
from tests.makers import Project

SEED, EACH = 0, 3


def test_mutations_are_refused_in_a_line_or_accepted(project: Project, bundle: Path, tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "files")
    targets = all_targets(project, bundle, tmp_path)
    outcomes = [attempts.attempt(target, SEED, number) for target in targets for number in range(EACH)]
    assert len(outcomes) > 100
    assert not [shown(outcome) for outcome in outcomes if outcome.kind in FAULTS]
    assert all(attempts.accepts_valid_files(target, SEED, 8) for target in targets)
    counts = Counter(outcome.kind for outcome in outcomes)
    assert counts[REFUSED] > 0.7 * len(outcomes)
    assert counts[SAME] + counts[OTHER] > 0.02 * len(outcomes)


@pytest.mark.processes
def test_crashes_and_hangs_are_counted_and_the_next_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "CPU_S", 1)

    def read(path: Path) -> str:
        what = path.read_text()
        while what == HANG:
            pass
        if what == CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        return str(len(bytes(4 * fuzz.MEMORY if what == TRACEBACK else 1)))

    def drawn(what: str) -> Target:
        return Target(what, "x.txt", lambda rng: Mutation("", what.encode(), b""), read)

    kinds = [HANG, SAME, CRASH, TRACEBACK, SAME]
    child = Child([drawn(kind) for kind in kinds], 0, tmp_path / "child")
    assert [child.attempt(place, 0).kind for place in range(len(kinds))] == kinds
    child.end()


def _row(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda arrays, attributes: arrays[name].__setitem__(0, value)


def _attribute(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda arrays, attributes: attributes.__setitem__(name, value)


@pytest.mark.parametrize(
    ("spec", "file", "change", "told"),
    [
        (PROTOTYPES, "prototypes/fold0.h5", _row("fg/level1/members", 999), "does not add up to the members"),
        (PROTOTYPES, "prototypes/fold0.h5", _row("bg/level3/members", 999), "does not add up to the members"),
        (PROTOTYPES, "prototypes/fold0.h5", _attribute("vectors", {"a": 1}), "'vectors' does not give a number"),
        (PROTOTYPES, "prototypes/fold0.h5", _attribute("inertia", {"fg": [], "bg": []}), "'inertia' does not give"),
        (INDEX, "index/index.h5", _attribute("folds", 10**9), "more than there are classes"),
        (REGIONS, "regions/0.h5", _attribute("tau", 2.0), "attribute 'tau' is not from 0 to 1"),
        (FEATURES, "features/fold0/0.h5", _row("bg/region", 1 << 16), "not numbers from 0 to 65535"),
        (FEATURES, "features/fold0/0.h5", _row("fg/image", ""), "'fg/image' has an empty text"),
        (EXAMPLES, "evaluate/fold0/1shot/examples.h5", _row("query", ""), "'query' has an empty text"),
        (EXAMPLES, "evaluate/fold0/1shot/examples.h5", _row("predictions", 2), "not from 0 to 1"),
        (EXAMPLES, "evaluate/fold0/1shot/examples.h5", _attribute("shot", 0), "'fold' or 'shot' is out of range"),
    ],
)
def test_artifacts_that_contradict_themselves_are_refused(
    project: Project, tmp_path: Path, spec: hdf5.Spec, file: str, change: Callable[[Any, Any], None], told: str
) -> None:
    with hdf5.opened(project.path(file), spec) as opened:
        arrays: dict[str, Any] = {
            name: np.array(opened[name].texts(), object) if field.dtype == hdf5.TEXT else opened[name][:]
            for name, field in spec.fields.items()
        }
        attributes = dict(opened.attributes)
    change(arrays, attributes)
    hdf5.write(tmp_path / "x.h5", spec, arrays, attributes)
    with pytest.raises(InputError, match=told), hdf5.opened(tmp_path / "x.h5", spec):
        pass


def test_tables_whose_rows_contradict_each_other_are_refused(project: Project, tmp_path: Path) -> None:
    log, scores = (
        tables.read(project.path("baseline/fold0/1shot/log.tsv"), LOG),
        tables.read(project.root / "report/classes.tsv", CLASS_SCORES),
    )
    rows = read_evaluation(project.path("evaluate/fold0/1shot")).rows
    rows.insert(0, "setting", "1")
    large = scores.assign(iou=101.0)
    crossed = rows.assign(fg_intersection=1 << 40)
    for name, spec, frame, told in (
        ("log.tsv", LOG, log.iloc[[0, 0]], "row 2 has the iteration of an earlier row"),
        ("classes.tsv", CLASS_SCORES, scores.iloc[[0, 1, 0]], "row 3 has the fold, shot, variant, class of an earlier"),
        ("classes.tsv", CLASS_SCORES, large, "'iou'; expected a finite number of at least 0 and at most 100"),
        ("rows.parquet", STUDY_ROWS, rows.iloc[[0, 0]], "row 2 has the setting, seed, episode, variant of an earlier"),
        ("rows.parquet", STUDY_ROWS, crossed, r"has an intersection that is larger than its union \(fg\)"),
    ):
        tables.write(tmp_path / name, spec, frame)
        with pytest.raises(InputError, match=told):
            tables.read(tmp_path / name, spec)


@pytest.mark.parametrize("change", [{"list_digests": ["a"]}, {"classes": ["a", "a"]}])
def test_a_record_of_an_evaluation_names_both_lists_and_each_class_once(
    project: Project, tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = project.path("evaluate/fold0/1shot")
    about = json.loads((folder / "about.json").read_text())
    del about["crc32"], about["version"]
    about["protocol"] |= change
    (tmp_path / "about.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="does not name two lists with their digests, or a class twice"):
        read_evaluation(tmp_path)


def test_a_provenance_record_holds_texts() -> None:
    job = {"stage": "s", "options": {}, "parameters": {"a": {"b": [1]}}, "code": "c", "inputs": {"i": "m"}}
    job |= {"outputs": {"o": "m"}, "versions": {}}
    assert parse_record(json.dumps(job))
    for change in (
        {"inputs": {"i": [0]}},
        {"outputs": {"o": True}},
        {"options": {"fold": 1}},
        {"parameters": {"a": 1}},
    ):
        assert parse_record(json.dumps(job | change)) is None


def test_region_weights_have_deviations_above_zero(tmp_path: Path) -> None:
    model = load_model(SHIPPED)
    model.networks[1].deviation[3] = 0  # type: ignore[attr-defined]
    save_model(tmp_path / "x.safetensors", model)
    with pytest.raises(InputError, match=r"1\.deviation contains numbers that are not above 0"):
        load_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda about, tensors: tensors.pop("prototypes.fg/level1/parent"), "'prototypes.fg/level1/parent' is missing"),
        (lambda about, tensors: about["prototypes"].update(metric=1), "'prototypes.metric' is 1"),
        (lambda about, tensors: about["prototypes"]["vectors"].update(fg=1), "does not add up to the members"),
        (
            lambda about, tensors: tensors.update({"prototypes.bg/level1/centres": torch.zeros(4)}),
            r"'prototypes.bg/level1/centres' is float32 of shape \(4,\)",
        ),
        (lambda about, tensors: about["encoder"].update(stem="x"), "the stem is 'x'; expected one of"),
        (lambda about, tensors: about.update(classes=["a", "a"]), "'classes' names a class twice"),
    ],
)
def test_bundles_that_contradict_themselves_are_refused(
    bundle: Path, tmp_path: Path, change: Callable[[Any, Any], object], told: str
) -> None:
    about, tensors = read_header(bundle, BUNDLE), load_file(bundle)
    change(about, tensors)
    (tmp_path / "x.safetensors").write_bytes(sealed(save(tensors, header_of(BUNDLE, about))))
    with pytest.raises(InputError, match=told):
        load_bundle(tmp_path / "x.safetensors")


def test_an_array_file_ends_with_its_numbers() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 3), np.uint8))
    assert read_npy(io.BytesIO(buffer.getvalue()), lambda dtype, shape: None).shape == (2, 3)
    with pytest.raises(ValueError, match="it has more than the 6 bytes of its numbers"):
        read_npy(io.BytesIO(buffer.getvalue() + b"\0"), lambda dtype, shape: None)


def test_a_table_with_zero_bytes_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_bytes(b"iteration\t" + bytes(300) + b"\n")
    with pytest.raises(InputError, match="it contains zero bytes, as after a crash of the system") as caught:
        tables.read(tmp_path / "log.tsv", LOG)
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


def test_a_png_that_is_not_animated_does_not_say_so() -> None:
    data = png(np.zeros((2, 3), np.uint8), 8, 0, chunk(b"acTL", bytes(30)))
    with pytest.raises(InputError, match="is marked as animated, but is not"):
        decode(data, "x.png", "replace it")


def test_a_png_has_as_many_pixels_as_its_header_says() -> None:
    data = png(np.zeros((4, 3), np.uint8), 8, 0)
    for place, value in ((23, 3), (24, 2)):  # a height of 3, or a depth of 2 bits
        changed = bytearray(data)
        changed[place] = value
        whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(changed[16:29])) + bytes(changed[33:])
        with pytest.raises(InputError, match="it holds more pixels than its header says"):
            decode(whole, "x.png", "replace it")
    assert decode(data, "x.png", "replace it").image.size == (3, 4)


def test_messages_show_what_cannot_be_printed_as_escapes() -> None:
    assert str(InputError("x\x07\u2028\udcff é\n  y")) == r"x\x07\u2028\udcff é" + "\n  y"
