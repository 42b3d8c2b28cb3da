"""Losses of the trainings as modules, so that precision and data parallelism wrap one forward."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.models.decoder import Decoder
from stages.models.encoder import Encoder
from stages.ops.losses import upsampled_cross_entropy
from stages.ops.matching import match, support_prototypes
from stages.training.batches import Batch

NAMES = ("loss_seg", "loss_pseudo1", "loss_pseudo2", "loss_pseudo3", "loss_class")


def told(total: Tensor, **parts: Tensor) -> Tensor:
    """The whole loss, then its parts in the order of :data:`NAMES`; NaN where there is none."""
    nothing = total.new_tensor(torch.nan)
    return torch.stack([total, *(parts.get(name, nothing).detach() for name in NAMES)])


def matching_loss(features: Tensor, masks: Tensor, scale: float) -> Tensor:
    """Loss of support–query matching (A, Eq. 6).

    Parameters
    ----------
    features : (E·(K + 1), C, h, w)
        Of the images of E episodes: supports first, the query last.
    masks : (E, K + 1, H, W) uint8
        1 foreground, 0 background, 255 neither.
    scale
        Factor of the cosine.
    """
    features = features.float().unflatten(0, masks.shape[:2])
    with torch.autocast(masks.device.type, enabled=False):  # matching keeps full precision, as at test time
        prototypes = support_prototypes(features[:, :-1], masks[:, :-1])
        return upsampled_cross_entropy(match(features[:, -1], prototypes, scale), masks[:, -1])


class MatchingLearner(nn.Module):
    """The Baseline: matching alone."""

    def __init__(self, encoder: Encoder, scale: float) -> None:
        super().__init__()
        self.encoder, self.scale = encoder, scale

    def forward(self, batch: Batch) -> Tensor:
        """Whole loss, then the parts in the order of :data:`NAMES`."""
        loss = matching_loss(self.encoder(batch["images"].flatten(0, 1)), batch["masks"], self.scale)
        return told(loss, loss_seg=loss)


class JointLearner(nn.Module):
    """SPFL: matching and pseudo labels of each level with a weight above zero (A, Eq. 4–5)."""

    def __init__(self, encoder: Encoder, scale: float, clusters: list[int], width: int, gamma: list[float]) -> None:
        super().__init__()
        self.encoder, self.scale, self.gamma = encoder, scale, gamma
        self.decoders = nn.ModuleDict(
            {
                str(level): Decoder(channels=encoder.channels, width=width, classes=2 * k)
                for level, (k, weight) in enumerate(zip(clusters, gamma, strict=True))
                if weight > 0
            }
        )

    def forward(self, batch: Batch) -> Tensor:
        """Whole loss, then the parts in the order of :data:`NAMES`."""
        # One pass for both: frozen BatchNorm does not mix images.
        episodes = batch["images"].flatten(0, 1)
        both = self.encoder(torch.cat([episodes, batch["extra"]]))
        matched, features = both.split([len(episodes), len(batch["extra"])])
        segmentation = matching_loss(matched, batch["masks"], self.scale)
        total, parts = segmentation, {"loss_seg": segmentation}
        for key, decoder in self.decoders.items():
            level = int(key)
            target = batch["labels"][:, level]
            loss = upsampled_cross_entropy(decoder(features).float(), target)
            total = total + self.gamma[level] * loss
            parts[f"loss_pseudo{level + 1}"] = loss
        return told(total, **parts)
