"""What a record holds and what keeps it current: options by kind, one read of the digest log, Snakemake's methods."""

from __future__ import annotations

import inspect
from pathlib import Path

import h5py
import numpy as np
import pytest
from snakemake.io import _IOFile

from novelseg.core.files import digest
from novelseg.core.options import Help, Option
from novelseg.formats import hdf5
from novelseg.formats.content import difference
from novelseg.formats.images import IMAGES
from stages.__main__ import STAGES
from stages.interface import Interface, interface
from stages.options import Execution
from stages.provenance import digests
from tests.makers import Project
from workflow import tracking


def test_an_option_stays_out_of_records_by_its_kind_not_by_its_name() -> None:
    options = {
        "workers": Option(int, inspect.Parameter.empty, Help("workers on a picture: changes the result")),
        "speed": Option(int, 1, Execution("how fast")),
        "fold": Option(int, 0, Help("fold")),
    }
    made = Interface("any", lambda: None, {}, {}, options)
    assert made.scientific({"workers": 3, "speed": 2, "fold": 1}) == {"workers": 3, "fold": 1}


def test_every_option_of_every_stage_has_help_and_execution_is_marked() -> None:
    marked = set()
    for stage in STAGES:
        for name, option in interface(stage).options.items():
            assert option.help.text, f"{stage} --{name} has no help"
            if isinstance(option.help, Execution):
                marked.add(name)
    assert marked == {"device", "devices", "threads", "compiled", "memory_mb", "batch", "live"}


def test_the_digest_log_is_read_once_for_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".cache").mkdir()
    log = tmp_path / ".cache/digests.tsv"
    log.write_text("".join(f"old{n}\tsignature\t{'0' * 32}\n" for n in range(1000)))
    files = [tmp_path / f"{n}.bin" for n in range(20)]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]))
    created: list[digests.Digests] = []

    class Counted(digests.Digests):
        def __init__(self, memory: Path) -> None:
            created.append(self)
            super().__init__(memory)

    monkeypatch.setattr(digests, "Digests", Counted)
    assert [digests.digest_once(path) for path in files] == [digest(path) for path in files]
    assert len(created) == 1
    # What another process appends is seen: the file is not read again.
    log.write_text(log.read_text().replace(f"\t{digest(files[3])}\n", f"\t{'a' * 32}\n"))
    with log.open("a") as other:
        other.write(f"{files[4]}\t{digests._signature(str(files[4]))}\t{'b' * 32}\n")
    assert digests.digest_once(files[4]) == "b" * 32


@pytest.mark.parametrize("name", ["is_newer", "touch"])
def test_another_snakemake_is_refused_at_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking._require_known_snakemake()
    monkeypatch.setattr(_IOFile, name, lambda self, one, two: None)
    with pytest.raises(SystemExit, match=rf"has no method `_IOFile\.{name}\(self, .*install the version in req"):
        tracking._require_known_snakemake()
    monkeypatch.delattr(_IOFile, name)
    with pytest.raises(SystemExit, match=name):
        tracking._require_known_snakemake()


def test_jpeg_and_png_bytes_are_not_compressed_again(project: Project) -> None:
    with h5py.File(project.path("images/0.h5"), "r") as file:
        assert file["image"].compression is None
        assert file["mask"].compression is None
        assert file["pixels"].compression == "gzip"
    assert {name for name, field in IMAGES.fields.items() if field.compressed} == {"image", "mask"}


def test_content_is_compared_not_the_container(project: Project, tmp_path: Path) -> None:
    images = project.path("images/0.h5")
    with hdf5.opened(images, IMAGES) as artifact:
        arrays = {name: artifact[name][:] for name in IMAGES.fields}
        arrays["id"] = np.array(hdf5.texts(artifact, "id"), object)
        attrs = {name: hdf5.attribute(artifact, name) for name in IMAGES.attrs}
    copy = tmp_path / "copy.h5"
    with h5py.File(copy, "w") as other, h5py.File(images, "r") as file:  # the same datasets, written another way
        for name, value in file.attrs.items():
            other.attrs[name] = value
        for name in IMAGES.fields:
            other.create_dataset(name, data=file[name][()], dtype=file[name].dtype, compression="gzip")
    assert digest(copy) != digest(images)
    assert difference(images, copy) == ""
    arrays["void"] = arrays["void"] + np.int64(1)
    hdf5.write(tmp_path / "other.h5", IMAGES, arrays, attrs)
    assert difference(images, tmp_path / "other.h5") == "void"
    weights = project.path("baseline/fold0/1shot/weights.safetensors")
    assert difference(weights, weights) == ""
    assert difference(weights, project.path("train/fold0/1shot/hierarchical/weights.safetensors")) == "head"
    (tmp_path / "a.txt").write_text("1\n")
    (tmp_path / "b.txt").write_text("2\n")
    assert difference(tmp_path / "a.txt", tmp_path / "b.txt") == "bytes"
