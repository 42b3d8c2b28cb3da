"""Training of the CAM prior's network (B): masked objects of known classes, pairs of pseudo-novel classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from novelseg.backbones.extraction import FeatureExtractor
from novelseg.core.errors import InputError
from novelseg.core.progress import say
from novelseg.core.random import key_to_seed
from novelseg.data.batches import Batch, EpisodeBatches, Sample
from novelseg.methods.cam.equations import black_out, classification_loss, next_of_another_class
from novelseg.methods.cam.network import UPSCALE, CamNetwork
from novelseg.methods.cam.objects import ObjectView, PooledObjects
from novelseg.methods.losses import stack_losses, upsampled_cross_entropy
from novelseg.ops.draws import to_keys


@dataclass(frozen=True)
class CamSample:
    """Random choices of one iteration.

    Attributes
    ----------
    objects
        Masked objects of known classes, to classify: images to render, or objects whose features are pooled already.
    pairs
        Supports and queries of pseudo-novel classes, to segment; None in the first iterations.
    keys
        Random key of each pair, by which its prior is shuffled in an ablation.
    joint
        Number of this iteration among those with pairs; negative before them.
    """

    objects: Sample | list[ObjectView]
    pairs: Sample | None
    keys: list[int]
    joint: int


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
    pooled
        Pooled features of all objects, used as long as the encoder does not change.
    extract
        Computes features with the network's encoder as it is.
    encoder_trains
        Whether the iterations with pairs train a part of the encoder; then they render objects as images.
    classifier_iterations
        Number of first iterations, in which no pairs are drawn and the encoder does not change.
    detach
        Number of iterations after these in which the prior is a constant to the segmentation loss.
    accuracy
        Whether the learner asks for the accuracy of the classifier after the first iterations.
    seed
        Seed of the shuffled maps.
    """

    def __init__(
        self,
        objects: EpisodeBatches,
        pairs: EpisodeBatches,
        known: list[int],
        pooled: PooledObjects,
        extract: FeatureExtractor,
        *,
        encoder_trains: bool,
        classifier_iterations: int,
        detach: int,
        accuracy: bool,
        seed: int,
    ) -> None:
        self.bank, self._objects, self._pairs = objects.bank, objects, pairs
        self._pooled, self._extract, self._encoder_trains = pooled, extract, encoder_trains
        self._classifier_iterations, self._detach, self._seed = classifier_iterations, detach, seed
        self._accuracy = accuracy
        self._channel = {label: channel for channel, label in enumerate(known)}

    def draw(self, iteration: int, rank: int, world: int) -> CamSample:
        """Choose the objects and pairs of an iteration."""
        joint = iteration - self._classifier_iterations
        seeds = [key_to_seed(self._seed, "shuffle", iteration, n) for n in range(self._pairs.count)]
        pairs = None if joint < 0 else self._pairs.draw(iteration, rank, world)
        objects: Sample | list[ObjectView]
        if joint >= 0 and self._encoder_trains:
            objects = self._objects.draw(iteration, rank, world)
        else:
            images, labels, draws = self._objects.choose(iteration, rank, world)
            mirrored = self._objects.mirrored(draws)[:, 0].tolist()
            objects = list(zip(images, labels, mirrored, strict=True))
        return CamSample(objects, pairs, seeds[rank::world], joint)

    def render(self, sample: CamSample) -> Batch:
        """Render the batch of an iteration.

        Returns
        -------
        dict
            ``objects`` (B, 1, 3, S, S) and ``object_masks`` (B, 1, S, S), or ``pooled`` (B, 9, C + 1); and the channels
            of the objects in the classification branch, ``object_labels`` (B,). With pairs, also ``images``
            (E, 2, 3, S, S) and ``masks`` (E, 2, S, S), support first, ``keys`` (E,), ``donors`` (E,), the pair whose
            support replaces a pair's own in an ablation, and ``detached`` (), on the CPU. In the first iteration with
            pairs, if the accuracy is asked for, ``all_pooled`` (N, 9, C + 1) and ``all_labels`` (N,).
        """
        device, objects = self.bank.device, sample.objects
        batch: dict[str, Tensor]
        if isinstance(objects, Sample):
            rendered = self._objects.render(objects)
            batch = {"objects": rendered["images"], "object_masks": rendered["masks"]}
            labels = objects.labels
        else:
            batch, labels = {"pooled": self._rows(objects)}, [label for _, label, _ in objects]
        batch["object_labels"] = self._channels(labels)
        if sample.pairs is not None:
            donors = next_of_another_class(sample.pairs.labels[1::2])
            batch |= {**self._pairs.render(sample.pairs), "keys": to_keys(sample.keys, device)}
            batch["donors"] = torch.tensor(donors, device=device)
            batch["detached"] = torch.tensor(sample.joint < self._detach)
        if self._accuracy and sample.joint == 0:
            views = [view for view in self._pooled.views if not view[2]]
            batch |= {"all_pooled": self._rows(views), "all_labels": self._channels([label for _, label, _ in views])}
        return batch

    def _rows(self, views: list[ObjectView]) -> Tensor:
        """Return the pooled features of objects, (B, 9, C + 1), on the device."""
        self._pooled.compute(self._extract, "objects: features")
        return self._pooled.rows(views).to(self.bank.device, non_blocking=True)

    def _channels(self, labels: list[int]) -> Tensor:
        channels = torch.tensor([self._channel[label] for label in labels])
        return channels.to(self.bank.device, non_blocking=True)


