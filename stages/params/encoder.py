"""Section ``encoder`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema, model_validator
from pydantic import Field as Limit

from novelseg.backbones.designs import VITS
from novelseg.backbones.registry import ARCHITECTURES
from novelseg.formats.record import BackboneSpec
from stages.params.schema import Section, one_of

RESNET_PARTS = 4  # stem and three layers; layer4 (`cam.features`) is a fifth


class EncoderParams(Section):
    """Architecture, initial weights and trained parts of every network: F_p, F_s and that of the CAM prior."""

    arch: Annotated[
        str,
        AfterValidator(one_of(ARCHITECTURES)),
        WithJsonSchema({"enum": list(ARCHITECTURES)}),
        Limit(
            description="Backbone; residual networks end after layer3 (the CAM prior's: after `cam.features`), vision "
            "transformers after `encoder.layers`."
        ),
    ]
    stem: Annotated[
        Literal["torchvision", "msra", "deep"],
        Limit(
            description="One 7×7 convolution (torchvision, msra) or three 3×3 ones (deep); must fit the weight file."
        ),
    ]
    width: Annotated[int, Limit(ge=4, le=256, description="Channels of layer1's 3×3 convolutions; 64 in the papers.")]
    weights: Annotated[
        str, Limit(min_length=1, description="File of pretrained weights; `$NOVELSEG_DATA` is expanded.")
    ]
    precision: Annotated[
        Literal["fp32", "bf16"],
        Limit(description="Arithmetic of the encoder; bf16 needs a device that supports it."),
    ]

    layers: Annotated[
        list[Annotated[int, Limit(ge=1)]],
        Limit(
            description="Blocks of a vision transformer whose outputs are the features, counted from 1 and "
            "concatenated in this order; empty: the last block. Residual networks ignore `layers`, `norm` and `side`."
        ),
    ]
    norm: Annotated[
        bool, Limit(description="Whether the last norm of a vision transformer is applied to these outputs.")
    ]
    side: Annotated[
        int,
        Limit(
            ge=16, le=4096, description="Longest side of an image in a vision transformer, px; larger ones are reduced."
        ),
    ]
    train: Annotated[
        Literal["all", "none"] | Annotated[int, Limit(ge=1)],
        Limit(
            description="Parts of the encoder that are trained: all, none, or a number of last parts, which are blocks "
            "(vision transformers) or layers (residual networks). With none there is neither a Baseline nor a joint "
            "training, and the pretrained encoder is evaluated; the CAM prior trains its branches."
        ),
    ]

    @model_validator(mode="after")
    def _fits_architecture(self) -> EncoderParams:
        depth = VITS[self.arch].depth if self.arch in VITS else None
        if depth and (max(self.layers, default=1) > depth or len(set(self.layers)) < len(self.layers)):
            raise ValueError(f"layers is {self.layers}; expected different numbers from 1 to {depth} for {self.arch}")
        parts = max(self.layers, default=depth) + 1 if depth else RESNET_PARTS
        if isinstance(self.train, int) and self.train > parts:
            raise ValueError(f"train is {self.train}; expected all, none or at most the {parts} parts of {self.arch}")
        return self

    @property
    def spec(self) -> BackboneSpec:
        """Specification from which the backbone is built."""
        return BackboneSpec(self.arch, self.stem, self.width, layers=tuple(self.layers), norm=self.norm, side=self.side)

    @property
    def trained(self) -> int | None:
        """Number of last parts of the encoder that are trained; None for all."""
        return self.train if isinstance(self.train, int) else {"all": None, "none": 0}[self.train]
