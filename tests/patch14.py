"""A small untrained backbone with patches of 14 px, as a ViT has them: sides are padded, cells lie in patch centres."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novelseg.backbones import registry
from novelseg.backbones.contract import MEAN, STD, Backbone
from novelseg.backbones.grid import PatchGrid
from novelseg.backbones.weights import read_state

PATCH, CHANNELS, ARCH = 14, 12, "patch14"


class PatchBackbone(Backbone):
    """One convolution per patch, and one that mixes neighbouring patches."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.channels, self.grid, self.level = CHANNELS, PatchGrid(PATCH), "last block"
        self.embed = nn.Conv2d(3, CHANNELS, PATCH, PATCH)
        self.mix = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features of patches; those whose centres lie in the padding are dropped."""
        height, width = images.shape[-2:]
        padded = F.pad((images - self.mean) / self.std, (0, -width % PATCH, 0, -height % PATCH), mode="replicate")
        rows, columns = self.grid.cells((height, width))
        features: Tensor = self.mix(F.gelu(self.embed(padded)))
        return features[..., :rows, :columns]

    def parts(self) -> list[nn.Module]:
        """Embedding and mixing."""
        return [self.embed, self.mix]

    def load_pretrained(self, path: Path) -> None:
        """Load a file of this very network."""
        self.load_state_dict(read_state(path))


def register(monkeypatch: pytest.MonkeyPatch, weights: Path) -> Path:
    """Make the architecture known for a test, and write first weights for it."""
    monkeypatch.setitem(registry.ARCHITECTURES, ARCH, lambda spec: PatchBackbone())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(14)
        torch.save(PatchBackbone().state_dict(), weights)
    return weights
