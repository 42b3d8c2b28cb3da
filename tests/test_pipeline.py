"""The stages together, in this process, on the tiny experiment."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from novelseg.backbones.encoder import load_encoder
from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.data.encoded import decode_mask
from novelseg.data.index import read_index
from novelseg.data.scenes import CLASSES, SceneSettings, scene_ids
from novelseg.data.store import ImageStore
from novelseg.evaluation.comparisons import read_evaluation
from novelseg.formats import hdf5, tables
from novelseg.formats.about import read_about, write_about
from novelseg.formats.class_results import CLASS_SCORES
from novelseg.formats.episode_results import RESULTS
from novelseg.formats.episodes import EPISODES
from novelseg.formats.examples import EXAMPLES
from novelseg.formats.features import FEATURES
from novelseg.formats.images import IMAGES
from novelseg.formats.network import save_network
from novelseg.formats.protocol import PROTOCOL
from novelseg.formats.prototypes import PROTOTYPES
from novelseg.formats.pseudolabels import PSEUDOLABELS
from novelseg.formats.regions import REGIONS
from novelseg.formats.results import SCORES
from novelseg.methods.variants import VARIANTS
from tests.makers import ENCODER, TRAINED, Project, tiny_values


def test_every_stage_writes_what_its_spec_says(project: Project) -> None:
    with hdf5.opened(project.path("images/0.h5"), IMAGES) as file:
        assert len(file["split"]) == 22
    rows = tables.read(project.path("evaluate/fold0/1shot/rows.parquet"), RESULTS)
    listed = set(tiny_values()["evaluate"]["refinements"])
    variants = {v.name for v in VARIANTS if not v.refiner or v.name in listed} - {"spfl-single-level"}
    assert set(rows["variant"]) == variants
    assert len(rows) == 2 * 6 * len(variants)  # seeds × episodes × variants
    scores = tables.read(project.root / "report/results.tsv", SCORES)
    assert len(scores) == len(variants)
    page = (project.root / "report/index.html").read_text(encoding="utf8")
    assert page.count("data:image/") > 40
    assert "http" not in page.replace("http://www.w3.org", "")  # nothing is fetched
    assert json.loads((project.root / "report/metrics.json").read_text())["fold0"]["1-shot"]["spfl"]["miou"] >= 0


def test_every_row_says_under_which_protocol_it_was_made(project: Project) -> None:
    weights = digest(project.weights)
    texts = ["".join(f"{name}\n" for name in ids) for ids in scene_ids(SceneSettings(**tiny_values()["scenes"]))]
    names = "".join(f"{name}\n" for name in CLASSES)
    train, val = (hashlib.md5(text.encode()).hexdigest() for text in texts)
    for name, spec in (("results", SCORES), ("classes", CLASS_SCORES)):
        frame = tables.read(project.root / f"report/{name}.tsv", spec)
        found = frame[[column.name for column in PROTOCOL]].drop_duplicates().to_dict("records")
        others = {
            "protocol": "tiny",
            "source": "scenes",
            "classes": f"8 {hashlib.md5(names.encode()).hexdigest()}",
            "train_list": f"train {train}",
            "val_list": f"val {val}",
            "novel_images": "keep",
            "folds": "4 contiguous",
            "min_object_pixels": 32,
            "resolution": "49 px, resize",
            "weights": weights,
        }
        cam = "49 px, resize, tests too, layer3, frozen 3, unseen 1, wiring sum, S over the object, ReLU"
        cam += ", prior map by scores, mean of scores, map cut at 0.5"
        assert found == [others, {**others, "resolution": cam}]
        assert set(frame.loc[frame["resolution"] == cam, "variant"]) == {"cam", "cam-map-only"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("novel_images", "drop"),
        ("held_out", 2),
        ("lists", ["trainaug", "val"]),
        ("list_digests", ["0", "1"]),
        ("layout", "fwb"),
        ("folds", 2),
        ("resolution", "473 px, resize"),
        ("weights", "another"),
        ("cam", "49 px, resize, tests too, layer3, prior constant, mean of scores, map cut at 0.5"),
        ("classes", ["other"]),
        ("source", "voc+sbd"),
        ("resolution", None),
    ],
)
def test_evaluations_of_different_protocols_are_refused_in_one_report(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: object
) -> None:
    first, second = project.path("evaluate/fold0/1shot"), tmp_path / "other"
    shutil.copytree(first, second)
    about = read_about(second / "about.json", "evaluate")
    assert about["protocol"][key] != value
    about["protocol"][key] = value
    if value is None:  # as an older version wrote it
        del about["protocol"][key]
    write_about(second / "about.json", about)
    words = [*project.data(), *project.shown_words()]
    words += ["--trainings", project.path("baseline/fold0/1shot")]
    assert project.run("report", *words, "--evaluations", first, second, "--out", tmp_path / "report") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    if value is None:
        assert f"{second}/about.json: made by older code, which did not record `{key}`; rerun `evaluate`" in told
    else:
        assert f"{second}: its {key} is {value}, but {first} has" in told
        assert "a table holds one protocol" in told
    assert not (tmp_path / "report").exists()


def test_index_counts_the_pixels_of_every_mask(project: Project) -> None:
    index = read_index(project.path("index/index.h5"))
    assert index.ids == sorted(index.ids)  # the order of the lists, whatever the shards
    with ImageStore([Path(path) for path in project.images()], index) as store:
        for image in (0, 7, 30):
            counts = np.bincount(store.mask(image).reshape(-1), minlength=9)
            assert counts[:9].tolist() == index.pixels[image].tolist()


def test_regions_cover_only_background_and_small_ones_are_counted(project: Project) -> None:
    index = read_index(project.path("index/index.h5"))
    with (
        hdf5.opened(project.path("images/0.h5"), IMAGES) as images,
        hdf5.opened(project.path("regions/0.h5"), REGIONS) as regions,
        hdf5.opened(project.path("features/fold0/0.h5"), FEATURES) as features,
    ):
        names = hdf5.texts(features, "bg/image")
        kept, dropped = 0, 0
        for number, name in enumerate(hdf5.texts(regions, "id")):
            row = int(regions["row"][number])
            known = index.base_labels(decode_mask(hdf5.Ragged.get(images, "mask", row)), 0)
            if not np.isin(known, index.base(0)).any():
                assert name not in names
                continue
            labels = hdf5.Ragged.get(regions, "labels", number).reshape(known.shape)
            areas = np.bincount(labels[known == 0])
            kept += areas[areas >= 16].sum()
            dropped += areas[(areas > 0) & (areas < 16)].sum()
        assert features["bg/area"][:].sum() == kept
        assert hdf5.attribute(features, "dropped_pixels") == dropped
        assert features["bg/area"][:].min() >= 16


def test_prototypes_have_parents_and_members(project: Project) -> None:
    with hdf5.opened(project.path("prototypes/fold0.h5"), PROTOTYPES) as file:
        for side in ("fg", "bg"):
            total = hdf5.attribute(file, "vectors")[side]
            for level, (k, above) in enumerate(((4, 3), (3, 2), (2, 0)), 1):
                names = ("centres", "members", "parent")
                centres, members, parents = (file[f"{side}/level{level}/{name}"][:] for name in names)
                assert len(centres) == k
                assert members.sum() == total
                assert (parents == -1).all() if not above else ((parents >= 0) & (parents < above)).all()
            # The members of a centre are those of its children.
            children = file[f"{side}/level1/members"][:]
            parents = file[f"{side}/level1/parent"][:]
            assert np.array_equal(np.bincount(parents, children, 3), file[f"{side}/level2/members"][:])


def test_pseudo_labels_keep_sides_apart(project: Project) -> None:
    index = read_index(project.path("index/index.h5"))
    with (
        hdf5.opened(project.path("images/1.h5"), IMAGES) as images,
        hdf5.opened(project.path("pseudolabels/fold0/1.h5"), PSEUDOLABELS) as labels,
    ):
        row = int(labels["row"][0])
        known = index.base_labels(decode_mask(hdf5.Ragged.get(images, "mask", row)), 0)
        maps = hdf5.Ragged.get(labels, "labels", 0).reshape(3, *known.shape)
        for k, level in zip((4, 3, 2), maps, strict=True):
            assert (level[known == 255] == 255).all()
            assert (level[(known > 0) & (known < 255)] < k).all()
            assert ((level[known == 0] >= k) & (level[known == 0] < 2 * k)).all()


@pytest.mark.parametrize("stage", TRAINED)
def test_two_trainings_with_one_seed_give_the_same_bytes(project: Project, tmp_path: Path, stage: str) -> None:
    out = tmp_path / stage
    assert project.run(stage, *project.training_words(stage, out)) == 0
    for name in ("weights.safetensors", "log.tsv"):
        assert digest(out / name) == digest(project.path(TRAINED[stage]) / name)


def test_features_and_pseudo_labels_give_the_same_bytes_again(project: Project, tmp_path: Path) -> None:
    assert project.make_features(0, tmp_path / "f.h5") == 0
    assert digest(tmp_path / "f.h5") == digest(project.path("features/fold0/0.h5"))
    assert project.make_pseudolabels(0, tmp_path / "p.h5") == 0
    assert digest(tmp_path / "p.h5") == digest(project.path("pseudolabels/fold0/0.h5"))


def _scramble_queries(project: Project, root: Path) -> None:
    """Overwrite, in a copy of the images, the masks of all images that are only ever queries."""
    lists = [pd.read_csv(project.path(f"episodes/fold0/1shot/seed{seed}.tsv"), sep="\t") for seed in (0, 1)]
    frame = pd.concat(lists)
    queries = set(frame["query"]) - set(" ".join(frame["supports"]).split())
    assert queries
    changed = 0
    for path in project.images():
        copy = root / Path(path).name
        shutil.copy(path, copy)
        with h5py.File(copy, "r+") as file:
            for row, name in enumerate(file["id"].asstr()[:]):
                start, stop = file["mask_offset"][row : row + 2]
                if name in queries:
                    file["mask"][start:stop] = np.zeros(stop - start, np.uint8)  # no longer a picture at all
                    changed += 1
    assert changed == len(queries)


def test_the_mask_of_a_query_is_never_read_before_scoring(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from novelseg.evaluation import scoring

    _scramble_queries(project, tmp_path)
    # Scoring is the one reader of a query's mask: without it, evaluation must run on masks that do not even decode.
    monkeypatch.setattr(scoring, "truth_of", lambda store, query: np.zeros((1, 1), np.uint8))
    monkeypatch.setattr(scoring, "score", lambda found, truth: torch.ones((len(found), 4), dtype=torch.int64))
    words = [
        tmp_path / Path(word).name if word in project.images() else word
        for word in map(str, project.evaluate_words(tmp_path / "out"))
    ]
    assert project.run("evaluate", *words) == 0
    files = [project.path("evaluate/fold0/1shot/examples.h5"), tmp_path / "out/examples.h5"]
    assert digest(files[0]) == digest(files[1])  # the same predictions
    with hdf5.opened(files[1], EXAMPLES) as file:
        assert len(file["query"]) == 2


def test_evaluation_does_not_depend_on_the_order_of_episodes(project: Project, tmp_path: Path) -> None:
    for seed in (0, 1):
        frame = tables.read(project.path(f"episodes/fold0/1shot/seed{seed}.tsv"), EPISODES)
        tables.write(tmp_path / f"seed{seed}.tsv", EPISODES, frame.iloc[::-1])
    words = [tmp_path / Path(w).name if "seed" in w else w for w in map(str, project.evaluate_words(tmp_path / "out"))]
    assert project.run("evaluate", *words, "--memory-mb", 1, "--batch", 3) == 0
    found = tables.read(tmp_path / "out/rows.parquet", RESULTS)
    expected = tables.read(project.path("evaluate/fold0/1shot/rows.parquet"), RESULTS)
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True))


def test_weights_tell_how_to_rebuild_the_encoder(project: Project) -> None:
    net, record = load_encoder(project.path("train/fold0/1shot/hierarchical/weights.safetensors"))
    assert record.variant == "hierarchical"
    assert record.scale == 10
    assert net(torch.zeros(1, 3, 64, 48)).shape == (1, 64, 8, 6)


def test_an_evaluation_that_cannot_be_read(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project.path("evaluate/fold0/1shot"), tmp_path / "other")
    for text in ("{", "[]", "{}"):
        (tmp_path / "other/about.json").write_text(text)
        expected = r"about\.json: (the record cannot be read|made by older code).*rerun `evaluate`"
        with pytest.raises(InputError, match=expected):
            read_evaluation(tmp_path / "other")


def test_encoders_of_two_resolutions_are_refused_before_the_first_episode(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, record = load_encoder(project.path(ENCODER))
    save_network(tmp_path / "other.safetensors", net, replace(record, resolution="473 px, resize"))
    words = project.evaluate_words(tmp_path / "out")
    words[words.index("--spfl") + 1] = tmp_path / "other.safetensors"
    assert project.run("evaluate", *words) == 2
    told = capsys.readouterr().err
    assert "the encoders were trained at 473 px, resize and 49 px, resize" in told
    assert "episodes" not in told
