"""The CAM prior (method B): its batches, its training, its predictions, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.backbones.resnet import ResNet
from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.data.bank import Bank
from novelseg.data.batches import EpisodeBatches, ViewGeometry
from novelseg.data.index import read_index
from novelseg.data.sampling import EpisodeSampler
from novelseg.data.store import ImageStore
from novelseg.evaluation.lists import read_cases
from novelseg.formats.record import from_json, to_json
from novelseg.methods.cam.equations import EPSILON
from novelseg.methods.cam.network import CamRecord, load_cam
from novelseg.methods.cam.objects import PooledObjects, masked_object
from novelseg.methods.cam.predictor import CamPredictor, Decode
from novelseg.methods.cam.training import CamBatches, CamLearner
from novelseg.methods.contract import Case
from novelseg.ops.geometry import gather, squares
from stages.cam import roles
from stages.params.cam import Params
from tests.makers import CAM, Project, tiny_values, write_values

CPU = torch.device("cpu")
THRESHOLD = 0.5  # of the map alone


def predictor(
    project: Project, store: ImageStore, geometry: str = "resize", fusion: str = "scores", mask: Decode | None = None
) -> CamPredictor:
    """The trained network of the tiny experiment."""
    net, record = load_cam(project.path(CAM), 0)
    index = read_index(project.path("index/index.h5"))
    seen = replace(record, geometry=geometry)
    return CamPredictor(net, seen, fusion, THRESHOLD, index, store.image, mask or store.mask, CPU, 0)


@pytest.fixture(name="store")
def opened_store(project: Project) -> Any:
    """Images of the tiny experiment."""
    index = read_index(project.path("index/index.h5"))
    with ImageStore([Path(path) for path in project.images()], index) as store:
        yield store


@pytest.fixture(name="cases")
def all_cases(project: Project) -> list[Case]:
    """Its episodes."""
    index = read_index(project.path("index/index.h5"))
    return read_cases([project.path("episodes/fold0/1shot/seed0.tsv")], index, 0, 1)


def predicted(made: CamPredictor, cases: list[Case]) -> dict[tuple[Case, str], Any]:
    """All predictions."""
    blocks = made.blocks(cases, "test")
    return {(found.case, found.variant): found for block in blocks for found in made(block, "cam")}


def test_scores_do_not_depend_on_the_query(project: Project, store: ImageStore, cases: list[Case]) -> None:
    made, swapped = predictor(project, store), predictor(project, store)
    queries = sorted({case.query for case in cases})
    others = [Case(c.seed, c.episode, next(q for q in queries if q != c.query), c.label, c.supports) for c in cases]
    found, elsewhere = predicted(made, cases), predicted(swapped, others)
    assert made._scores.keys() == swapped._scores.keys()
    for key, scores in made._scores.items():
        assert torch.equal(scores, swapped._scores[key])
    pairs = zip(cases, others, strict=True)
    assert not any(torch.equal(found[a, "cam"].logits, elsewhere[b, "cam"].logits) for a, b in pairs)


def test_a_prediction_is_the_plain_one(project: Project, store: ImageStore, cases: list[Case]) -> None:
    net, record = load_cam(project.path(CAM), 0)
    found = predicted(predictor(project, store), cases)
    index = read_index(project.path("index/index.h5"))

    def read(image: int) -> Any:
        return store.image(image), store.mask(image)[None]

    # As training sees them: through its own bank and views, unmirrored.
    bank = Bank(index, index.validation_images(), read, CPU, 0)
    for case in cases:
        pictures, places = bank.take([case.supports[0], case.query])
        views = squares(pictures, places, torch.zeros(2, dtype=torch.bool), record.size)
        (support, query), masks = gather(pictures, views, record.size)
        inside = masks[0, 0] == case.label
        support = (support * inside)[None]
        with torch.inference_mode():
            activated = net.refine(net.classify(net.encoder(support).relu()))
            fine = net.encoder.grid.upsample(activated, (record.size, record.size))[0]
            scores = fine[:, inside].mean(1)  # over the object's pixels
            features = net.encoder(query[None]).relu()
            maps = net.refine(net.classify(features))[0]
            total = sum(score * map_ for score, map_ in zip(scores, maps, strict=True))
            prior = (total - total.min()) / (total.max() - total.min() + EPSILON)
            logits = net.decode(features * prior)[0]
        torch.testing.assert_close(found[case, "cam"].logits, logits[1] - logits[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[case, "cam-map-only"].logits, prior - THRESHOLD, atol=1e-5, rtol=1e-4)


def test_several_supports_are_the_mean_of_their_scores(project: Project, store: ImageStore, cases: list[Case]) -> None:
    supports = tuple({case.supports[0]: None for case in cases if case.label == cases[0].label})[:5]
    case = Case(0, 0, cases[0].query, cases[0].label, supports)
    assert len(supports) > 1
    made = predictor(project, store)
    prior = predicted(made, [case])[case, "cam"].prior
    mean = torch.stack([made._scores[image, case.label] for image in supports]).mean(0)
    features = made._bank[case.query]
    with torch.inference_mode():
        torch.testing.assert_close(prior, made._network.priors(features, mean[None])[0])
    fused = predictor(project, store, fusion="maps")
    alone = [Case(0, 0, case.query, case.label, (image,)) for image in supports]
    singles = [predicted(predictor(project, store), [one])[one, "cam"].prior for one in alone]
    torch.testing.assert_close(predicted(fused, [case])[case, "cam"].prior, torch.stack(singles).mean(0))


def test_with_windows_tests_are_at_the_images_own_size(project: Project, store: ImageStore, cases: list[Case]) -> None:
    made = predictor(project, store, "crop")
    shape = predicted(made, cases[:1])[cases[0], "cam"].prior.shape
    height, width = store.image(cases[0].query).shape[:2]
    assert shape == (-(-height // 8), -(-width // 8))


def test_a_query_mask_is_never_read(project: Project, cases: list[Case]) -> None:
    index = read_index(project.path("index/index.h5"))
    asked = []
    with ImageStore([Path(path) for path in project.images()], index) as store:

        def mask(image: int) -> Any:
            asked.append(image)
            return store.mask(image)

        predicted(predictor(project, store, mask=mask), cases)
    assert set(asked) == {image for case in cases for image in case.supports}


def test_frozen_parts_stay_and_the_others_move(project: Project) -> None:
    before, after = load_file(project.weights), load_file(project.path(CAM))
    moved = {
        name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[f"encoder.resnet.{name}"])
    }
    assert moved == {"layer3"}


def names_of(project: Project, *folds: int) -> set[str]:
    """Names of the classes of some folds."""
    index = read_index(project.path("index/index.h5"))
    return {index.classes[label - 1] for fold in folds for label in index.novel(fold)}


def test_the_classes_are_those_of_the_known_folds_alone(project: Project) -> None:
    _, record = load_cam(project.path(CAM), 0)
    assert set(record.plays_unseen) == names_of(project, 1)
    assert set(record.known) == names_of(project, 2, 3)


def test_what_a_batch_holds(project: Project, store: ImageStore) -> None:
    index = read_index(project.path("index/index.h5"))
    params = Params.model_validate(tiny_values(cam={"iterations": 40, "objects": 5, "flip": 0.0})["cam"])
    known = [label for fold in (2, 3) for label in index.novel(fold).tolist()]
    asked: dict[str, list[int]] = {}

    def read(image: int) -> Any:
        return store.image(image), store.mask(image)[None]

    pool = index.training_images(0)
    bank = Bank(index, pool, read, CPU, 0)
    samplers = {"object": EpisodeSampler(index, pool, np.array(known), 0, "training")}
    samplers["pair"] = EpisodeSampler(index, pool, index.novel(1), 1, "training")
    view = params.to(ViewGeometry)
    objects = EpisodeBatches(bank, samplers["object"], view, params.objects, 0, "object")
    pairs = EpisodeBatches(bank, samplers["pair"], view, params.episodes, 0, "pair")
    network, record = load_cam(project.path(CAM), 0)
    members = [(image, label) for label in known for image in index.holds(pool, label).tolist()]
    side = record.size
    pooled = PooledObjects(
        members,
        lambda image: (store.image(image), store.mask(image)),
        lambda _: (side, side),
        side,
        False,
        network.pooled,
    )
    made = CamBatches(
        objects,
        pairs,
        known,
        pooled,
        FeatureExtractor(network.encoder, "fp32", CPU),
        encoder_trains=True,
        classifier_iterations=params.classifier_iterations,
        detach=3,
        accuracy=True,
        seed=params.seed,
    )
    for iteration in range(20):
        drawn = made.draw(iteration, 0, 1)
        shown = made.render(drawn)
        joint = iteration - params.classifier_iterations
        assert ("images" in shown) == (joint >= 0)
        assert ("all_pooled" in shown) == (joint == 0)
        if isinstance(drawn.objects, list):
            assert joint < 0
            labels = [label for _, label, _ in drawn.objects]
            for (image, label, mirrored), taps in zip(drawn.objects, shown["pooled"], strict=True):
                assert not mirrored
                picture, mask = masked_object(store.image(image), store.mask(image), label, side)
                with torch.inference_mode():
                    features = network.encoder(torch.from_numpy(picture / 255).permute(2, 0, 1)[None].float())
                    slow = network.scores(features, torch.from_numpy(mask)[None])
                    torch.testing.assert_close(network.scores_of_pooled(taps[None]), slow, atol=1e-4, rtol=1e-4)
        else:
            labels = drawn.objects.labels
            assert shown["objects"].shape == (5, 1, 3, 49, 49)
            # Each object is really there: its class's pixels are the mask's.
            assert (shown["object_masks"] == 1).flatten(1).any(1).all()
        assert [known[channel] for channel in shown["object_labels"]] == labels
        asked.setdefault("object", []).extend(labels)
        if drawn.pairs:
            asked.setdefault("pair", []).extend(drawn.pairs.labels)
            assert bool(shown["detached"]) == (joint < 3)
            own = drawn.pairs.labels[::2]
            for pair, donor in enumerate(shown["donors"].tolist()):
                assert own[donor] != own[pair] or (donor == pair and len(set(own)) == 1)
    assert set(asked["object"]) == set(known)
    assert set(asked["pair"]) == set(index.novel(1).tolist())


@pytest.mark.parametrize(
    ("fold", "offset", "folds", "held_out", "expected"),
    [(0, 1, 4, -1, 1), (3, 1, 4, -1, 0), (2, 2, 4, -1, 0), (0, 1, 4, 1, 2), (3, 1, 4, 0, 1), (2, 2, 4, 3, 1)],
)
def test_which_fold_plays_unseen(fold: int, offset: int, folds: int, held_out: int, expected: int) -> None:
    params = Params.model_validate(tiny_values(cam={"unseen": offset})["cam"])
    assert params.unseen_fold(fold, folds, held_out) == expected


@pytest.mark.parametrize(("folds", "held_out"), [(2, -1), (3, 2)])
def test_too_few_folds_are_refused(folds: int, held_out: int) -> None:
    params = Params.model_validate(tiny_values()["cam"])
    with pytest.raises(InputError, match=f"needs two known folds beside the novel one; fold 0 of {folds} has 1"):
        params.unseen_fold(0, folds, held_out)


def test_one_class_cannot_be_told_from_others(project: Project) -> None:
    index = replace(
        read_index(project.path("index/index.h5")), folds=3, class_fold=np.array([0] * 6 + [1, 2], np.int32)
    )
    params = Params.model_validate(tiny_values()["cam"])
    with pytest.raises(InputError, match=r"fold 0 leaves one class .* act as unseen \(arrow\); expected at least two"):
        roles(index, params, 0)
    other = replace(index, class_fold=np.array([0] * 5 + [1, 2, 2], np.int32))
    assert [part.tolist() for part in roles(other, params, 0)] == [[7, 8], [6]]


def test_a_class_that_no_training_image_holds_is_told(project: Project) -> None:
    index = replace(read_index(project.path("index/index.h5")), novel_images="drop")
    with pytest.raises(InputError, match=r"training list, but one is needed; .* or set index.novel_images to keep"):
        EpisodeSampler(index, np.array([], np.int64), np.array([1]), 0, "training")


def test_a_support_of_which_nothing_is_left_is_named(project: Project, store: ImageStore, cases: list[Case]) -> None:
    made = predictor(project, store)
    made._mask = lambda image: np.zeros_like(store.mask(image))
    with pytest.raises(InputError, match=r"^support \S+: its '\w+' has no pixel at a size of \d+ px; raise cam.size"):
        predicted(made, cases)


def test_what_cannot_be_trained_is_told_before_the_first_job(tmp_path: Path) -> None:
    from workflow.config import load

    def values(**changes: dict[str, Any]) -> Path:
        return write_values(tmp_path / "params.yaml", tiny_values(**changes))

    with pytest.raises(
        InputError, match=r"params.yaml: cam.unseen is 4; expected at most 3, the known folds of fold 0"
    ):
        load(values(cam={"unseen": 4}))
    with pytest.raises(InputError, match="classifier_iterations is 6; expected fewer than iterations, 6"):
        load(values(cam={"classifier_iterations": 6}))
    assert load(values(cam={"unseen": 4}, plan={"cam": False})).targets.of("cam") == []


def test_another_network_fold_or_world_is_refused(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = project.evaluate_words(tmp_path / "out")
    place = words.index("--cam") + 1
    encoder = words[words.index("--spfl") + 1]
    assert project.run("evaluate", *words[:place], encoder, *words[place + 1 :]) == 2
    assert "contains the network 'encoder', not 'cam'" in capsys.readouterr().err
    with pytest.raises(InputError, match="trained for fold 0, not 1; give the network of fold 1"):
        load_cam(project.path(CAM), 1)
    # Other classes under the same number of a fold: the network has seen what is novel now.
    other = tmp_path / "index.h5"
    values = tiny_values(index={"layout": "fwb"})
    here = Project(write_values(tmp_path / "params.yaml", values).parent, project.weights)
    assert here.run("index", "--images", *project.images(), "--out", other) == 0
    lists = [project.path(f"episodes/fold0/1shot/seed{seed}.tsv") for seed in (0, 1)]
    drawn = [tmp_path / path.name for path in lists]
    for seed, path in enumerate(drawn):
        options = ["--index", other, "--fold", 0, "--shot", 1, "--seed", seed, "--out", path]
        assert here.run("episodes", *options) == 0
    renewed: dict[object, Path] = {project.path("index/index.h5"): other, **dict(zip(lists, drawn, strict=True))}
    swapped = [renewed.get(word, word) for word in words]
    for asked in (swapped, [*swapped[: place - 1], *swapped[place + 1 :]]):  # without the CAM prior too
        assert project.run("evaluate", *asked) == 2
        assert "trained on" in capsys.readouterr().err
    data = read_index(project.path("index/index.h5"))
    base = data.names(data.base(0))
    assert load_cam(project.path(CAM), 0, base)[1].classes == base
    with pytest.raises(InputError, match="but the base classes of fold 0 in this index are"):
        load_cam(project.path(CAM), 0, base[1:])
    assert not (tmp_path / "out").exists()


def test_with_another_support_each_episode_gets_the_map_of_another_class(
    project: Project, store: ImageStore, cases: list[Case]
) -> None:
    own, other = predictor(project, store), predictor(project, store)
    other._network.prior = "other"
    found, lent = predicted(own, cases), predicted(other, cases)
    for case in cases:
        lender = other._lenders[case]
        assert lender.label != case.label
        scores = torch.stack([own._scores[image, lender.label] for image in lender.supports]).mean(0)
        with torch.inference_mode():
            prior = own._network.priors(own._bank[case.query], scores[None])[0]
        torch.testing.assert_close(lent[case, "cam"].prior, prior)
        assert not torch.equal(lent[case, "cam"].prior, found[case, "cam"].prior)
    one_class = [case for case in cases if case.label == cases[0].label]
    with pytest.raises(InputError, match="all episodes are of one class; expected episodes of several"):
        other.blocks(one_class, "test")


class _StoppedError(Exception):
    """A training that is stopped from outside."""


# All new settings away from their defaults at least once; a frozen encoder, and one whose layer3 is trained.
VARIATIONS = [
    {"frozen": 4, "pooling": "object", "relu": True, "detach": 2, "classifier_accuracy": 0.01, "flip": 0.5},
    {"frozen": 3, "pooling": "image", "relu": False, "detach": 100, "prior": "other", "flip": 0.0},
    {"frozen": 2, "pooling": "object", "relu": False, "detach": 0, "geometry": "crop"},
]


@pytest.mark.parametrize("cam", VARIATIONS)
def test_a_training_that_stops_in_either_phase_ends_with_the_same_bytes(
    project: Project, tmp_path: Path, cam: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tiny_values(cam={"iterations": 10, "classifier_iterations": 5, **cam})
    here = Project(write_values(tmp_path / "params.yaml", values).parent, project.weights)
    monkeypatch.setattr("stages.training.CHECKPOINT_EVERY", 2)

    def words(name: str) -> list[object]:
        rest = ["--weights", project.weights, "--fold", 0, "--threads", 1, "--out", tmp_path / name]
        return [*project.data(), *rest]

    for name in ("unbroken", "again"):
        assert here.run("cam", *words(name)) == 0
    whole, calls = CamLearner.forward, []

    def forward(learner: CamLearner, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(sorted(batch))
        if len(calls) in (4, 9):  # iteration 3, in the classifier's phase, and later one of the joint phase
            raise _StoppedError
        return whole(learner, batch)

    monkeypatch.setattr(CamLearner, "forward", forward)
    for _ in range(2):
        with pytest.raises(_StoppedError):
            here.run("cam", *words("stopped"))
    assert here.run("cam", *words("stopped")) == 0
    for file in ("weights.safetensors", "log.tsv"):
        assert len({digest(tmp_path / name / file) for name in ("unbroken", "again", "stopped")}) == 1
    _, record = load_cam(tmp_path / "stopped/weights.safetensors", 0)
    assert {name: getattr(record, name) for name in cam} == cam
    pooled = ["images" in keys and "pooled" in keys for keys in calls]
    assert any(pooled) == (cam["frozen"] == 4)  # a frozen encoder's objects stay pooled beside the pairs


def test_the_classifiers_iterations_leave_the_encoder_alone(project: Project, tmp_path: Path) -> None:
    values = tiny_values(cam={"iterations": 6, "classifier_iterations": 5, "frozen": 0, "learning_rate": 0.01})
    here = Project(write_values(tmp_path / "params.yaml", values).parent, project.weights)
    with pytest.MonkeyPatch.context() as patch:
        seen: list[bool] = []
        before = load_file(project.weights)
        whole = CamLearner.forward

        def forward(learner: CamLearner, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            state = learner.network.encoder.state_dict()
            seen.append(all(torch.equal(value, state[f"resnet.{name}"]) for name, value in before.items()))
            return whole(learner, batch)

        patch.setattr(CamLearner, "forward", forward)
        rest = ["--weights", project.weights, "--fold", 0, "--threads", 1, "--out", tmp_path / "run"]
        assert here.run("cam", *project.data(), *rest) == 0
    assert seen == [True] * 6
    after = load_file(tmp_path / "run/weights.safetensors")
    assert not torch.equal(before["conv1.weight"], after["encoder.resnet.conv1.weight"])


def test_a_record_without_the_later_fields_means_what_it_meant(project: Project) -> None:
    _, record = load_cam(project.path(CAM), 0)
    old = {name: value for name, value in to_json(record).items() if name not in LATER}
    read = from_json(CamRecord, old)
    assert {name: getattr(read, name) for name in LATER} == LATER
    with pytest.raises(ValueError, match="'pooling' is 'cell'; expected one of image, object"):
        from_json(CamRecord, {**old, "pooling": "cell"})


LATER = {"pooling": "image", "relu": False, "features": "layer3", "detach": 0, "classifier_accuracy": 0.0}


def test_layer4_trains_and_is_read_again(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = tiny_values()["encoder"]
    values = tiny_values(cam={"features": "layer4", "frozen": 4})
    here = Project(write_values(tmp_path / "params.yaml", values).parent, project.weights)
    rest = ["--fold", 0, "--threads", 1, "--out", tmp_path / "run"]
    assert here.run("cam", *project.data(), "--weights", project.weights, *rest) == 2
    assert "ends after layer3, and cam.features is layer4" in capsys.readouterr().err
    torch.manual_seed(0)
    deep = ResNet(arch=encoder["arch"], stem=encoder["stem"], width=encoder["width"], last="layer4")
    state = {**deep.state_dict(), **load_file(project.weights)}
    save_file(state, tmp_path / "deep.safetensors")
    assert here.run("cam", *project.data(), "--weights", tmp_path / "deep.safetensors", *rest) == 0
    net, record = load_cam(tmp_path / "run/weights.safetensors", 0)
    assert (record.backbone.last, net.encoder.level) == ("layer4", "layer4")
    assert net.encoder.channels == 8 * encoder["width"]
    after = load_file(tmp_path / "run/weights.safetensors")
    moved = {
        name.split(".")[0] for name, value in state.items() if not torch.equal(value, after[f"encoder.resnet.{name}"])
    }
    assert moved == {"layer4"}
