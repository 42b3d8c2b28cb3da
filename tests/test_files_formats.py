"""Artifacts: whole or not at all, checked on write and on open, equal bytes for equal data."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novelseg.core.errors import InputError
from novelseg.core.files import digest, whole_file, whole_folder
from novelseg.formats import hdf5, tables
from novelseg.formats.episodes import EPISODES
from novelseg.formats.hdf5 import Field, Ragged, Spec, ragged_fields

SPEC = Spec(
    "sample",
    2,
    "features",
    "A test file.",
    {
        "name": Field("N", "text", "-", "names"),
        "vectors": Field("N D", "float32", "-", "vectors"),
        **ragged_fields("parts", "N", "uint8", "-", "parts"),
    },
    {"fold": "fold"},
)


def arrays(n: int = 3) -> dict[str, np.ndarray]:
    """Data that fit the spec."""
    return {
        "name": np.array([f"é{i}" for i in range(n)], object),
        "vectors": np.arange(n * 4, dtype=np.float32).reshape(n, 4),
        **Ragged.pack("parts", [np.full((i, 2), i, np.uint8) for i in range(n)], "uint8"),
    }


def test_files_go_round_and_repeat_their_bytes(tmp_path: Path) -> None:
    hdf5.write(tmp_path / "a.h5", SPEC, arrays(), {"fold": 1})
    time.sleep(1.1)  # HDF5 would store times by the second
    hdf5.write(tmp_path / "b.h5", SPEC, arrays(), {"fold": 1})
    assert digest(tmp_path / "a.h5") == digest(tmp_path / "b.h5")
    with hdf5.opened(tmp_path / "a.h5", SPEC) as file:
        assert hdf5.texts(file, "name") == ["é0", "é1", "é2"]
        assert hdf5.attribute(file, "fold") == 1
        assert [Ragged.get(file, "parts", row).tolist() for row in range(3)] == [[], [1, 1], [2, 2, 2, 2]]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 255), max_size=9), max_size=6))
def test_ragged_data_go_round(parts: list[list[int]]) -> None:
    packed = Ragged.pack("parts", [np.array(part, np.uint8) for part in parts], "uint8")
    flat, offset = packed["parts"], packed["parts_offset"]
    assert [flat[a:b].tolist() for a, b in pairwise(offset)] == parts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.zeros((3, 4))}, "float64"),
        ({"vectors": np.zeros((2, 4), np.float32)}, "dimension N"),
        ({"parts_offset": np.zeros(3, np.int64)}, "dimension N"),
        ({"more": np.zeros(3)}, "differ from the spec"),
    ],
)
def test_data_that_do_not_fit_the_spec_are_not_written(
    change: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        hdf5.write(tmp_path / "a.h5", SPEC, {**arrays(), **change}, {"fold": 1})
    assert not list(tmp_path.iterdir())


def test_the_wrong_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with pytest.raises(InputError, match=r"no such file; run the stage `features`"), hdf5.opened(path, SPEC):
        pass
    path.write_bytes(b"\x89HDF broken")
    with pytest.raises(InputError, match="not a readable HDF5 file"), hdf5.opened(path, SPEC):
        pass
    hdf5.write(path, SPEC, arrays(), {"fold": 1})
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 1
    with (
        pytest.raises(InputError, match=r"sample is version 1, this code reads version 2; rerun `features`"),
        hdf5.opened(path, SPEC),
    ):
        pass
    with h5py.File(path, "r+") as file:
        file.attrs["artifact"] = "other"
    with pytest.raises(InputError, match="expected the artifact 'sample', found 'other'"), hdf5.opened(path, SPEC):
        pass


def test_a_failure_leaves_the_old_output_and_no_scratch(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "out.txt") as scratch:
        scratch.write_text("half")
        raise RuntimeError
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "folder") as scratch:
        (scratch / "half").touch()
        raise RuntimeError
    assert (tmp_path / "out.txt").read_text() == "old"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "kept", "out.txt"]


def test_a_folder_is_swapped_whole(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with whole_folder(tmp_path / "folder") as scratch:
            (scratch / "file").write_text(text)
    assert (tmp_path / "folder" / "file").read_text() == "second"


def test_tables_go_round_and_refuse_other_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame({"episode": [0], "query": ["NA"], "class": [2], "supports": ["007"]})
    for name in ("t.tsv", "t.parquet"):
        tables.write(tmp_path / name, EPISODES, frame)
        pd.testing.assert_frame_equal(tables.read(tmp_path / name, EPISODES), frame, check_dtype=False)
    frame.rename(columns={"class": "label"}).to_csv(tmp_path / "u.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match="expected the columns episode, query, class, supports"):
        tables.read(tmp_path / "u.tsv", EPISODES)


def test_a_folder_of_the_users_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / "pictures" / "made").mkdir(parents=True)
    (tmp_path / "pictures" / "holiday.jpg").write_text("mine")
    (tmp_path / "pictures" / "made" / "old").touch()
    with whole_folder(tmp_path / "pictures") as scratch:
        (scratch / "made").mkdir()
        (scratch / "made" / "new").touch()
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == ["pictures", "pictures/holiday.jpg", "pictures/made", "pictures/made/new"]
