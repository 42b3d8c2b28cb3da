"""Logits of pictures at their own size, from a predictor of pictures at the size that the network sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from novelseg.backbones.grid import Grid
from novelseg.inference.edges import snap_to_edges
from novelseg.inference.inputs import Photo, resize, rgb_of
from novelseg.inference.predictors import Prediction, Predictor
from novelseg.inference.tiles import Blend, Window, batches, windows
from novelseg.methods.contract import require_finite

ABSENT = -1.0  # largest logit that a window which does not mark the class adds where windows overlap
TILED_RANGE = 2.0  # logits of presence that a view may lie below the best one (docs/results/tiles.md)
TILED_CELLS = 1000  # longest side of the logits from which the expected IoU of a tiled picture is computed


@dataclass(frozen=True)
class PicturePredictor:
    """A fitted predictor for pictures of any size.

    Attributes
    ----------
    predictor
        The predictor.
    name
        Name of its method, for messages.
    grid
        Positions of the encoder's cells.
    batch
        Number of pictures that the encoder sees at a time.
    side
        Longest side at which the network sees a picture, px.
    tile, edges, presence
        See :class:`novelseg.inference.segmenter.Segmenter`.
    """

    predictor: Predictor
    name: str
    grid: Grid
    batch: int
    side: int
    tile: bool
    edges: bool
    presence: float

    def each(self, photos: Iterator[Photo], *, least: float | None) -> Iterator[tuple[NDArray[np.float32], Prediction]]:
        """Yield the logits of pictures at their size, (K, H, W), and the predictions that they are enlarged from.

        Only a few pictures are in memory.

        Parameters
        ----------
        photos
            The pictures.
        least
            Smallest logit of a marked pixel, for logits from which masks are made: their borders follow those of the
            picture, and with ``tile`` they are put together as :meth:`_marked_views` says. None: logits as the method
            gives them, those of overlapping windows averaged.
        """
        number = 0
        while chunk := list(islice(photos, 1 if self.tile else self.batch)):
            pictures = [rgb_of(photo) for photo in chunk]
            if self._needs_windows(pictures[0]):
                yield self._tiled(pictures[0], number, least)
                number += 1
                continue
            predictions = self.predictor([resize(picture, self.side) for picture in pictures])
            for picture, one in zip(pictures, predictions, strict=True):
                yield self._enlarged(one, picture, number, for_masks=least is not None), one
                number += 1

    def predictions(self, picture: NDArray[np.uint8]) -> Iterator[Prediction]:
        """Yield the predictions of a picture, or of its windows."""
        if not self._needs_windows(picture):
            yield from self.predictor([resize(picture, self.side)])
            return
        for window in self._windows(picture):
            yield from self.predictor([picture[window.slices]])

    def _needs_windows(self, picture: NDArray[np.uint8]) -> bool:
        return self.tile and max(picture.shape[:2]) > self.side

    def _windows(self, picture: NDArray[np.uint8]) -> list[Window]:
        return windows(picture.shape[0], picture.shape[1], self.side)

    def _enlarged(
        self, prediction: Prediction, picture: NDArray[np.uint8], number: int, *, for_masks: bool
    ) -> NDArray[np.float32]:
        """Return logits at the size of their picture, (K, H, W)."""
        require_finite(prediction.logits[None], [f"picture {number} with '{self.name}'"])
        logits = prediction.logits.float()
        if for_masks and self.edges:
            large = snap_to_edges(logits, picture, self.side, self.grid)
        else:
            large = self.grid.upsample(logits[None], (picture.shape[0], picture.shape[1]))[0]
        enlarged: NDArray[np.float32] = large.cpu().numpy()
        return enlarged

    def _tiled(
        self, picture: NDArray[np.uint8], number: int, least: float | None
    ) -> tuple[NDArray[np.float32], Prediction]:
        """Predict a picture in windows of its own resolution and, for masks, also reduced as a whole.

        A class counts as present if it does in one of these views.
        """
        height, width = picture.shape[:2]
        places = self._windows(picture)
        predictions = [
            one
            for some in batches(places, self.batch)
            for one in self.predictor([picture[each.slices] for each in some])
        ]
        predictions = self.predictor.compare(predictions)
        # The whole is not compared with the windows, which would lift its presence too far (docs/results/tiles.md).
        joined = least is not None and predictions[0].presence is not None
        views = [*predictions, *self.predictor([resize(picture, self.side)])] if joined else predictions
        marked = self._marked_views(views)
        blend = Blend(len(predictions[0].logits), height, width)
        for window, one, classes in zip(places, predictions, marked[: len(places)], strict=True):
            logits = self._enlarged(one, picture[window.slices], number, for_masks=least is not None)
            if least is not None:
                logits[~classes] = np.minimum(logits[~classes], min(ABSENT, least - 1))
            blend.add(window, logits)
        large = blend.mean()
        del blend
        if joined:
            for label in np.flatnonzero(marked[-1]).tolist():
                self._join_whole(large[label], views[-1].logits[label], picture, number)
        scores = [one.presence for one in views if one.presence is not None]
        factor = -(-max(height, width) // TILED_CELLS)
        cells = F.avg_pool2d(torch.from_numpy(large)[None], factor, ceil_mode=True, count_include_pad=False)[0]
        return large, Prediction(cells, torch.stack(scores).amax(0) if scores else None)

    def _join_whole(self, large: NDArray[np.float32], logits: Tensor, picture: NDArray[np.uint8], number: int) -> None:
        """Raise the logits of a class in windows, (H, W), to those in the whole picture, (h, w), where they are larger.

        Classes are joined one by one to save memory.
        """
        whole = self._enlarged(Prediction(logits[None]), picture, number, for_masks=True)
        np.maximum(large, whole[0], out=large)

    def _marked_views(self, views: list[Prediction]) -> NDArray[np.bool_]:
        """Return which views of a picture mark each class, (N, K).

        Those in which it counts as present and the logit of its presence is at most ``TILED_RANGE`` below that of the
        best view; all views where nothing is decided about presence. Of the blended windows and the whole, the larger
        logit then counts. Without presence there is nothing to weigh the whole by, and only the windows count.
        """
        present = np.stack([decide_presence(one, self.presence)[1] for one in views])
        scores = [one.presence for one in views if one.presence is not None]
        if not scores or self.presence == 0:
            return present
        logits: NDArray[np.float32] = torch.stack(scores).float().cpu().numpy()
        near: NDArray[np.bool_] = logits >= logits.max(0) - TILED_RANGE
        return present & near


def decide_presence(prediction: Prediction, least: float) -> tuple[NDArray[np.float32] | None, NDArray[np.bool_]]:
    """Return the scores of the classes' presence (K,), if there are any, and whether each is at least ``least``."""
    if prediction.presence is None:
        return None, np.ones(len(prediction.logits), bool)
    scores: NDArray[np.float32] = prediction.presence.float().sigmoid().cpu().numpy()
    return scores, scores >= least
