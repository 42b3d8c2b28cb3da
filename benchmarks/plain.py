"""Straightforward reference implementations in float32, with which the fast ones are compared."""

from __future__ import annotations

import io

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from novelseg.backbones.contract import Backbone
from novelseg.core.labels import VOID
from novelseg.methods.spfl import augment
from novelseg.methods.spfl.learner import JointLearner
from novelseg.methods.srofb.classifier import Task
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.ops.pooling import EPSILON


def up(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample maps (B, C, h, w) to a size (H, W), bilinearly with aligned corners."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def pool(features: Tensor, labels: NDArray[np.int32], count: int) -> Tensor:
    """Pool features (C, h, w), upsampled first, over ``count`` regions (H, W); (count, C)."""
    full = up(features[None], (labels.shape[0], labels.shape[1]))[0].flatten(1)
    masks = F.one_hot(torch.from_numpy(labels.astype(np.int64)).flatten().to(features.device), count).T.float()
    return (masks @ full.T) / (masks.sum(1, keepdim=True) + EPSILON)


def pseudo_labels(features: Tensor, mask: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """Label the pixels of a mask (H, W) with the nearest prototype of their side; features (C, h, w) are upsampled."""
    full = F.normalize(up(features[None], (mask.shape[0], mask.shape[1]))[0].flatten(1), dim=0)
    best = [(F.normalize(side, dim=1) @ full).argmax(0).view(mask.shape) for side in (foreground, background)]
    labels = torch.where(mask == 0, best[1] + len(foreground), best[0])
    return torch.where(mask == VOID, VOID, labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of logits (B, K, h, w) upsampled to the size of the labels (B, H, W)."""
    size = (labels.shape[-2], labels.shape[-1])
    return F.cross_entropy(up(logits, size), labels.long(), ignore_index=VOID)


def prototypes(features: Tensor, masks: Tensor) -> Tensor:
    """Pool features (B, C, h, w), upsampled first, over background and foreground of masks (B, H, W); (B, 2, C)."""
    full = up(features, (masks.shape[-2], masks.shape[-1]))
    sides = [(masks == side).float()[:, None] for side in (0, 1)]
    return torch.stack([(full * side).sum((2, 3)) / (side.sum((2, 3)) + EPSILON) for side in sides], 1)


def match(query: Tensor, pairs: Tensor) -> Tensor:
    """Compute the scaled cosine of query cells (B, C, h, w) and prototypes (B, 2, C); (B, 2, h, w)."""
    return 10 * torch.stack([F.cosine_similarity(query, pairs[:, side, :, None, None], dim=1) for side in (0, 1)], 1)


class Training:
    """Training step that decodes and augments images on the CPU and runs each part of the batch separately."""

    def __init__(
        self,
        learner: nn.Module,
        encoded: list[bytes],
        maps: NDArray[np.uint8],
        side: int,
        draws: Tensor,
        strengths: augment.Augmentation,
        device: torch.device,
    ) -> None:
        self._net = learner.to(device).to(memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]
        self._encoded, self._maps, self._side, self._device = encoded, maps, side, device
        self._draws, self._strengths = draws, strengths
        self._sgd = torch.optim.SGD([w for w in learner.parameters() if w.requires_grad], 1e-3, momentum=0.9)

    def _images(self, encoded: list[bytes]) -> tuple[Tensor, Tensor]:
        """Decode images (B, 3, S, S) and resize the label maps (B, levels, S, S) with them."""
        size = (self._side, self._side)
        images, labels = [], []
        for data in encoded:
            with Image.open(io.BytesIO(data)) as image:
                images.append(cv2.resize(np.array(image), size))
            labels.append(np.stack([cv2.resize(part, size, interpolation=cv2.INTER_NEAREST) for part in self._maps]))
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(np.stack(labels))

    def step(self) -> None:
        """Run the forward and backward pass and update the weights."""
        net = self._net
        encoder = net.encoder
        assert isinstance(encoder, Backbone)
        self._sgd.zero_grad()
        images, maps = (part.to(self._device) for part in self._images(self._encoded[:8]))
        supports, queries = encoder(images[0::2]), encoder(images[1::2])
        logits = match(queries, prototypes(supports, maps[0::2, 0]))
        loss = cross_entropy(logits, maps[1::2, 0])
        if isinstance(net, JointLearner):
            extra, labels = augment.strong(*self._images(self._encoded[8:]), self._draws[8:], self._strengths)
            features = encoder(extra.to(self._device))
            for key, decoder in net.decoders.items():
                level = int(key)
                loss = loss + net.gamma[level] * cross_entropy(decoder(features), labels[:, level + 1].to(self._device))
        loss.backward()
        self._sgd.step()


@torch.inference_mode()
def features(net: Backbone, image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Compute the features (1, C, h, w) of one image (H, W, 3)."""
    maps: Tensor = net.to(device)(torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255)
    return maps


@torch.inference_mode()
def episode(net: Backbone, images: list[NDArray[np.uint8]], mask: NDArray[np.uint8], device: torch.device) -> list[int]:
    """Match one episode from its images, supports first, and count the pixels of intersection and union per side."""
    *supports, query = [features(net, image, device) for image in images]
    truth = torch.from_numpy(mask).to(device)
    pairs = torch.stack([prototypes(support, truth[None]) for support in supports]).mean(0)
    prediction = up(match(query, pairs), (mask.shape[0], mask.shape[1]))[0].argmax(0)
    counts = []
    for side in (1, 0):
        predicted, true = (prediction == side) & (truth != VOID), truth == side
        counts += [int((predicted & true).sum()), int((predicted | true).sum())]
    return counts


def classifier(task: Task, steps: int, params: SrofbSettings) -> Tensor:
    """Train the classifier of one episode with PyTorch's layers and optimiser, and classify the query cells."""
    device = task.query.device
    net = nn.Sequential(
        nn.Linear(task.query.shape[0], params.hidden),
        nn.ReLU(),
        nn.Dropout(params.dropout),
        nn.Linear(params.hidden, 2),
    ).to(device)
    sgd = torch.optim.SGD(net.parameters(), params.learning_rate)
    balance = 1 / task.cells.labels.bincount(minlength=2).float()
    for _ in range(steps):
        sgd.zero_grad()
        F.cross_entropy(net(task.cells.features), task.cells.labels, weight=balance).backward()
        sgd.step()
    net.eval()
    with torch.no_grad():
        labels: Tensor = net(task.query.flatten(1).T).argmax(1)
    return labels


def kmeans(vectors: NDArray[np.float32], k: int, iterations: int) -> NDArray[np.float32]:
    """Run Lloyd's k-means iterations in PyTorch on vectors (N, C); returns the centres (k, C)."""
    points = torch.from_numpy(vectors)
    centres = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:k]]
    for _ in range(iterations):
        nearest = torch.cdist(points, centres).argmin(1)
        counts = torch.bincount(nearest, minlength=k).clamp(min=1)
        centres = torch.zeros_like(centres).index_add_(0, nearest, points) / counts[:, None]
    return centres.numpy()
