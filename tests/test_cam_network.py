"""The CAM prior (method B): its equations and its network, on hand-made tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from novelseg.backbones.resnet import ResNetBackbone
from novelseg.core.errors import InputError
from novelseg.methods.cam.equations import (
    EPSILON,
    black_out,
    classification_loss,
    map_weights,
    next_of_another_class,
    normalise,
    prior_map,
    shuffle,
)
from novelseg.methods.cam.network import CamNetwork, MultiScale
from novelseg.methods.cam.objects import pooling_weights
from novelseg.methods.cam.training import CamLearner
from novelseg.methods.losses import LOSSES

CPU = torch.device("cpu")


def network(**changes: Any) -> CamNetwork:
    """A small network with random weights."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "classes": 3,
        "wiring": "sum",
        "weighting": "scores",
        "width": 4,
        "prior": "map",
        "pooling": "image",
        "relu": False,
        **changes,
    }
    return CamNetwork(ResNetBackbone(arch="resnet18", stem="torchvision", width=4), **shape).eval()


def test_equation_1_is_the_mean_of_what_it_says() -> None:
    scores = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -4.0]])
    slow = 0.0
    for row, label in zip(scores.tolist(), (0, 2), strict=True):
        for channel, score in enumerate(row):
            slow += math.log(1 + math.exp(-(1 if channel == label else -1) * score)) / 6
    assert classification_loss(scores, torch.tensor([0, 2])).item() == pytest.approx(slow, rel=1e-6)


