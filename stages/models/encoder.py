"""The encoder: a ResNet that takes uint8 images, and its weight files, which say how to rebuild it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.models.files import read_about
from stages.models.resnet import ResNet
from stages.models.weights import load_strictly
from stages.sections.encoder import EncoderParams

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NETWORK = "encoder"


class Encoder(nn.Module):
    """ResNet with input normalisation: (B, 3, H, W) RGB in [0, 1] to (B, C, h, w)."""

    mean: Tensor
    std: Tensor

    def __init__(self, *, arch: str, stem: str, width: int) -> None:
        super().__init__()
        # Channels last in memory: what tensor cores and oneDNN's convolutions want.
        self.resnet = ResNet(arch=arch, stem=stem, width=width)
        self.resnet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    @property
    def channels(self) -> int:
        """Number of feature channels."""
        return self.resnet.channels

    def forward(self, images: Tensor) -> Tensor:
        """Features at stride 8."""
        normal = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.resnet(normal)
        return features


def new_encoder(params: EncoderParams, weights: Path) -> Encoder:
    """Build the encoder that the parameters describe, from a pretrained weight file."""
    encoder = Encoder(arch=params.arch, stem=params.stem, width=params.width)
    load_strictly(encoder.resnet, weights)
    return encoder


def rebuilt(about: dict[str, Any]) -> Encoder:
    """An encoder of the architecture that was noted beside its weights, without them."""
    return Encoder(**{key: about[key] for key in ("arch", "stem", "width")})


def load_encoder(path: Path, fold: int | None = None, base: list[str] | None = None) -> tuple[Encoder, dict[str, Any]]:
    """Rebuild a trained encoder and give what was written beside it.

    Raises
    ------
    InputError
        If the file cannot be read, or was trained for another fold or base classes than those given.
    """
    about = read_about(path, NETWORK, fold, base)
    encoder = rebuilt(about)
    encoder.load_state_dict(load_file(path))
    return encoder.eval().requires_grad_(False), about
