"""Section ``train`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit

from stages.params.optimisation import Optimisation

TrainingVariant = Literal["hierarchical", "single-level"]


class Params(Optimisation):
    """Joint training of F_s."""

    extra_images: Annotated[
        int, Limit(ge=1, description="Strongly augmented images per iteration with one support (16).")
    ]
    extra_images_many_shots: Annotated[
        int, Limit(ge=1, description="The same with more supports (16; with ResNet-101 on PASCAL and COCO, 8).")
    ]
    decoder_width: Annotated[int, Limit(ge=4, le=1024, description="Channels of a decoder's 3×3 convolutions (256).")]
    gamma: Annotated[
        list[Annotated[float, Limit(ge=0)]],
        Limit(
            min_length=3,
            max_length=3,
            description="Weights of the pseudo-label losses, fine to coarse (γ, Eq. 5).",
        ),
    ]

    def extra_images_of(self, shot: int) -> int:
        """Return the number of strongly augmented images per iteration for a number of supports."""
        return self.extra_images if shot == 1 else self.extra_images_many_shots
