"""Report the architecture of a weight file, whether it is complete, and whether it is an official file.

Reads
    a weight file; for the vision transformers DINOv3, optionally the image 000000039769 of COCO, for which the values
    of the official weights are known.
Writes
    nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F

from novelseg.backbones.designs import KNOWN_VALUES, VITS
from novelseg.backbones.recognise import recognise
from novelseg.backbones.registry import new_backbone
from novelseg.backbones.vit import ViTBackbone
from novelseg.core.errors import InputError
from novelseg.core.files import read_bytes
from novelseg.core.options import Help
from novelseg.core.progress import say
from novelseg.inference.photos import read_photo

TOLERANCE = 1e-3


def run(
    *,
    weights: Annotated[Path, Help("weight file")],
    image: Annotated[
        Path | None, Help("image 000000039769.jpg of COCO val2017, on which known values are compared")
    ] = None,
) -> None:
    """Recognise the file, load it strictly, and compare its checksum and values with known ones."""
    spec = recognise(weights)
    net = new_backbone(spec)
    net.load_pretrained(weights)
    say(f"{weights}: {spec.arch}; no weight is missing, unexpected or of another shape")
    if isinstance(net, ViTBackbone):
        _compare_checksum(weights, spec.arch)
    if image:
        if not isinstance(net, ViTBackbone) or spec.arch not in KNOWN_VALUES:
            raise InputError(
                f"--image is for {', '.join(KNOWN_VALUES)}; no values of {spec.arch} are known; leave it out"
            )
        _compare_values(net.eval(), spec.arch, image)


def _compare_checksum(weights: Path, arch: str) -> None:
    known, own = VITS[arch].check, hashlib.sha256(read_bytes(weights, "no such weight file")).hexdigest()
    if not known:
        say(f"its SHA-256 is {own}; that of {VITS[arch].file} is not known")
    elif own.startswith(known):
        say(f"its SHA-256 is that of the official file {VITS[arch].file}")
    else:
        say(f"its SHA-256 is {own}, not that of {VITS[arch].file}: it was converted, or has other values")


@torch.inference_mode()
def _compare_values(net: ViTBackbone, arch: str, image: Path) -> None:
    pixels = torch.from_numpy(read_photo(image)).permute(2, 0, 1)[None].float() / 255
    tokens = net.tokens(F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True))[0]
    values = torch.stack([tokens[0, :5], tokens[1 + net.design.registers, :5]])
    difference = (values - torch.tensor(KNOWN_VALUES[arch])).abs().max().item()
    if difference > TOLERANCE:
        raise InputError(
            f"{image}: its values differ by {difference:.2g} from those of the official weights of {arch}; expected at "
            f"most {TOLERANCE:g}; give COCO's image 000000039769, and if it is this image, other weights"
        )
    say(f"its values on {image} are those of the official weights of {arch} (largest difference {difference:.1e})")
