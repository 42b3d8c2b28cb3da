"""Training of the CAM prior's network (B): masked objects of known classes, pairs of pseudo-novel classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from novelseg.core.random import key_to_seed
from novelseg.data.batches import Batch, EpisodeBatches, Sample
from novelseg.methods.cam.equations import black_out, classification_loss
from novelseg.methods.cam.network import UPSCALE, CamNetwork
from novelseg.methods.losses import stack_losses, upsampled_cross_entropy
from novelseg.ops.draws import to_keys


@dataclass(frozen=True)
class CamSample:
    """Random choices of one iteration.

    Attributes
    ----------
    objects
        Masked objects of known classes, to classify.
    pairs
        Supports and queries of pseudo-novel classes, to segment; None in the first iterations.
    keys
        Random key of each pair, by which its prior is shuffled in an ablation.
    """

    objects: Sample
    pairs: Sample | None
    keys: list[int]


class CamBatches:
    """Batches of objects to classify and, after the first iterations, of pairs to segment.

    Parameters
    ----------
    objects
        Episodes of the known classes without supports.
    pairs
        Episodes of the pseudo-novel classes with one support.
    known
        Labels of the known classes, in the order of the classification branch's channels.
    classifier_iterations
        Number of first iterations in which no pairs are drawn.
    seed
        Seed of the shuffled maps.
    """

    def __init__(
        self,
        objects: EpisodeBatches,
        pairs: EpisodeBatches,
        known: list[int],
        *,
        classifier_iterations: int,
        seed: int,
    ) -> None:
        self.bank, self._objects, self._pairs = objects.bank, objects, pairs
        self._classifier_iterations, self._seed = classifier_iterations, seed
        self._channel = {label: channel for channel, label in enumerate(known)}

    def draw(self, iteration: int, rank: int, world: int) -> CamSample:
        """Choose the objects and pairs of an iteration."""
        first = iteration < self._classifier_iterations
        seeds = [key_to_seed(self._seed, "shuffle", iteration, n) for n in range(self._pairs.count)]
        pairs = None if first else self._pairs.draw(iteration, rank, world)
        return CamSample(self._objects.draw(iteration, rank, world), pairs, seeds[rank::world])

    def render(self, sample: CamSample) -> Batch:
        """Render the batch of an iteration.

        Returns
        -------
        dict
            ``objects`` (B, 1, 3, S, S), ``object_masks`` (B, 1, S, S), and their channels in the classification branch,
            ``object_labels`` (B,). With pairs, also ``images`` (E, 2, 3, S, S) and ``masks`` (E, 2, S, S), support
            first, and ``keys`` (E,).
        """
        objects, device = self._objects.render(sample.objects), self.bank.device
        channels = torch.tensor([self._channel[label] for label in sample.objects.labels])
        batch: dict[str, Tensor] = {
            "objects": objects["images"],
            "object_masks": objects["masks"],
            "object_labels": channels.to(device, non_blocking=True),
        }
        if sample.pairs is not None:
            batch |= {**self._pairs.render(sample.pairs), "keys": to_keys(sample.keys, device)}
        return batch


class CamLearner(nn.Module):
    """Learner of both branches: classification of masked objects, and segmentation by the prior.

    Parameters
    ----------
    network
        The network to train.
    class_weight
        Weight of the classification loss in the total.
    """

    def __init__(self, network: CamNetwork, class_weight: float) -> None:
        super().__init__()
        self.network, self.class_weight = network, class_weight

    def forward(self, batch: Batch) -> Tensor:
        """Compute the total loss and its parts in the order of :data:`novelseg.methods.losses.LOSSES`.

        Without pairs, the total is the classification loss alone, unweighted.
        """
        network = self.network
        inputs = [black_out(batch["objects"][:, 0], batch["object_masks"][:, 0])]
        if "images" in batch:
            inputs += [black_out(batch["images"][:, 0], batch["masks"][:, 0]), batch["images"][:, 1]]
        # One pass for all inputs: frozen BatchNorm does not mix images.
        features = network.encoder(torch.cat(inputs)).float()
        objects, *pair = features.split([len(images) for images in inputs])
        with torch.autocast(features.device.type, enabled=False):  # full precision for both branches, as at test time
            classification = classification_loss(network.scores(objects), batch["object_labels"])
            if not pair:
                return stack_losses(classification, loss_class=classification)
            support, query = pair
            priors = network.priors(query, network.scores(support))
            logits = network.segment(query, priors, batch["keys"])
            segmentation = upsampled_cross_entropy(logits, batch["masks"][:, 1], network.encoder.grid.finer(UPSCALE))
        total = segmentation + self.class_weight * classification
        return stack_losses(total, loss_seg=segmentation, loss_class=classification)
