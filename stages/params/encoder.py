"""Section ``encoder`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema
from pydantic import Field as Limit

from novelseg.backbones.registry import ARCHITECTURES
from novelseg.formats.record import BackboneSpec
from stages.params.schema import Section, one_of


class EncoderParams(Section):
    """Architecture and initial weights of every trained network: F_p, F_s and that of the CAM prior."""

    arch: Annotated[
        str,
        AfterValidator(one_of(ARCHITECTURES)),
        WithJsonSchema({"enum": list(ARCHITECTURES)}),
        Limit(
            description="Backbone; residual networks end after layer3 (the CAM prior's: after `cam.features`), vision "
            "transformers after their last norm."
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

    @property
    def spec(self) -> BackboneSpec:
        """Specification from which the backbone is built."""
        return BackboneSpec(self.arch, self.stem, self.width)