def test_equation_1_of_a_score_without_bounds_stays_finite() -> None:
    scores = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = classification_loss(scores, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_likeness_is_positive_whatever_the_scores_are() -> None:
    scores = torch.tensor([[-4.0, -1.0, -2.0]])
    assert torch.equal(map_weights(scores, "scores"), scores)
    sigmoid, softmax = map_weights(scores, "sigmoid"), map_weights(scores, "softmax")
    own = [1 / (1 + math.exp(-score)) for score in (-4, -1, -2)]
    assert sigmoid[0].tolist() == pytest.approx([chance / sum(own) for chance in own])
    assert softmax.sum().item() == pytest.approx(1)
    assert softmax.argmax() == sigmoid.argmax() == 1
    maps = torch.tensor([[[-9.0, -1.0]], [[-9.0, -1.0]], [[-9.0, -1.0]]])  # the ground, and what looks like something
    assert prior_map(maps, scores)[0, 0].argmax() == 0  # the ground is brighter
    assert prior_map(maps, sigmoid)[0, 0].argmax() == prior_map(maps, softmax)[0, 0].argmax() == 1


@pytest.mark.parametrize("weighting", ["scores", "sigmoid", "softmax"])
def test_maps_fill_their_range_whatever_the_scores_are(weighting: str) -> None:
    maps = torch.randn((10, 6, 6), generator=torch.Generator().manual_seed(0))
    found = normalise(prior_map(maps, map_weights(torch.full((1, 10), -40.0), weighting)))
    assert found.amin() == 0
    assert found.amax().item() == pytest.approx(1, abs=1e-5)


def test_equation_2_adds_the_weighted_maps() -> None:
    maps = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    scores = torch.tensor([[3.0, 1.0, -1.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[[2.0, 1.0], [-1.0, -1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert torch.equal(prior_map(maps, scores), expected)
    assert torch.equal(prior_map(torch.stack([maps, maps]), scores), expected)


def test_equation_3_fills_the_range() -> None:
    maps = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]], [[5.0, 5.0], [5.0, 6.0]]])
    expected = torch.tensor([[[0.0, 0.25], [0.5, 1.0]], [[0.0, 0.0], [0.0, 1.0]]])
    torch.testing.assert_close(normalise(maps), expected, atol=2 * EPSILON, rtol=0)


def test_a_constant_map_becomes_zero_and_has_finite_gradients() -> None:
    maps = torch.full((2, 3, 3), 7.0, requires_grad=True)
    found = normalise(maps)
    assert torch.equal(found, torch.zeros(2, 3, 3))
    found.sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(2, 7))
def test_normalised_maps_lie_between_0_and_1(seed: int, height: int, width: int) -> None:
    maps = 100 * torch.randn((3, height, width), generator=torch.Generator().manual_seed(seed))
    found = normalise(maps)
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert torch.equal(found.flatten(1).argmax(1), maps.flatten(1).argmax(1))


def test_what_is_not_the_object_is_black() -> None:
    images = torch.rand((2, 3, 4, 4)) + 0.1
    masks = torch.randint(0, 3, (2, 4, 4), dtype=torch.uint8)
    masks[0, 0, 0] = 255
    shown = black_out(images, masks)
    outside = (masks != 1)[:, None].expand_as(images)
    assert (shown[outside] == 0).all()
    assert torch.equal(shown[~outside], images[~outside])


def test_a_shuffled_map_keeps_its_values_and_follows_its_key() -> None:
    maps = torch.arange(24.0).view(2, 3, 4)
    found = shuffle(maps, torch.tensor([5, 6], dtype=torch.int32))
    assert torch.equal(found.flatten(1).sort(1).values, maps.flatten(1))
    assert not torch.equal(found, maps)
    assert torch.equal(shuffle(maps[1:], torch.tensor([6], dtype=torch.int32))[0], found[1])


@pytest.mark.parametrize("wiring", ["sum", "join"])
def test_the_multi_scale_block_is_its_three_convolutions(wiring: str) -> None:
    torch.manual_seed(1)
    block, x = MultiScale(3, wiring), torch.randn(2, 3, 5, 6)
    wide, near, third = block.wide, block.near, block.third
    assert [part.kernel_size for part in (wide, near, third)] == [(3, 3), (1, 1), (1, 1)]
    expected = wide(x) + near(x) + third(x) if wiring == "sum" else third(torch.cat([wide(x), near(x)], 1))
    assert torch.equal(block(x), expected)


def test_equation_4_weighs_every_channel_by_the_map() -> None:
    net = network()
    features, priors = torch.randn(2, net.encoder.channels, 5, 7), torch.rand(2, 5, 7)
    keys = torch.zeros(2, dtype=torch.int32)
    slow = torch.stack(
        [
            net.decode(torch.stack([channel * prior for channel in feature])[None])[0]
            for feature, prior in zip(features, priors, strict=True)
        ]
    )
    found = net.segment(features, priors, keys)
    torch.testing.assert_close(found, slow, atol=1e-6, rtol=1e-5)
    assert found.shape == (2, 2, 17, 25)  # 4h − 3: corners stay corners


def test_a_constant_map_says_nothing_of_the_places() -> None:
    net = network(prior="constant")
    features, keys = torch.randn(1, net.encoder.channels, 4, 4), torch.tensor([3], dtype=torch.int32)
    found = [net.segment(features, torch.rand(1, 4, 4), keys) for _ in range(2)]
    assert torch.equal(*found)
    assert torch.equal(found[0], network().segment(features, torch.ones(1, 4, 4), keys))


def test_a_shuffled_map_stands_elsewhere() -> None:
    priors = torch.zeros(8, 4, 4)
    priors[:, 1, 2] = 1.0
    net, keys = network(prior="shuffled"), torch.arange(8, dtype=torch.int32)
    features = torch.randn(1, net.encoder.channels, 4, 4).expand(8, -1, -1, -1)
    found, whole = net.segment(features, priors, keys), network().segment(features, priors, keys)
    # One cell in sixteen is seen, by its key, and seldom the one that the map means.
    assert sum(torch.equal(a, b) for a, b in zip(found, whole, strict=True)) <= 2


def test_bf16_leaves_the_branches_in_full_precision() -> None:
    learner, shown = CamLearner(network(), 1.0), batch()
    seen = []
    learner.network.decode.register_forward_hook(lambda module, given, out: seen.append((given[0].dtype, out.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        learner(shown)
    assert seen == [(torch.float32, torch.float32)]


def batch(pairs: bool = True) -> dict[str, torch.Tensor]:
    """Random objects and pairs of 33 px."""
    generator = torch.Generator().manual_seed(4)

    def images(*shape: int) -> torch.Tensor:
        return torch.rand((*shape, 3, 33, 33), generator=generator)

    def masks(*shape: int) -> torch.Tensor:
        return torch.randint(0, 2, (*shape, 33, 33), dtype=torch.uint8, generator=generator)

    made = {"objects": images(2, 1), "object_masks": masks(2, 1), "object_labels": torch.tensor([0, 2])}
    more = {"images": images(2, 2), "masks": masks(2, 2), "keys": torch.tensor([1, 2], dtype=torch.int32)}
    more |= {"donors": torch.tensor([1, 0]), "detached": torch.tensor(False)}
    return {**made, **more} if pairs else made


def test_both_losses_are_told_and_weighted() -> None:
    learner = CamLearner(network(), 0.5)
    total, *parts = learner(batch()).tolist()
    told = dict(zip(LOSSES, parts, strict=True))
    assert total == pytest.approx(told["loss_seg"] + 0.5 * told["loss_class"], rel=1e-6)
    assert math.isnan(told["loss_pseudo1"])
    alone = dict(zip(("loss", *LOSSES), learner(batch(pairs=False)).tolist(), strict=True))
    assert alone["loss"] == pytest.approx(told["loss_class"], rel=1e-5)  # no weight where it is alone
    assert math.isnan(alone["loss_seg"])


def test_training_reads_of_the_background_of_objects_and_supports_nothing() -> None:
    learner, shown = CamLearner(network(), 1.0), batch()
    told = learner(shown)
    outside = {
        "objects": (shown["object_masks"] != 1)[:, :, None].expand_as(shown["objects"]),
        "images": (shown["masks"] != 1)[:, :, None].expand_as(shown["images"]).clone(),
    }
    outside["images"][:, 1] = False  # the query is seen as it is
    for name, where in outside.items():
        shown[name] = torch.where(where, 1 - shown[name], shown[name])
    assert torch.equal(learner(shown).nan_to_num(), told.nan_to_num())


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("pooling", ["image", "object"])
@pytest.mark.parametrize("wiring", ["sum", "join"])
def test_scores_of_pooled_features_are_those_of_the_images(wiring: str, pooling: str, relu: bool) -> None:
    net = network(wiring=wiring, pooling=pooling, relu=relu)
    generator = torch.Generator().manual_seed(3)
    features = torch.randn((4, net.encoder.channels, 5, 7), generator=generator)
    masks = torch.randint(0, 2, (4, 40, 56), dtype=torch.uint8, generator=generator)
    masks[:, 30:] = 255
    masks[0] = 0
    masks[0, 0, 0] = 1  # an object in the corner, whose taps lie outside
    slow = net.scores(features, masks)
    taps = torch.stack([net.pooled(one, mask) for one, mask in zip(features, masks, strict=True)])
    assert taps.shape == (4, 9, net.encoder.channels + 1)
    torch.testing.assert_close(net.scores_of_pooled(taps), slow, atol=1e-5, rtol=1e-4)


def test_scores_are_pooled_over_the_image_or_the_object() -> None:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn((2, network().encoder.channels, 5, 5), generator=generator)
    masks = torch.zeros((2, 33, 33), dtype=torch.uint8)
    masks[0, 4:20, 9:30] = 1
    masks[1, 30:, :3] = 1
    masks[1, :5] = 255  # void is no part of the object
    for pooling in ("image", "object"):
        net = network(pooling=pooling)
        maps = net.maps(features)
        if pooling == "image":
            slow = maps.mean((2, 3))
        else:  # by definition: the mean over the object's pixels of the maps that are brought to the image's size
            fine = net.encoder.grid.upsample(maps, (33, 33))
            slow = torch.stack([fine[n][:, masks[n] == 1].mean(1) for n in range(2)])
        torch.testing.assert_close(net.scores(features, masks), slow, atol=1e-5, rtol=1e-4)


def test_an_empty_object_has_no_weight() -> None:
    grid = network().encoder.grid
    weights = pooling_weights(torch.zeros((1, 33, 33), dtype=torch.uint8), (5, 5), grid, "object")
    assert torch.equal(weights, torch.zeros(1, 5, 5))


def test_the_relu_of_the_last_block_is_applied_to_both_branches() -> None:
    net, plain = network(relu=True), network()
    generator = torch.Generator().manual_seed(6)
    features = torch.randn((1, net.encoder.channels, 4, 4), generator=generator)
    keys, priors = torch.zeros(1, dtype=torch.int32), torch.rand((1, 4, 4), generator=generator)
    for one, other in (
        (net.maps(features), plain.maps(features.relu())),
        (net.segment(features, priors, keys), plain.segment(features.relu(), priors, keys)),
    ):
        assert torch.equal(one, other)
    assert not torch.equal(net.maps(features), plain.maps(features))


def gradients(learner: CamLearner, shown: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gradients of the total loss by the first part of the weight's name."""
    learner.zero_grad()
    learner(shown)[0].backward()
    return {name: weight.grad.clone() for name, weight in learner.network.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("pooling", ["image", "object"])
def test_pooled_objects_train_the_classifier_as_their_images_do(pooling: str) -> None:
    net = network(pooling=pooling)
    net.encoder.requires_grad_(False)
    learner, shown = CamLearner(net, 1.0), batch(pairs=False)
    slow = gradients(learner, shown)
    objects, masks = shown.pop("objects")[:, 0], shown.pop("object_masks")[:, 0]
    features = net.encoder(black_out(objects, masks))
    taps = torch.stack([net.pooled(one, mask) for one, mask in zip(features, masks, strict=True)])
    fast = gradients(learner, {**shown, "pooled": taps})
    assert fast.keys() == slow.keys()
    for name, value in fast.items():
        torch.testing.assert_close(value, slow[name], atol=1e-6, rtol=1e-3)


def test_a_detached_prior_leaves_the_classification_branch_to_its_own_loss() -> None:
    learner, shown = CamLearner(network(), 1.0), batch()
    alone = gradients(learner, batch(pairs=False))
    joint = gradients(learner, shown)
    detached = gradients(learner, {**shown, "detached": torch.tensor(True)})
    branch = [name for name in alone if not name.startswith("encoder")]
    for name in branch:
        torch.testing.assert_close(detached[name], alone[name], atol=1e-6, rtol=1e-4)
    assert not all(torch.allclose(joint[name], alone[name], rtol=1e-3) for name in branch)
    for name, value in joint.items():  # the segmentation branch learns as before
        if name.startswith("decode"):
            torch.testing.assert_close(detached[name], value, atol=1e-6, rtol=1e-4)


def test_the_map_of_another_support_comes_from_the_exchanged_scores() -> None:
    shown = batch()
    own, other = (CamLearner(network(prior=prior), 1.0) for prior in ("map", "other"))
    swapped = {**shown, "images": shown["images"].clone(), "masks": shown["masks"].clone()}
    for name in ("images", "masks"):
        swapped[name][:, 0] = shown[name][[1, 0], 0]
    torch.testing.assert_close(other(shown), own(swapped), equal_nan=True)
    assert other(shown)[1] != own(shown)[1]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([1, 2], [1, 0]), ([1, 1, 2, 3], [2, 2, 3, 0]), ([4, 4], [0, 1]), ([7], [0]), ([], [])],
)
def test_the_next_of_another_class(labels: list[int], expected: list[int]) -> None:
    assert next_of_another_class(labels) == expected


def test_a_classifier_below_the_asked_accuracy_stops_the_training() -> None:
    net = network()
    taps = torch.randn((6, 9, net.encoder.channels + 1), generator=torch.Generator().manual_seed(8))
    named = net.scores_of_pooled(taps).argmax(1)
    shown = {**batch(), "all_pooled": taps, "all_labels": named}
    assert CamLearner(net, 1.0, 0.9)(shown).isfinite().any()
    shown["all_labels"] = torch.where(torch.arange(6) < 3, (named + 1) % 3, named)
    assert CamLearner(net, 1.0, 0.5)(shown).isfinite().any()
    with pytest.raises(InputError, match=r"is right on 0\.500 .* at least 0\.6 \(cam\.classifier_accuracy\): raise"):
        CamLearner(net, 1.0, 0.6)(shown)
