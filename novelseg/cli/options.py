"""Options that are shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from novelseg.core.options import Help
from novelseg.methods.refiners import SEGMENTER_VARIANTS

Device = Annotated[str, Help("device to compute on", ("auto", "cpu", "cuda"))]
Threads = Annotated[int, Help("number of CPU threads; 0: as many as PyTorch chooses")]
Bundle = Annotated[Path | None, Help("bundle of `novelseg export`; or give --weights")]
Weights = Annotated[
    str,
    Help(
        "pretrained weights: a file, or a name to download them, such as resnet50 or dinov2-vits14 (`novelseg fetch "
        "--help` lists all)"
    ),
]
Stem = Annotated[
    str,
    Help(
        "stem of the ResNet in --weights; recognised by default, msra by the file's name",
        ("", "torchvision", "msra", "deep"),
    ),
]
Variant = Annotated[str, Help("how masks are predicted: by matching alone, or with a refinement", SEGMENTER_VARIANTS)]
Edges = Annotated[bool, Help("let the borders of masks follow those of the picture")]
Threshold = Annotated[float, Help("smallest score (sigmoid of the logit) of a marked pixel, between 0 and 1")]
Presence = Annotated[
    float,
    Help(
        "smallest probability of a marked pixel, which includes the probability that the class is present at all; a "
        "class whose presence is less probable than this is not marked; 0: mark every class"
    ),
]
MinArea = Annotated[int, Help("smallest area of a connected region that is kept, px")]
Largest = Annotated[bool, Help("keep only the largest region of each class")]
Tile = Annotated[
    bool,
    Help("process pictures larger than --side in overlapping windows of this side, to find small things"),
]
Precision = Annotated[
    str,
    Help(
        "precision of the encoder; by default that of the bundle, and fp32 with --weights. bf16 is faster on a GPU and "
        "on a CPU with bf16 units (ResNet-50: 0.43 of the time, mIoU within 0.1 points), and much slower on others",
        ("", "fp32", "bf16"),
    ),
]
Side = Annotated[int, Help("longest side at which the network sees a picture, px; larger pictures are reduced to it")]
