"""``encoder.train: none``: the pretrained encoder in every stage that remains, and a number of parts instead of all."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from novelseg.backbones.encoder import freeze, load_encoder, pretrained_encoder
from novelseg.backbones.resnet import ResNetBackbone
from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.formats import hdf5, tables
from novelseg.formats.comparisons import COMPARISONS
from novelseg.formats.features import FEATURES
from novelseg.formats.protocol import FROZEN
from novelseg.formats.provenance import Record
from novelseg.formats.record import BackboneSpec
from novelseg.formats.results import SCORES
from novelseg.methods.cam.network import load_cam
from novelseg.methods.matching.learner import MatchingLearner
from stages.provenance.digests import Digests
from tests.conftest import WEIGHTS
from tests.engines import new_project, planned, set_values
from tests.makers import ENCODER, Project, tiny_values, write_values
from workflow.config import check
from workflow.judge import Judge, Reason
from workflow.plan import READS

KEPT = ("images", "index", "regions", "episodes")
REFINEMENTS = ["pretrained+self-support", "pretrained+srofb", "spfl+srofb"]


@pytest.fixture(scope="module")
def frozen(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny experiment without trained encoders, from features to the evaluation."""
    made = Project(tmp_path_factory.mktemp("frozen"), project.weights)
    write_values(made.params, tiny_values(encoder={"train": "none"}, evaluate={"refinements": REFINEMENTS}))
    made.path("").mkdir()
    for stage in KEPT:
        made.path(stage).symlink_to(project.path(stage))
    for shard in range(2):
        words = ["--images", made.images()[shard], "--regions", made.path(f"regions/{shard}.h5"), "--weights", WEIGHTS]
        out = made.path(f"features/fold0/{shard}.h5")
        options = ["--index", made.path("index/index.h5"), *words, "--fold", 0, "--threads", 1, "--out", out]
        assert made.run("features", *options) == 0
    features = [made.path(f"features/fold0/{shard}.h5") for shard in range(2)]
    assert made.run("prototypes", "--features", *features, "--fold", 0, "--out", made.path("prototypes/fold0.h5")) == 0
    assert made.run("cam", *made.training_words("cam", made.path("cam/fold0"))) == 0
    assert made.run("evaluate", *evaluation(made, made.path("evaluate/fold0/1shot"), cam=True)) == 0
    return made


def evaluation(made: Project, out: Path, *, cam: bool) -> list[object]:
    """Options of an evaluation without trained encoders."""
    lists = [made.path(f"episodes/fold0/1shot/seed{seed}.tsv") for seed in (0, 1)]
    own = ["--cam", made.path("cam/fold0/weights.safetensors")] if cam else []
    rest = ["--fold", 0, "--shot", 1, "--threads", 1, "--out", out]
    return [*made.data(), "--episodes", *lists, "--weights", made.weights, *own, *rest]


def report(made: Project, evaluated: Path, out: Path, *trainings: Path) -> list[object]:
    """Options of a report without pseudo labels."""
    shards = [[f"--{name}", *(made.path(f"{path}/{n}.h5") for n in range(2))] for name, path in SHARDS.items()]
    words = [
        *made.data(),
        *(word for part in shards for word in part),
        "--prototypes",
        made.path("prototypes/fold0.h5"),
    ]
    return [*words, *(["--trainings", *trainings] if trainings else []), "--evaluations", evaluated, "--out", out]


SHARDS = {"regions": "regions", "features": "features/fold0"}


def both(*files: hdf5.Artifact) -> list[Any]:
    """Vectors of the background regions in two files."""
    return [file["bg/vectors"][:] for file in files]


def test_features_are_those_of_the_weights(frozen: Project, project: Project) -> None:
    with (
        hdf5.opened(frozen.path("features/fold0/0.h5"), FEATURES) as file,
        hdf5.opened(project.path("features/fold0/0.h5"), FEATURES) as trained,
    ):
        assert hdf5.attribute(file, "encoder") == digest(WEIGHTS)
        for name in ("bg/image", "bg/region", "fg/class", "bg/area"):  # the same regions and objects
            assert np.array_equal(file[name][:], trained[name][:])
        # Six iterations have changed the Baseline a little.
        unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in both(file, trained)]
        assert not np.array_equal(*both(file, trained))
        assert (unit[0] * unit[1]).sum(1).min() > 0.95


