"""Decoder of one level of pseudo labels, which is not used at test time."""

from __future__ import annotations

from torch import Tensor, nn


class Decoder(nn.Sequential):
    """Two 3×3 convolutions with BatchNorm and ReLU, and a 1×1 to 2K classes: (B, C, h, w) to (B, 2K, h, w)."""

    def __init__(self, *, channels: int, width: int, classes: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits at the resolution of the features."""
        logits: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return logits
