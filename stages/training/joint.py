"""What a joint iteration sees: episodes, and augmented images with pseudo labels; keyed by (seed, iteration)."""

from __future__ import annotations

import numpy as np
import torch

from stages.core.random import numpy_generator, torch_generator
from stages.ops import augment
from stages.ops.geometry import gather, windows
from stages.sections.train import Params
from stages.training.bank import Bank
from stages.training.batches import Batch, Drawn, EpisodeBatches

SCALES = (0.5, 2.0)  # of the longer side of a strongly augmented image, relative to the training size


class PseudoLabelBatches:
    """Training images with strong augmentation and their pseudo labels (A7), maps 1–3 of the bank."""

    def __init__(self, bank: Bank, images: list[int], params: Params, size: int) -> None:
        self.bank, self._images, self._size = bank, images, size
        self._count, self._seed = params.extra_images, params.seed

    def draw(self, iteration: int, rank: int, world: int) -> Drawn:
        """Images number rank, rank + world, … of an iteration."""
        chosen, draws = [], []
        for number in range(rank, self._count, world):
            rng = numpy_generator(self._seed, "extra", iteration, number)
            chosen.append(self._images[int(rng.integers(len(self._images)))])
            draws.append(rng.random(5))
        strong = torch.rand((self._count, augment.DRAWS), generator=torch_generator(self._seed, "strong", iteration))
        drawn = np.concatenate([np.stack(draws), strong[rank::world].double().numpy()], axis=1)
        return Drawn(*self.bank.take(chosen), drawn, [])

    def show(self, drawn: Drawn) -> Batch:
        """Extra images (B, 3, S, S) and labels (B, 3, S, S)."""
        draws = torch.from_numpy(drawn.draws).to(self.bank.device, non_blocking=True)
        views = windows(drawn.pictures, drawn.places, draws[:, 0] < 0.5, draws[:, 1:5], self._size, scales=SCALES)
        images, maps = gather(drawn.pictures, views, self._size)
        extra, labels = augment.strong(images, maps[:, 1:], draws[:, 5:])
        return {"extra": extra, "labels": labels}


class JointBatches:
    """Both together."""

    def __init__(self, episodes: EpisodeBatches, extra: PseudoLabelBatches) -> None:
        self.bank, self._episodes, self._extra = episodes.bank, episodes, extra

    def draw(self, iteration: int, rank: int, world: int) -> tuple[Drawn, Drawn]:
        """Choose the episodes and the extra images of an iteration."""
        return self._episodes.draw(iteration, rank, world), self._extra.draw(iteration, rank, world)

    def show(self, drawn: tuple[Drawn, Drawn]) -> Batch:
        """Episodes and strongly augmented images."""
        return {**self._episodes.show(drawn[0]), **self._extra.show(drawn[1])}