def test_the_pretrained_rows_are_those_beside_trained_encoders(frozen: Project, project: Project) -> None:
    rows, others = (pd.read_parquet(one.path("evaluate/fold0/1shot/rows.parquet")) for one in (frozen, project))
    assert set(rows["variant"]) == {"pretrained", *REFINEMENTS[:2], "cam", "cam-map-only"}
    for name in ("pretrained", "pretrained+self-support"):
        one, other = (frame[frame["variant"] == name].reset_index(drop=True) for frame in (rows, others))
        pd.testing.assert_frame_equal(one, other)


def test_the_cam_prior_trains_only_its_branches(frozen: Project, project: Project) -> None:
    network, _ = load_cam(frozen.path("cam/fold0/weights.safetensors"))
    before, _ = pretrained_encoder(BackboneSpec("resnet18", width=16), WEIGHTS)
    assert all(map(torch.equal, network.encoder.parameters(), before.parameters()))
    trained, _ = load_cam(project.path("cam/fold0/weights.safetensors"))
    assert not all(map(torch.equal, trained.encoder.parameters(), before.parameters()))


def test_the_tables_say_that_nothing_was_trained(frozen: Project, tmp_path: Path) -> None:
    out = tmp_path / "report"
    assert (
        frozen.run("report", *report(frozen, frozen.path("evaluate/fold0/1shot"), out, frozen.path("cam/fold0"))) == 0
    )
    table = tables.read(out / "results.tsv", SCORES).set_index("variant")["resolution"]
    assert table["pretrained"] == table["pretrained+srofb"] == FROZEN == "none (frozen encoder)"
    assert table["cam"].startswith("49 px, resize, tests too")
    page = (out / "index.html").read_text(encoding="utf8")
    assert "The encoder is frozen (encoder.train: none): there is no Baseline and no joint training" in page
    assert 'id="prototypes"' in page
    assert 'id="pseudo-labels"' not in page
    gains = tables.read(out / "comparisons.tsv", COMPARISONS)
    assert ("cam", "pretrained+srofb") in set(zip(gains["variant"], gains["reference"], strict=True))


def test_a_single_variant_and_no_training_make_a_report(frozen: Project, tmp_path: Path) -> None:
    params = write_values(
        tmp_path / "params.yaml", tiny_values(encoder={"train": "none"}, evaluate={"refinements": []})
    )
    here = Project(params.parent, frozen.weights)
    words = evaluation(frozen, tmp_path / "evaluated", cam=False)
    assert here.run("evaluate", *words) == 0
    assert here.run("report", *report(frozen, tmp_path / "evaluated", tmp_path / "report")) == 0
    assert len(tables.read(tmp_path / "report/comparisons.tsv", COMPARISONS)) == 0
    assert list((tmp_path / "report/plots").iterdir()) == []


