"""What a backbone has to offer: features of images, where their cells lie, and which parts can be frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor, nn

from novelseg.backbones.grid import Grid

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB values in [0, 1]


class Backbone(nn.Module, ABC):
    """A network that maps RGB images to feature maps.

    Attributes
    ----------
    channels
        Number of feature channels C.
    grid
        Where cells lie in an image.
    level
        Name of the features among those of the network, for protocols; such as ``layer3``.
    """

    channels: int
    grid: Grid
    level: str

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Features of images of one size.

        The backbone normalises colours, pads sides where it has to, and drops the cells whose centres lie in the
        padding: the features have ``grid.cells`` cells.

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
        """Parts that can be frozen, from the input on; together they hold all weights that training may change."""

    @abstractmethod
    def load_pretrained(self, path: Path) -> None:
        """Load a pretrained weight file; strictly: nothing may be missing, left over or of another shape.

        Raises
        ------
        InputError
            If the file cannot be read or belongs to another architecture.
        """
