"""The losses of joint training and of the CAM prior: what they add up to, and that learning lowers each of them."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novelseg.backbones.resnet import ResNetBackbone
from novelseg.core.labels import VOID
from novelseg.core.random import new_layers
from novelseg.methods.cam.network import CamNetwork
from novelseg.methods.cam.training import CamLearner
from novelseg.methods.losses import LOSSES, upsampled_cross_entropy
from novelseg.methods.spfl.learner import JointLearner
from novelseg.ops.pooling import EPSILON
from tests.pictures import disc

WEIGHTS = Path(__file__).parent.parent / "weights" / "scenes-resnet18-w16.safetensors"
SCALE = 10.0
CLUSTERS = [4, 3, 2]
GAMMA = [0.3, 1.1, 2.7]  # distinct, so that a level with another's weight shows
COLOURS = [(230, 40, 30), (40, 200, 60), (40, 70, 230), (220, 200, 40)]
LEVELS = ["loss_pseudo1", "loss_pseudo2", "loss_pseudo3"]


def encoder() -> ResNetBackbone:
    """The pretrained network of the built-in data."""
    net = ResNetBackbone(arch="resnet18", stem="torchvision", width=16)
    net.load_pretrained(WEIGHTS)
    return net


def joint_learner(gamma: list[float]) -> JointLearner:
    """All three levels on the pretrained encoder."""
    with new_layers(3, "decoders"):
        return JointLearner(encoder(), SCALE, CLUSTERS, 8, gamma).train()


def discs(*numbers: int) -> tuple[Tensor, Tensor]:
    """Discs, those of equal number modulo 4 of one colour: (B, 3, 64, 64), and masks (B, 64, 64) with a void corner."""
    pairs = [disc(middle=(24 + 4 * (n % 3), 28 + 5 * (n % 4)), colour=COLOURS[n % 4]) for n in numbers]
    images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in pairs]).float() / 255
    masks = torch.stack([torch.from_numpy(mask) for _, mask in pairs])
    masks[:, :6, :6] = VOID
    return images, masks


def joint_batch() -> dict[str, Tensor]:
    """Two pairs of discs of one colour each, and three more discs whose halves have pseudo labels of their own."""
    images, masks = discs(0, 4, 1, 5)
    extra, objects = discs(2, 3, 6)
    below = (torch.arange(64) > 30)[None, :, None].to(torch.uint8)
    levels = [
        torch.where(objects == VOID, VOID, torch.where(objects == 1, below * (k - 1), k + below)) for k in CLUSTERS
    ]
    return {
        "images": images.unflatten(0, (2, 2)),
        "masks": masks.unflatten(0, (2, 2)),
        "extra": extra,
        "labels": torch.stack(levels, 1),
    }


def plain_losses(learner: JointLearner, batch: dict[str, Tensor]) -> list[Tensor]:
    """L_seg by upsampled features and cosines, and the loss of each level from its own decoder."""
    size = (64, 64)
    supports, queries = (learner.encoder(batch["images"][:, n]) for n in (0, 1))
    full = F.interpolate(supports, size=size, mode="bilinear", align_corners=True)
    cosines = []
    for side in (0, 1):
        here = (batch["masks"][:, 0] == side).float()[:, None]
        prototypes = (full * here).sum((2, 3)) / (here.sum((2, 3)) + EPSILON)
        cosines.append(F.cosine_similarity(queries, prototypes[:, :, None, None], dim=1))
    logits = F.interpolate(SCALE * torch.stack(cosines, 1), size=size, mode="bilinear", align_corners=True)
    losses = [F.cross_entropy(logits, batch["masks"][:, 1].long(), ignore_index=VOID)]
    features = learner.encoder(batch["extra"])
    for level in range(3):
        scores = learner.decoders[str(level)](features)
        assert scores.shape[1] == 2 * CLUSTERS[level]
        losses.append(upsampled_cross_entropy(scores, batch["labels"][:, level], learner.encoder.grid))
    return losses


def weighted(losses: list[Tensor], gamma: tuple[float, ...] | list[float]) -> Tensor:
    """L_seg + Σ γ_l·L_l."""
    total = losses[0]
    for weight, loss in zip(gamma, losses[1:], strict=True):
        total = total + weight * loss
    return total


def test_the_joint_loss_is_the_weighted_sum_of_its_parts() -> None:
    learner, batch = joint_learner(GAMMA), joint_batch()
    total, *parts = learner(batch).tolist()
    losses = [loss.detach() for loss in plain_losses(learner, batch)]
    logged = dict(zip(LOSSES, parts, strict=True))
    assert [logged[name] for name in ("loss_seg", *LEVELS)] == pytest.approx([float(loss) for loss in losses], rel=1e-4)
    assert total == pytest.approx(float(weighted(losses, GAMMA)), rel=1e-4)
    for other in permutations(GAMMA):
        if list(other) != GAMMA:  # weights on wrong levels would be seen
            assert total != pytest.approx(float(weighted(losses, other)), rel=0.01)


def test_every_part_of_the_joint_loss_is_learned_from_with_its_weight() -> None:
    learner, batch = joint_learner(GAMMA), joint_batch()
    weights = [weight for weight in learner.parameters() if weight.requires_grad]
    found = torch.autograd.grad(learner(batch)[0], weights)
    expected = torch.autograd.grad(weighted(plain_losses(learner, batch), GAMMA), weights)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def losses_after(learner: nn.Module, batch: dict[str, Tensor], steps: int, rate: float) -> list[dict[str, float]]:
    """Losses before each of a few steps of SGD on one batch, and after the last."""
    sgd = torch.optim.SGD([weight for weight in learner.parameters() if weight.requires_grad], rate)
    history = []
    for _ in range(steps):
        losses = learner(batch)
        history.append(dict(zip(("loss", *LOSSES), losses.tolist(), strict=True)))
        sgd.zero_grad()
        losses[0].backward()
        sgd.step()
    return [*history, dict(zip(("loss", *LOSSES), learner(batch).tolist(), strict=True))]


def test_learning_lowers_every_part_of_the_joint_loss() -> None:
    first, *_, last = losses_after(joint_learner([0.5, 1.0, 1.0]), joint_batch(), 20, 0.05)
    for name in ("loss", "loss_seg", *LEVELS):
        assert last[name] < 0.9 * first[name], (name, first, last)


def test_learning_lowers_both_losses_of_the_cam_prior() -> None:
    with new_layers(3, "branches"):
        shape: dict[str, Any] = {"wiring": "sum", "weighting": "scores", "prior": "map"}
        network = CamNetwork(encoder(), classes=3, width=8, pooling="image", relu=False, **shape)
    objects, object_masks = discs(0, 1, 2)
    images, masks = discs(0, 4, 1, 5)
    batch = {
        "objects": objects[:, None],
        "object_masks": object_masks[:, None],
        "object_labels": torch.arange(3),
        "images": images.unflatten(0, (2, 2)),
        "masks": masks.unflatten(0, (2, 2)),
        "keys": torch.tensor([1, 2], dtype=torch.int32),
        "donors": torch.tensor([1, 0]),
        "detached": torch.tensor(False),
    }
    first, *_, last = losses_after(CamLearner(network, 1.0).train(), batch, 40, 0.05)
    for name in ("loss", "loss_seg", "loss_class"):
        assert last[name] < 0.9 * first[name], (name, first, last)
