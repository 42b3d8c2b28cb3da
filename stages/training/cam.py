"""What an iteration of the CAM prior's training sees (B): masked objects of known classes, pairs of the unseen ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.core.random import key_to_seed
from stages.ops.draws import to_keys
from stages.sections.cam import Params
from stages.training.batches import Batch, Drawn, EpisodeBatches


@dataclass(frozen=True)
class DrawnBoth:
    """Objects, and pairs once the classifier's first iterations are over, with the keys of shuffled maps."""

    objects: Drawn
    pairs: Drawn | None
    keys: list[int]


class CamBatches:
    """Objects to classify; after the first iterations also pairs to segment.

    Parameters
    ----------
    objects, pairs
        Episodes without supports of the ``known`` classes, and with one of the classes that play unseen.
    known
        Labels that the classification branch knows, in the order of its channels.
    params
        Section of the stage.
    """

    def __init__(self, objects: EpisodeBatches, pairs: EpisodeBatches, known: list[int], params: Params) -> None:
        self.bank, self._objects, self._pairs, self._params = objects.bank, objects, pairs, params
        self._channel = {label: channel for channel, label in enumerate(known)}

    def draw(self, iteration: int, rank: int, world: int) -> DrawnBoth:
        """Choose the objects and pairs of an iteration."""
        first = iteration < self._params.classifier_iterations
        seeds = [key_to_seed(self._params.seed, "shuffle", iteration, n) for n in range(self._params.episodes)]
        pairs = None if first else self._pairs.draw(iteration, rank, world)
        return DrawnBoth(self._objects.draw(iteration, rank, world), pairs, seeds[rank::world])

    def show(self, drawn: DrawnBoth) -> Batch:
        """``objects`` (B, 1, 3, S, S), their masks and channels; ``images``, ``masks`` of pairs, supports first."""
        objects, device = self._objects.show(drawn.objects), self.bank.device
        channels = torch.tensor([self._channel[label] for label in drawn.objects.labels])
        batch: dict[str, Tensor] = {
            "objects": objects["images"],
            "object_masks": objects["masks"],
            "object_labels": channels.to(device, non_blocking=True),
        }
        if drawn.pairs is not None:
            batch |= {**self._pairs.show(drawn.pairs), "keys": to_keys(drawn.keys, device)}
        return batch
