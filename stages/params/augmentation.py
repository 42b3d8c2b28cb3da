"""Section ``augmentation`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limit
from pydantic import model_validator

from stages.params.schema import Section

Chance = Annotated[float, Limit(ge=0, le=1)]
Positive = Annotated[float, Limit(gt=0)]


class Augmentation(Section):
    """Strong augmentation of the pseudo-labelled images in joint training (A, Sec. 4.1; the strengths are ours)."""

    scales: Annotated[
        list[Positive],
        Limit(
            min_length=2,
            max_length=2,
            description="Range of the longer side after scaling, relative to matching.size.",
        ),
    ]
    flip: Annotated[float, Limit(ge=0, le=1, description="Probability of mirroring.")]
    jitter: Annotated[float, Limit(ge=0, le=1, description="Probability of colour jitter.")]
    brightness: Annotated[float, Limit(ge=0, le=1, description="Jitter: brightness is multiplied by up to 1 ± this.")]
    contrast: Annotated[float, Limit(ge=0, le=1, description="Jitter: contrast is multiplied by up to 1 ± this.")]
    saturation: Annotated[float, Limit(ge=0, le=1, description="Jitter: saturation is multiplied by up to 1 ± this.")]
    hue: Annotated[
        float, Limit(ge=0, le=0.5, description="Jitter: hue is shifted by up to ± this share of a full turn.")
    ]
    grey: Annotated[float, Limit(ge=0, le=1, description="Probability of conversion to grayscale.")]
    blur: Annotated[float, Limit(ge=0, le=1, description="Probability of Gaussian blur.")]
    blur_sigma: Annotated[
        list[Positive], Limit(min_length=2, max_length=2, description="Range of the blur's standard deviation, px.")
    ]
    cutout: Annotated[float, Limit(ge=0, le=1, description="Probability that a rectangle hides image and labels.")]
    cutout_area: Annotated[
        list[Chance],
        Limit(min_length=2, max_length=2, description="Range of the rectangle's area, as a share of the image."),
    ]
    cutout_aspect: Annotated[
        list[Positive],
        Limit(min_length=2, max_length=2, description="Range of the rectangle's height divided by its width."),
    ]

    @model_validator(mode="after")
    def _rising(self) -> Augmentation:
        for name in ("scales", "blur_sigma", "cutout_area", "cutout_aspect"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [{low}, {high}]; expected the lower end first")
        return self
