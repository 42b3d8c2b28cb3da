"""What readers of artifacts notice: damage, refused access, values without meaning, shards in another order."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from novelseg.backbones.encoder import load_encoder
from novelseg.backbones.grid import AlignedGrid
from novelseg.backbones.resnet import ResNet
from novelseg.backbones.weights import load_strictly, read_state
from novelseg.core.errors import InputError
from novelseg.core.files import reading_refused
from novelseg.data.index import Index, read_index
from novelseg.evaluation.comparisons import read_evaluation, read_evaluations
from novelseg.evaluation.lists import read_cases
from novelseg.evaluation.scoring import count_many
from novelseg.formats import hdf5, tables
from novelseg.formats.about import read_about, write_about
from novelseg.formats.content import difference
from novelseg.formats.episodes import EPISODES
from novelseg.formats.features import FEATURES
from novelseg.formats.hdf5 import TEXT, Field, Spec, ragged_fields
from novelseg.formats.images import IMAGES
from novelseg.formats.network import NETWORK, read_header, save_tensors
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.shards import in_order
from novelseg.inference.bundle import BUNDLE, load_bundle
from novelseg.methods.matching.prototypes import match_many
from novelseg.methods.spfl.prototypes import read_prototypes
from novelseg.report.build import run_names
from tests.flips import all_sources, flip_all
from tests.makers import ENCODER, SPFL, Project

SPEC = Spec(
    "sample",
    2,
    "features",
    "A test file.",
    {
        "name": Field("N", TEXT, "-", "names", unique=True),
        "size": Field("N", "int32", "px", "sizes", low=1, high=9),
        "height": Field("N", "float32", "-", "heights", low=hdf5.FINITE),
        **ragged_fields("parts", "N", "uint8", "-", "parts"),
    },
    {"fold": "fold"},
    {"fold": int},
    unchecked_version=1,
)


def sample(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """Data of a test file."""
    arrays = {
        "name": np.array(["a", "é", "c"], object),
        "size": np.array([1, 5, 9], np.int32),
        "height": np.array([-1, 0, 1e30], np.float32),
        **hdf5.Ragged.pack("parts", [np.zeros(n, np.uint8) for n in range(3)], "uint8"),
    }
    return arrays | changes


def opens(path: Path, spec: Spec = SPEC) -> str:
    """What opening a file says: nothing, or the sentence."""
    try:
        with hdf5.opened(path, spec):
            return ""
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size": np.array([0, 5, 9], np.int32)}, "'size' has values that are not numbers from 1 to 9"),
        ({"name": np.array(["a", "a", "c"], object)}, "'name' has an empty text or the same twice"),
        ({"name": np.array(["a", "", "c"], object)}, "'name' has an empty text or the same twice"),
        ({"parts_offset": np.array([0, 2, 1, 3])}, "'parts_offset' does not divide 'parts' into rows"),
        ({"parts_offset": np.array([0, 0, 1, 9])}, "'parts_offset' does not divide 'parts' into rows"),
    ],
)
def test_values_without_meaning_are_refused_on_open(tmp_path: Path, changes: dict[str, np.ndarray], told: str) -> None:
    hdf5.write(tmp_path / "a.h5", SPEC, sample(**changes), {"fold": 1})
    assert told in opens(tmp_path / "a.h5")


def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="computed values of 'height' that are not finite"):
        hdf5.write(tmp_path / "a.h5", SPEC, sample(height=np.full(3, np.nan, np.float32)), {"fold": 1})
    assert not list(tmp_path.iterdir())


def older(path: Path, target: Path, version: int, spec: Spec) -> Path:
    """Write a file again as earlier code did: texts of variable length, no checksums, the version before."""
    with h5py.File(path, "r") as old, h5py.File(target, "w") as new:
        for name, value in old.attrs.items():
            if name not in hdf5.SHARD_ATTRS:
                new.attrs[name] = value.decode() if isinstance(value, bytes) else value
        new.attrs["version"] = version
        for name, field in spec.fields.items():
            data = old[name].asstr()[:].astype(object) if field.dtype == TEXT else old[name][()]
            new.create_dataset(name, data=data, dtype=h5py.string_dtype() if field.dtype == TEXT else data.dtype)
    return target


def test_files_of_the_version_before_are_read_and_new_ones_without_checksums_are_not(
    project: Project, tmp_path: Path
) -> None:
    images = project.path("images/0.h5")
    before = older(images, tmp_path / "0.h5", 2, IMAGES)
    assert opens(before, IMAGES) == ""
    assert difference(images, before) == ""
    stripped = older(images, tmp_path / "1.h5", 3, IMAGES)
    with h5py.File(stripped, "r+") as file:
        file.attrs["shard"] = file.attrs["shards"] = "null"
    assert "has no checksums, which images version 3 always has; rerun `images`" in opens(stripped, IMAGES)
    assert "images is version 1, this code reads version 3" in opens(
        older(images, tmp_path / "2.h5", 1, IMAGES), IMAGES
    )


def test_a_few_rows_are_verified_without_reading_the_rest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = sample(**hdf5.Ragged.pack("parts", [rng.integers(0, 255, 1 << 19, np.uint8) for _ in range(3)], "uint8"))
    path = tmp_path / "a.h5"
    hdf5.write(path, SPEC, arrays, {"fold": 1})
    with h5py.File(path, "r") as file:
        chunk = file["parts"].id.get_chunk_info(file["parts"].id.get_num_chunks() - 1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 5] ^= 4
    path.write_bytes(content)
    with hdf5.opened(path, SPEC) as file:
        assert np.array_equal(hdf5.Ragged.get(file, "parts", 0), arrays["parts"][: 1 << 19])
        with pytest.raises(InputError, match=r"is damaged in its dataset 'parts' \(wrong checksum.*delete the file"):
            hdf5.Ragged.get(file, "parts", 2)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "permission is missing; ask its owner"),
        (errno.EAGAIN, "another program has locked it; close that program, or set HDF5_USE_FILE_LOCKING=FALSE"),
        (errno.ENOLCK, "does not support locks; set HDF5_USE_FILE_LOCKING=FALSE"),
        (errno.EISDIR, "it is a folder"),
        (errno.EIO, "the disk or the network reports a read error"),
        (errno.ESTALE, os.strerror(errno.ESTALE)),
    ],
)
def test_the_reason_of_the_system_is_told_and_nothing_is_to_be_deleted(
    number: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    hdf5.write(path, SPEC, sample(), {"fold": 1})
    hidden = OSError(f"Unable to open file (name = 'x', errno = {number}, error message = '…', flags = 0)")
    for error in (hidden, OSError(number, "x"), RuntimeError(f"I/O error (os error {number})")):
        assert told in str(reading_refused(path, error))
    monkeypatch.setattr(h5py, "File", lambda *_: (_ for _ in ()).throw(hidden))
    assert told in opens(path)
    assert "delete" not in opens(path)


def test_a_locked_shard_is_not_called_damaged(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "a.h5"
    hdf5.write(path, SPEC, sample(), {"fold": 1})
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "a.h5: cannot be read: another program has locked it" in opens(path)
    assert opens(path) == ""
    assert "it is a folder" in opens(tmp_path)


def copies(project: Project, folder: Path, spec: Spec, names: list[str], shards: list[tuple[Any, Any]]) -> list[Path]:
    """Copies of an artifact under other names, which say that they are other shards with other images."""
    made = []
    for number, (name, (shard, count)) in enumerate(zip(names, shards, strict=True)):
        with hdf5.opened(project.path("features/fold0/0.h5"), spec) as file:
            arrays = {key: file[key][:] for key in spec.fields}
            for side in ("bg", "fg"):
                texts = [f"{text}-{number}" for text in file[f"{side}/image"].texts()]
                arrays[f"{side}/image"] = np.array(texts, object)
            hdf5.write(folder / name, spec, arrays, {**file.attributes, "shard": shard, "shards": count})
        made.append(folder / name)
    return made


def test_shards_are_sorted_by_what_they_are(project: Project, tmp_path: Path) -> None:
    numbers = [0, 1, 10, 11, *range(2, 10)]  # as a glob sorts them
    paths = copies(project, tmp_path, FEATURES, [f"{n}.h5" for n in numbers], [(n, 12) for n in numbers])
    assert in_order(paths, FEATURES) == [tmp_path / f"{n}.h5" for n in range(12)]
    with pytest.raises(InputError, match=r"got 11 of the 12 shards of features; missing: 10; give all of them"):
        in_order([path for path in paths if path.stem != "10"], FEATURES)
    with pytest.raises(InputError, match=r"is shard 0 of features, as is .*; give every shard once"):
        in_order([*paths, paths[0]], FEATURES)
    unknown = copies(project, tmp_path / "old", FEATURES, ["10.h5", "9.h5"], [(None, None)] * 2)
    assert [path.name for path in in_order(unknown, FEATURES)] == ["9.h5", "10.h5"]  # by name where nothing else tells
    (tmp_path / "old/11.h5").write_bytes(unknown[0].read_bytes())
    with pytest.raises(InputError, match=r"contains the image '.*-0', as does .*; give every shard once"):
        in_order([*unknown, tmp_path / "old/11.h5"], FEATURES)


def test_the_order_of_feature_shards_does_not_change_prototypes(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = [project.path(f"features/fold0/{shard}.h5") for shard in (1, 0)]
    out = tmp_path / "p.h5"
    assert project.run("prototypes", "--features", *features, "--fold", 0, "--out", out) == 0
    assert out.read_bytes() == project.path("prototypes/fold0.h5").read_bytes()
    out.unlink()
    for given, told in ((features[:1], "got 1 of the 2 shards of features; missing: 0"), (features[:1] * 2, "as is")):
        assert project.run("prototypes", "--features", *given, "--fold", 0, "--out", out) == 2
        assert told in capsys.readouterr().err
        assert not out.exists()


def test_an_index_is_made_from_all_shards_each_once(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, images = tmp_path / "i.h5", project.images()
    assert project.run("index", "--images", *reversed(images), "--out", out) == 0
    assert out.read_bytes() == project.path("index/index.h5").read_bytes()
    out.unlink()
    before = [older(Path(path), tmp_path / f"{n}.h5", 2, IMAGES) for n, path in enumerate(images)]
    for given, told in (
        (images[:1], "got 1 of the 2 shards of images; missing: 1"),
        (images[:1] * 2, "is shard 0 of images, as is"),
        (before[:1], "the image at position 1 of the lists is in none of them"),
        (before[:1] * 2, "is shard 0 of images, as is"),
    ):
        assert project.run("index", "--images", *given, "--out", out) == 2
        assert told in capsys.readouterr().err
        assert not out.exists()
    assert project.run("index", "--images", *reversed(before), "--out", out) == 0
    assert difference(out, project.path("index/index.h5")) == ""


def test_a_training_given_twice_is_refused(project: Project) -> None:
    folders = [project.path(ENCODER).parent, project.path(SPFL).parent]
    assert list(run_names(folders[::-1])) == ["baseline fold 0 1-shot", "train fold 0 1-shot hierarchical"]
    with pytest.raises(InputError, match="holds the training 'baseline fold 0 1-shot', as does"):
        run_names([*folders, folders[0]])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: a.update({"fg/level1/centres": np.full_like(a["fg/level1/centres"], np.nan)}), "finite|from -inf"),
        (lambda a: a.update({"bg/level1/parent": a["bg/level1/parent"] + 9}), "names prototypes that do not exist"),
        (lambda a: a.update(_wide(a, 300)), "level 1 has 300 foreground and 300 background prototypes; expected"),
        (lambda a: a.update({k: v[:2] for k, v in a.items() if k.startswith("fg/level1")}), "level 1 has 2 foreground"),
        (lambda a: a.update({k: v[:, :9] for k, v in a.items() if k.endswith("centres")}), "have 9 channels, the feat"),
    ],
)
def test_prototypes_that_cannot_be_are_refused(
    project: Project, tmp_path: Path, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    with hdf5.opened(project.path("prototypes/fold0.h5"), PROTOTYPES) as file:
        arrays, attributes = {name: file[name][:] for name in PROTOTYPES.fields}, file.attributes
    channels = arrays["fg/level1/centres"].shape[1]
    change(arrays)
    with pytest.raises(InputError, match=told):
        hdf5.write(tmp_path / "p.h5", PROTOTYPES, arrays, attributes)
        read_prototypes(tmp_path / "p.h5", 0, attributes["encoder"], channels, torch.device("cpu"))


def _wide(arrays: dict[str, Any], count: int) -> dict[str, Any]:
    """Level 1 with many prototypes."""
    return {name: np.resize(value, (count, *value.shape[1:])) for name, value in arrays.items() if "/level1/" in name}


@pytest.fixture(scope="module")
def index(project: Project) -> Index:
    return read_index(project.path("index/index.h5"))


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (("supports", "query"), "is there twice, as query and support or as two supports"),
        (("query", "training"), "is in the training list; expected images of the validation list"),
        (("supports", "without"), r"has fewer than 32 px \(index.min_object_pixels\) of class"),
        (("class", "1.5"), "row 1 has '1.5' in the column 'class'; expected an integer of at least 1"),
        (("class", "99"), "has class 99, which is not novel in fold 0"),
        (("episode", "1"), "row 2 has the episode of an earlier row"),
        (("episode", "x"), "row 1 has 'x' in the column 'episode'; expected an integer of at least 0"),
        (None, "contains no episode"),
    ],
)
def test_episodes_that_cannot_be_scored_are_refused(
    project: Project, index: Index, tmp_path: Path, cell: tuple[str, str] | None, told: str
) -> None:
    frame = tables.read(project.path("episodes/fold0/1shot/seed0.tsv"), EPISODES)
    rows: list[dict[Any, Any]] = frame.to_dict("records")
    label = rows[0]["class"]
    val = index.validation_images()
    words = {
        "query": rows[0]["query"],
        "training": index.ids[int(index.training_images(0)[0])],
        "without": index.ids[int(np.setdiff1d(val, index.holds(val, label))[0])],
    }
    if cell:
        rows[0][cell[0]] = words.get(cell[1], cell[1])
    pd.DataFrame(rows if cell else [], columns=frame.columns).to_csv(
        tmp_path / "seed0.tsv", sep="\t", index=False, lineterminator="\n"
    )
    with pytest.raises(InputError, match=told):
        read_cases([tmp_path / "seed0.tsv"], index, 0, 1)


def test_episode_lists_are_sorted_by_seed_and_given_once(project: Project, index: Index) -> None:
    lists = [project.path(f"episodes/fold0/1shot/seed{seed}.tsv") for seed in (0, 1)]
    assert read_cases(lists[::-1], index, 0, 1) == read_cases(lists, index, 0, 1)
    with pytest.raises(InputError, match="is the second list of seed 0"):
        read_cases([lists[0], lists[0]], index, 0, 1)


def test_tables_notice_edits_and_are_read_without_the_column(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "seed0.tsv"
    text = project.path("episodes/fold0/1shot/seed0.tsv").read_text()
    path.write_text(text.replace("\t1\t", "\t2\t", 1) if "\t1\t" in text else text.replace("0\t", "7\t", 1))
    with pytest.raises(InputError, match=r"was damaged or edited \(its checksum differs\).*remove the column 'crc32'"):
        tables.read(path, EPISODES)
    path.write_text("".join(f"{line.rpartition(chr(9))[0]}\n" for line in text.splitlines()))
    expected = tables.read(project.path("episodes/fold0/1shot/seed0.tsv"), EPISODES)
    pd.testing.assert_frame_equal(tables.read(path, EPISODES), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_not_counted(value: float) -> None:
    logits = torch.zeros(2, 4, 4)
    logits[1, 2, 3] = value
    with pytest.raises(InputError, match="the prediction of number 1 is NaN or infinite, which is neither object nor"):
        count_many(logits, torch.ones((2, 8, 8), dtype=torch.uint8), AlignedGrid(8))


def test_an_evaluation_of_a_faulty_network_stops(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "novelseg.methods.matching.predictor.match_many"
    monkeypatch.setattr(name, lambda *given: match_many(*given) * float("nan"))
    assert project.run("evaluate", *project.evaluate_words(tmp_path / "out")) == 2
    assert "the prediction of 'pretrained' in episode" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


KEY = "layer1.0.conv1.weight"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda state: state[KEY], r"holds a tensor of shape \(16, .*; expected tensors by name"),
        (lambda state: [state[KEY]], "holds a list; expected tensors by name, at the top or under one of 'state_dict'"),
        (lambda state: {**state, KEY: None}, f"the entry '{KEY}' is nothing; expected only tensors by name"),
        (lambda state: {1: state[KEY]}, "its tensors have keys such as 1; expected the names of weights"),
        (lambda state: {**state, KEY: state[KEY].to_sparse()}, f"the entry '{KEY}' is a tensor .*sparse"),
        (lambda state: {**state, KEY: state[KEY] * float("nan")}, f"{KEY} contains NaN or infinite values"),
        (lambda state: {**state, KEY: state[KEY].double() * 1e300}, f"{KEY} contains NaN or infinite values"),
        (lambda state: {**state, KEY: state[KEY].int()}, f"{KEY} is of type int32; expected floating-point numbers"),
        (lambda state: {**state, "bn1.running_var": -state["bn1.running_var"]}, "contains negative variances"),
        (lambda state: {"model": state}, ""),
        (lambda state: {"state_dict": state, "best": np.float64(1)}, ""),
        (lambda state: {name: value.double() for name, value in state.items()}, ""),
    ],
)
def test_weights_of_other_kinds(
    project: Project, tmp_path: Path, content: Callable[[dict[str, torch.Tensor]], Any], told: str
) -> None:
    torch.save(content(load_file(project.weights)), tmp_path / "w.pth")
    net = ResNet(arch="resnet18", stem="torchvision", width=16)
    if told:
        with pytest.raises(InputError, match=told):
            load_strictly(net, tmp_path / "w.pth")
    else:
        load_strictly(net, tmp_path / "w.pth")


def test_a_pickle_whose_bytes_have_rotted_is_noticed(project: Project, tmp_path: Path) -> None:
    torch.save(load_file(project.weights), tmp_path / "w.pth")
    content = bytearray((tmp_path / "w.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match="not a readable weight file"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("entry", "value", "told"),
    [
        ("encoder.scale", float("nan"), "'scale' is nan"),
        ("encoder.scale", 0, "'scale' is 0"),
        ("encoder.scale", -10, "'scale' is -10"),
        ("encoder.width", 4096, "is .*, not"),  # 6.8 GB, of which nothing is allocated
        ("encoder.width", 10**15, "Storage size calculation overflowed"),
        ("srofb.steps_one_shot", 10**9, "steps_one_shot is 1000000000"),
        ("classes", ["a", 1], "'classes' is"),
    ],
)
def test_bundles_without_meaning_are_refused(bundle: Path, tmp_path: Path, entry: str, value: Any, told: str) -> None:
    about, tensors = read_header(bundle, BUNDLE), load_file(bundle)
    section, _, name = entry.rpartition(".")
    (about[section] if section else about)[name] = value
    save_tensors(tmp_path / "b.safetensors", tensors, BUNDLE, about)
    with pytest.raises(InputError, match=f"not a complete bundle .*{told}"):
        load_bundle(tmp_path / "b.safetensors")


@pytest.mark.parametrize(("name", "value"), [("nan", float("nan")), ("variance", -1.0)])
def test_networks_with_weights_that_cannot_be_are_refused(
    project: Project, tmp_path: Path, name: str, value: float
) -> None:
    about, tensors = read_header(project.path(ENCODER), NETWORK), load_file(project.path(ENCODER))
    tensors["resnet.bn1.running_var"][3] = value
    save_tensors(tmp_path / "e.safetensors", tensors, NETWORK, about)
    with pytest.raises(InputError, match=r"resnet.bn1.running_var contains (NaN|negative)"):
        load_encoder(tmp_path / "e.safetensors")


def test_evaluations_are_sorted_and_doubles_refused(project: Project, tmp_path: Path) -> None:
    folder, other = project.path("evaluate/fold0/1shot"), tmp_path / "five"
    shutil.copytree(folder, other)
    write_about(other / "about.json", read_about(folder / "about.json", "evaluate") | {"shot": 5})
    assert [evaluation.folder for evaluation in read_evaluations([other, folder])] == [folder, other]
    with pytest.raises(InputError, match=r"evaluates fold 0 with 1 support\(s\), as does"):
        read_evaluations([folder, other, folder])


def test_records_of_evaluations_are_checked(project: Project, tmp_path: Path) -> None:
    folder = project.path("evaluate/fold0/1shot")
    (tmp_path / "rows.parquet").write_bytes((folder / "rows.parquet").read_bytes())
    about = json.loads((folder / "about.json").read_text())
    (tmp_path / "about.json").write_text(json.dumps(about | {"fold": 3}, indent=1, sort_keys=True) + "\n")
    with pytest.raises(InputError, match=r"about.json: is damaged \(its checksum differs\)"):
        read_evaluation(tmp_path)
    del about["crc32"]
    (tmp_path / "about.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="has no checksum, which this version always has"):
        read_evaluation(tmp_path)
    del about["version"]  # as earlier code wrote it
    (tmp_path / "about.json").write_text(json.dumps(about))
    assert read_evaluation(tmp_path).about == read_evaluation(folder).about
    (tmp_path / "about.json").write_text(json.dumps(about | {"fold": "0"}))
    with pytest.raises(InputError, match="'fold' is '0'; expected"):
        read_evaluation(tmp_path)


def test_flips_of_single_bytes_are_noticed(project: Project, bundle: Path, tmp_path: Path) -> None:
    noticed = 0
    for number, source in enumerate(all_sources(project, bundle, tmp_path)):
        rng = np.random.default_rng([1, number])
        counts, faults = flip_all(source, tmp_path / str(number), rng, each=0, more=12)
        assert not faults
        noticed += counts["noticed"]
    assert noticed > 200
