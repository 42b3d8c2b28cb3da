"""The joint loss of SPFL as a module, so that precision and data parallelism wrap one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from novelseg.backbones.contract import Backbone
from novelseg.data.batches import Batch
from novelseg.methods.losses import stack_losses, upsampled_cross_entropy
from novelseg.methods.matching.learner import matching_loss
from novelseg.methods.spfl.decoder import Decoder


class JointLearner(nn.Module):
    """Learner of SPFL: L_seg + Σ γ_l·L_l over the levels whose weight is above zero (A, Eq. 4–5).

    Parameters
    ----------
    encoder
        The encoder to train.
    scale
        Factor of the cosine.
    clusters
        Number of clusters K of each level.
    width
        Number of channels of the decoders.
    gamma
        Weight γ_l of each level.
    """

    def __init__(self, encoder: Backbone, scale: float, clusters: list[int], width: int, gamma: list[float]) -> None:
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
        """Compute the total loss and its parts in the order of :data:`novelseg.methods.losses.LOSSES`."""
        # One pass for episodes and extra images: frozen BatchNorm does not mix images.
        episodes = batch["images"].flatten(0, 1)
        features = self.encoder(torch.cat([episodes, batch["extra"]]))
        episode_features, extra_features = features.split([len(episodes), len(batch["extra"])])
        segmentation = matching_loss(episode_features, batch["masks"], self.scale, self.encoder.grid)
        total, parts = segmentation, {"loss_seg": segmentation}
        for key, decoder in self.decoders.items():
            level = int(key)
            target = batch["labels"][:, level]
            loss = upsampled_cross_entropy(decoder(extra_features).float(), target, self.encoder.grid)
            total = total + self.gamma[level] * loss
            parts[f"loss_pseudo{level + 1}"] = loss
        return stack_losses(total, **parts)