class CamLearner(nn.Module):
    """Learner of both branches: classification of masked objects, and segmentation by the prior.

    Parameters
    ----------
    network
        The network to train.
    class_weight
        Weight of the classification loss in the total.
    accuracy
        Share of the training objects that the classifier must name correctly before pairs are segmented.
    """

    def __init__(self, network: CamNetwork, class_weight: float, accuracy: float = 0.0) -> None:
        super().__init__()
        self.network, self.class_weight, self.accuracy = network, class_weight, accuracy

    def _check_accuracy(self, taps: Tensor, labels: Tensor) -> None:
        with torch.no_grad():
            hits = self.network.scores_of_pooled(taps.float()).argmax(1) == labels
        correct = float(hits.float().mean())
        say(f"the classifier is right on {correct:.3f} of {len(labels)} training objects")
        if correct < self.accuracy:
            raise InputError(
                f"the classifier of the CAM prior is right on {correct:.3f} of its training objects; expected at "
                f"least {self.accuracy:g} (cam.classifier_accuracy): raise cam.classifier_iterations or "
                "cam.learning_rate"
            )

    def forward(self, batch: Batch) -> Tensor:
        """Compute the total loss and its parts in the order of :data:`novelseg.methods.losses.LOSSES`.

        Without pairs, the total is the classification loss alone, unweighted.
        """
        network, labels = self.network, batch["object_labels"]
        inputs = []
        if "objects" in batch:
            inputs += [black_out(batch["objects"][:, 0], batch["object_masks"][:, 0])]
        if "images" in batch:
            inputs += [black_out(batch["images"][:, 0], batch["masks"][:, 0]), batch["images"][:, 1]]
        # One pass for all inputs: frozen BatchNorm does not mix images.
        parts: tuple[Tensor, ...] = ()
        if inputs:
            parts = network.encoder(torch.cat(inputs)).float().split([len(images) for images in inputs])
        with torch.autocast(labels.device.type, enabled=False):  # full precision for both branches, as at test time
            if "all_pooled" in batch:
                self._check_accuracy(batch["all_pooled"], batch["all_labels"])
            if "pooled" in batch:
                # A bf16 training hands every input over in bf16, as it does with images.
                scores, pair = network.scores_of_pooled(batch["pooled"].float()), parts
            else:
                scores, pair = network.scores(parts[0], batch["object_masks"][:, 0]), parts[1:]
            classification = classification_loss(scores, labels)
            if not pair:
                return stack_losses(classification, loss_class=classification)
            support, query = pair
            scores = network.scores(support, batch["masks"][:, 0])
            if network.prior == "other":
                scores = scores[batch["donors"]]
            priors = network.priors(query, scores)
            if bool(batch["detached"]):
                priors = priors.detach()
            logits = network.segment(query, priors, batch["keys"])
            segmentation = upsampled_cross_entropy(logits, batch["masks"][:, 1], network.encoder.grid.finer(UPSCALE))
        total = segmentation + self.class_weight * classification
        return stack_losses(total, loss_seg=segmentation, loss_class=classification)