def test_what_has_nothing_to_train_is_refused(
    frozen: Project, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("baseline", "train"):
        words = [
            frozen.params if word == project.params else word for word in project.training_words(stage, tmp_path / "x")
        ]
        assert frozen.run(stage, *words) == 2
        assert f"nothing to train in the stage {stage}; set encoder.train to all" in capsys.readouterr().err
    words = evaluation(frozen, tmp_path / "x", cam=False)
    assert frozen.run("evaluate", *words, "--baseline", project.path(ENCODER)) == 2
    assert "expected both --baseline and --spfl, or no trained encoder" in capsys.readouterr().err
    shard = [
        "--images",
        frozen.images()[0],
        "--regions",
        frozen.path("regions/0.h5"),
        "--fold",
        0,
        "--out",
        tmp_path / "x",
    ]
    for given in ([], ["--weights", WEIGHTS, "--encoder", project.path(ENCODER)]):
        assert frozen.run("features", "--index", frozen.path("index/index.h5"), *shard, *given) == 2
        assert "expected either --encoder" in capsys.readouterr().err


def config(train: object, **changes: dict[str, Any]) -> Any:
    """Checked parameters."""
    return check(tiny_values(encoder={"train": train}, **changes), Path("params.yaml"))


def test_jobs_that_need_a_trained_encoder_do_not_exist() -> None:
    trained, none = config("all"), config("none", plan={"cam": False})
    assert [stage for stage in READS if not none.targets.of(stage)] == ["baseline", "pseudolabels", "train", "cam"]
    assert none.targets.trainings() == []
    assert not any("plots" in path for path in none.targets.of("report"))
    for stage in ("images", "regions", "features", "prototypes", "episodes", "evaluate"):
        assert none.targets.of(stage) == trained.targets.of(stage)
    assert list(none.external("features")) == ["encoder.weights"]
    assert trained.external("features") == {}
    assert config(2).targets == trained.targets


def test_a_path_counts_only_for_stages_that_read_it() -> None:
    judge = Judge(config("all"), Digests())
    for stage, key, value, expected in (
        ("features", "weights", "elsewhere.pth", ""),  # beside a Baseline, features reads no pretrained weights
        ("features", "stem", "deep", "encoder.stem"),
        ("baseline", "weights", "elsewhere.pth", ""),  # what lies there is compared as an input
    ):
        then = copy.deepcopy(judge.parameters(stage))
        then["encoder"][key] = value
        inputs = {"weights": "md5"} if stage == "baseline" else {}
        record = Record(stage, {}, then, "code", inputs, {}, {})
        assert judge.changed_parameter(record, judge.parameters(stage)) == expected


def test_gated_weights_that_are_absent_are_explained_before_the_first_job(tmp_path: Path) -> None:
    from workflow.tracking import _refuse_missing

    values = tiny_values(encoder={"arch": "dinov3-vits16", "weights": str(tmp_path / "none.pth"), "train": "none"})
    judge = Judge(check(values, Path("params.yaml")), Digests())
    with pytest.raises(InputError, match=r"none\.pth: no such file; novelseg never downloads .* ask for them at"):
        _refuse_missing(judge, "features", Reason("record", "is missing"), "artifacts/features/fold0/0.h5")


@pytest.mark.processes
def test_snakemake_plans_no_such_jobs(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "house")
    set_values(folder, encoder={"train": "none"})
    assert planned(folder) == {
        **{"images": 2, "hierarchies": 2, "regions": 2, "features": 2, "index": 1, "prototypes": 1},
        **{"episodes": 2, "cam": 1, "evaluate": 1, "report": 1},
    }


def test_the_last_parts_stay_trainable() -> None:
    for trained, expected in ((None, [True] * 4), (0, [False] * 4), (1, [False] * 3 + [True]), (4, [True] * 4)):
        net = ResNetBackbone(arch="resnet18", stem="torchvision", width=4)
        freeze(net, trained)
        assert [any(weight.requires_grad for weight in part.parameters()) for part in net.parts()] == expected
    with pytest.raises(InputError, match=r"encoder\.train is 5; the encoder has 4 parts"):
        freeze(net, 5)


class _StoppedError(Exception):
    """A training that is stopped from outside."""


def test_a_training_of_the_last_parts_resumes_exactly(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"optimiser": "adamw", "weight_decay": 0.05, "iterations": 7}
    params = write_values(tmp_path / "params.yaml", tiny_values(encoder={"train": 1}, baseline=changes))
    here = Project(params.parent, project.weights)
    monkeypatch.setattr("stages.training.CHECKPOINT_EVERY", 2)
    words = project.training_words("baseline", tmp_path)[:-1]
    assert here.run("baseline", *words, tmp_path / "unbroken") == 0
    whole, calls = MatchingLearner.forward, []

    def forward(learner: MatchingLearner, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise _StoppedError
        return whole(learner, batch)

    monkeypatch.setattr(MatchingLearner, "forward", forward)
    with pytest.raises(_StoppedError):
        here.run("baseline", *words, tmp_path / "stopped")
    assert here.run("baseline", *words, tmp_path / "stopped") == 0
    assert len(calls) == 4 + 5  # three iterations and the stopped one; then from the second on
    for file in ("weights.safetensors", "log.tsv"):
        assert digest(tmp_path / "stopped" / file) == digest(tmp_path / "unbroken" / file)
    net, record = load_encoder(tmp_path / "stopped/weights.safetensors")
    before, _ = pretrained_encoder(record.backbone, WEIGHTS)
    same = [all(map(torch.equal, *pair)) for pair in zip(parameters(net), parameters(before), strict=True)]
    assert same == [True, True, True, False]


def parameters(net: Any) -> list[list[torch.Tensor]]:
    """Parameters of each part of a backbone."""
    return [list(part.parameters()) for part in net.parts()]
