"""The segmenter: predictions of the pipeline, an estimator's manners, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from novelseg import Segmenter
from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.errors import InputError
from novelseg.data.index import Index, read_index
from novelseg.data.store import ImageStore
from novelseg.evaluation.lists import read_cases
from novelseg.inference.bundle import load_bundle
from novelseg.inference.predictors import PerClass
from novelseg.methods.bank import SupportBank
from novelseg.methods.contract import Case
from novelseg.methods.matching.predictor import MatchingPredictor
from novelseg.methods.refiners import SEGMENTER_VARIANTS, refiners_of
from novelseg.methods.variants import MATCHING, SPFL
from novelseg.ops.counts import object_iou
from tests.makers import Project
from tests.pictures import disc

RGB = NDArray[np.uint8]


@pytest.fixture(scope="module")
def index(project: Project) -> Index:
    return read_index(project.path("index/index.h5"))


@pytest.fixture(scope="module")
def cases(project: Project, index: Index) -> list[Case]:
    return read_cases([project.path("episodes/fold0/1shot/seed1.tsv")], index, 0, 1)


@pytest.fixture(scope="module")
def decoded(project: Project, index: Index) -> dict[int, tuple[RGB, RGB]]:
    """Image and mask of every image of the index."""
    with ImageStore([Path(path) for path in project.images()], index) as store:
        return {number: (store.image(number), store.mask(number)) for number in range(len(index.ids))}


# The pipeline's own predictions


@pytest.mark.parametrize("variant", SEGMENTER_VARIANTS)
def test_masks_are_those_of_the_pipelines_evaluation(
    bundle: Path, project: Project, index: Index, cases: list[Case], decoded: dict[int, tuple[RGB, RGB]], variant: str
) -> None:
    read = load_bundle(bundle)
    bank = SupportBank(
        FeatureExtractor(read.encoder, "fp32", torch.device("cpu")),
        *(index.size, lambda n: decoded[n][0], lambda n: decoded[n][1], 0),
    )
    name = SPFL if variant == MATCHING else f"{SPFL}+{variant}"
    refiners = refiners_of(SPFL, [name], read.refiners)
    predictor = MatchingPredictor(bank, read.record.scale, refiners)
    for case in cases[:3]:
        logits = next(one.logits for one in predictor([case], SPFL) if one.variant == name)
        expected = bank.grid.upsample(logits[None, None], index.size(case.query))[0, 0].numpy()
        segmenter = Segmenter.load(bundle, variant=variant, seed=case.seed, episode=case.episode)
        pairs = [decoded[number] for number in case.supports]
        masks = [np.where(mask == 255, 255, mask == case.label).astype(np.uint8) for _, mask in pairs]
        found = segmenter.fit([image for image, _ in pairs], masks).decision_function([decoded[case.query][0]])
        np.testing.assert_allclose(found[0], expected, atol=1e-4)
        assert ((found[0] > 0) == (expected > 0))[np.abs(expected) > 1e-4].all()


def test_a_query_is_segmented_alike_in_any_company(bundle: Path) -> None:
    segmenter = Segmenter.load(bundle).fit(*[[part] for part in disc()])
    queries = [disc(middle=(20 + 3 * n, 30))[0] for n in range(6)] + [disc(side=40, middle=(20, 20))[0]]
    together = segmenter.decision_function(queries)
    for query, expected in zip(queries, together, strict=True):
        np.testing.assert_allclose(segmenter.decision_function([query])[0], expected, atol=1e-4)


def test_features_of_queries_are_let_go(bundle: Path) -> None:
    segmenter = Segmenter.load(bundle, variant=MATCHING).fit(*[[part] for part in disc()])
    predictor = segmenter._predictor
    assert isinstance(predictor, PerClass)
    for _ in segmenter.each(disc(middle=(20 + n, 30))[0] for n in range(9)):
        assert len(predictor._bank._features) <= 1 + segmenter._extract.batch
    assert set(predictor._bank._features) == {0}


# scikit-learn's conventions


def test_it_is_an_estimator(bundle: Path) -> None:
    from sklearn.base import clone

    first = Segmenter(bundle, variant=MATCHING, side=64, episode=3)
    image, mask = disc()
    assert first.fit([image], [mask]) is first
    assert first.n_supports_ == 1
    second = clone(first)
    assert second.get_params() == first.get_params()
    assert not hasattr(second, "n_supports_")
    with pytest.raises(InputError, match=r"not fitted; call fit"):
        second.predict([image])
    with pytest.raises(InputError, match=r"no parameter 'sides'; expected one of bundle, weights"):
        second.set_params(sides=3)
    assert second.set_params(side=32).side == 32


def test_a_fitted_one_can_be_copied_and_pickled(bundle: Path) -> None:
    image, mask = disc()
    segmenter = Segmenter.load(bundle).fit([image], [mask])
    query = disc(middle=(30, 26))[0]
    expected = segmenter.decision_function([query])[0]
    copies = copy.deepcopy(segmenter), pickle.loads(pickle.dumps(segmenter))
    segmenter.fit([image], [1 - mask])  # theirs is what it had learned before
    for made in copies:
        np.testing.assert_array_equal(made.decision_function([query])[0], expected)


def test_predict_proba_and_score_follow_from_the_logits(bundle: Path) -> None:
    image, mask = disc()
    segmenter = Segmenter.load(bundle, variant=MATCHING, edges=False).fit([image], [mask])
    query, truth = disc(middle=(30, 26))
    logits = segmenter.decision_function([query])[0]
    predicted, shares = segmenter.predict([query])[0], segmenter.predict_proba([query])[0]
    assert logits.shape == predicted.shape == shares.shape == query.shape[:2]
    assert [array.dtype for array in (logits, predicted, shares)] == [np.float32, np.uint8, np.float32]
    np.testing.assert_array_equal(predicted, logits > 0)
    np.testing.assert_allclose(shares, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    expected = (predicted & truth).sum() / (predicted | truth).sum()
    assert segmenter.score([query], [truth]) == pytest.approx(expected)


def test_iou_leaves_void_out_and_agrees_on_nothing() -> None:
    truth = np.array([[1, 1, 0, 255]], np.uint8)
    assert object_iou(np.array([[1, 0, 1, 1]]), truth) == pytest.approx(1 / 3)
    assert object_iou(np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.uint8)) is None


def test_a_disc_is_found_by_its_colour(bundle: Path) -> None:
    image, mask = disc()
    query, truth = disc(middle=(24, 36))
    assert Segmenter.load(bundle).fit([image], [mask]).score([query], [truth]) > 0.5
    assert Segmenter.load(bundle).fit([image], [1 - mask]).score([query], [truth]) < 0.2


def test_large_pictures_are_seen_smaller_and_answered_at_their_size(bundle: Path) -> None:
    image, mask = disc(side=200, middle=(100, 100))
    small = Segmenter.load(bundle, side=64).fit([image], [mask])
    assert small.predict([image])[0].shape == (200, 200)
    assert small.predict([image[:1, :1], image[:, :3]])[0].shape == (1, 1)


def test_single_pictures_and_bytes_as_masks_are_taken(bundle: Path, tmp_path: Path) -> None:
    image, mask = disc()
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    expected = Segmenter.load(bundle).fit([image], [mask])
    single = Segmenter.load(bundle).fit(image, 255 * mask)
    assert single.n_supports_ == 1
    for picture in (image, path, str(path), Image.fromarray(image)):
        (found,) = single.predict(picture)
        np.testing.assert_array_equal(found, expected.predict([image])[0])
    assert single.score(path, 255 * mask) == expected.score([image], [mask])


@pytest.mark.parametrize(
    ("images", "masks", "told"),
    [
        ([np.zeros((4, 4, 3), np.uint8)], [], "1 images, 0 masks; expected the same number of both"),
        ([], [], "0 images, 0 masks"),
        (np.zeros((4, 4, 3), np.uint8), [np.eye(4)], "a mask is float64 of shape"),
        ([np.zeros((4, 4, 3))], [np.eye(4, dtype=int)], "a picture is float64 of shape"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.full((4, 4), 7)], "a mask is int64 of shape"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.eye(3, dtype=int)], "mask 0: the mask is 3×3 px, its picture 4×4"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.zeros((4, 4), int)], "no mask has an object; give a support"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.ones((4, 4), bool)], "mask 0: the mask has no background"),
        ([np.zeros((0, 4, 3), np.uint8)], [np.zeros((0, 4), int)], "has no pixels"),
        ([None], [np.eye(4, dtype=int)], "a picture is a NoneType"),
        ([np.zeros((4, 4, 3), np.uint8)], [np.full((4, 4), 255)], "mask 0: the mask has neither object nor background"),
    ],
)
def test_what_cannot_be_learned_from_is_told(bundle: Path, images: Any, masks: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Segmenter(bundle).fit(images, masks)


def test_a_score_asks_for_masks_that_fit(bundle: Path) -> None:
    image, mask = disc()
    segmenter = Segmenter.load(bundle).fit([image], [mask])
    for images, masks, told in (
        ([image], [], "1 images, 0 masks"),
        ([image], [mask[:9]], r"mask 0: the mask has the shape \(9, 64\), its picture \(64, 64\)"),
        ([image], [7 * mask], "a mask is uint8 of shape"),
    ):
        with pytest.raises(InputError, match=told):
            segmenter.score(images, masks)


@pytest.mark.parametrize(("drawn", "rest", "missing"), [(1, 0, "object"), (1, 255, "object"), (0, 1, "background")])
def test_what_lies_between_the_cells_is_told_and_can_be_matched(
    bundle: Path, drawn: int, rest: int, missing: str
) -> None:
    image, mask = np.zeros((96, 96, 3), np.uint8), np.full((96, 96), rest, np.uint8)
    mask[3, 3], mask[4, 4] = drawn, 0
    told = f"at 500 px no mask has {missing} in the middle of a feature cell.*or choose the variant matching"
    for variant in ("srofb-support-only", "srofb", "closed-form"):
        with pytest.raises(InputError, match=told):
            Segmenter(bundle, variant=variant, side=500).fit([image], [mask])
    for variant in ("matching", "self-support"):
        assert Segmenter(bundle, variant=variant).fit([image], [mask]).predict([image])[0].shape == (96, 96)


def test_an_object_that_vanishes_when_shrunk_is_told(bundle: Path) -> None:
    image, mask = np.zeros((500, 500, 3), np.uint8), np.zeros((500, 500), np.uint8)
    mask[3, 3] = 1
    with pytest.raises(InputError, match="at 32 px no pixel of the object is left; raise side"):
        Segmenter(bundle, side=32).fit([image], [mask])


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"variant": "spfl"}, "variant is 'spfl'; expected one of matching, self-support, closed-form, srofb"),
        ({"side": 0}, "side is 0; expected at least 1 px"),
        ({"device": "tpu"}, "--device is 'tpu'"),
    ],
)
def test_wrong_parameters_are_told(bundle: Path, params: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Segmenter.load(bundle, **params)


# The bundle
