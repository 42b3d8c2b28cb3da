"""The Baseline's loss as a module, so that precision and data parallelism wrap one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from novelseg.backbones.contract import Backbone
from novelseg.backbones.grid import Grid
from novelseg.data.batches import Batch
from novelseg.methods.losses import stack_losses, upsampled_cross_entropy
from novelseg.methods.matching.prototypes import match, support_prototypes


def matching_loss(features: Tensor, masks: Tensor, scale: float, grid: Grid) -> Tensor:
    """Compute the loss of support–query matching (A, Eq. 6).

    Parameters
    ----------
    features : (E·(K + 1), C, h, w)
        Features of the images of E episodes: supports first, the query last.
    masks : (E, K + 1, H, W) uint8
        1 foreground, 0 background, 255 void.
    scale
        Factor of the cosine.
    grid
        Positions of the cells of the features.
    """
    features = features.float().unflatten(0, masks.shape[:2])
    with torch.autocast(masks.device.type, enabled=False):  # matching uses full precision, as at test time
        prototypes = support_prototypes(features[:, :-1], masks[:, :-1], grid)
        return upsampled_cross_entropy(match(features[:, -1], prototypes, scale), masks[:, -1], grid)


class MatchingLearner(nn.Module):
    """Learner of the Baseline: the matching loss alone.

    Parameters
    ----------
    encoder
        The encoder to train.
    scale
        Factor of the cosine.
    """

    def __init__(self, encoder: Backbone, scale: float) -> None:
        super().__init__()
        self.encoder, self.scale = encoder, scale

    def forward(self, batch: Batch) -> Tensor:
        """Compute the total loss and its parts in the order of :data:`novelseg.methods.losses.LOSSES`."""
        features = self.encoder(batch["images"].flatten(0, 1))
        loss = matching_loss(features, batch["masks"], self.scale, self.encoder.grid)
        return stack_losses(loss, loss_seg=loss)
