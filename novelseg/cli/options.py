"""Options that are shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from novelseg.core.options import Help
from novelseg.methods.refiners import SEGMENTER_VARIANTS

Device = Annotated[str, Help("device to compute on", ("auto", "cpu", "cuda"))]
Threads = Annotated[int, Help("threads on the CPU; 0: as many as PyTorch chooses")]
Bundle = Annotated[Path | None, Help("bundle of `novelseg export`; or give --weights")]
Weights = Annotated[
    str,
    Help(
        "pretrained weights instead of a bundle: a file, or a name to download them, such as resnet50 or dinov2-vits14 "
        "(`novelseg fetch --help` lists all)"
    ),
]
Stem = Annotated[
    str, Help("stem of a ResNet in --weights, where it differs from torchvision's", ("", "torchvision", "msra", "deep"))
]
Variant = Annotated[str, Help("prediction by matching alone, or with a refinement", SEGMENTER_VARIANTS)]
Edges = Annotated[bool, Help("let the borders of masks follow those of the picture")]
Threshold = Annotated[float, Help("sigmoid of the logit from which a pixel is marked, between 0 and 1")]
Presence = Annotated[
    float,
    Help(
        "smallest probability of a marked pixel, that of the class's presence included; a class whose score of "
        "presence is smaller is not marked at all; 0: mark every class"
    ),
]
MinArea = Annotated[int, Help("smallest number of pixels of a connected region that is kept")]
Largest = Annotated[bool, Help("keep only the largest region of each class")]
Tile = Annotated[
    bool,
    Help("see pictures larger than --side in overlapping windows of this side, to find small things"),
]
Precision = Annotated[
    str,
    Help(
        "precision of the encoder; by default that of the bundle, and fp32 with --weights. bf16 is faster on a GPU and "
        "on a CPU with bf16 units (ResNet-50: 0.43 of the time, mIoU within 0.1 points), and much slower on others",
        ("", "fp32", "bf16"),
    ),
]
Side = Annotated[int, Help("longest side of a picture in the network, px; larger pictures are reduced to it")]
