"""The contract of a backbone: features of images, the grid of their cells, and the parts that can be frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor, nn

from novelseg.backbones.grid import Grid

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet statistics of RGB in [0, 1]


class Backbone(nn.Module, ABC):
    """A network that maps RGB images to feature maps.

    Attributes
    ----------
    channels
        Number of feature channels C.
    grid
        Positions of the feature cells in an image.
    level
        Name of the layer that yields the features, as evaluation protocols record it; for example ``layer3``.
    note
        What a protocol has to say of the features in addition to the architecture; empty if there is nothing.
    """

    channels: int
    grid: Grid
    level: str
    note: str = ""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Compute the features of a batch of images.

        The backbone normalises colours, pads images if its architecture requires it, and drops the cells whose centres
        lie in the padding, so that h and w are those of ``grid.cells``.

        Parameters
        ----------
        images : (B, 3, H, W) float
            RGB in [0, 1].

        Returns
        -------
        (B, C, h, w)
        """

    @abstractmethod
    def parts(self) -> list[nn.Module]:
        """Return the parts that can be frozen, in order from input to output; they contain all trainable weights."""

    @abstractmethod
    def load_pretrained(self, path: Path) -> None:
        """Load a pretrained weight file.

        Raises
        ------
        InputError
            If the file cannot be read, or has missing keys, unknown keys or arrays of other shapes.
        """
