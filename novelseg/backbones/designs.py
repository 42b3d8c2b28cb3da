"""Designs of the vision transformers DINOv2 and DINOv3, and where their official weight files come from.

This module does not import torch, so that names can be listed quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from novelseg.core.errors import InputError

DINOV2 = "https://dl.fbaipublicfiles.com/dinov2"
DINOV3_PAGE = "https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/"


@dataclass(frozen=True)
class ViTDesign:
    """Design of a vision transformer.

    Attributes
    ----------
    patch
        Side of a patch, px.
    channels, depth, heads
        Channels of a token, number of blocks, and attention heads in each.
    registers
        Tokens that follow the class token and belong to no patch.
    rotary
        Whether queries and keys are rotated by the position of their patch (DINOv3), instead of a learned position that
        is added to each token (DINOv2).
    gated
        Whether the two layers of a block's perceptron are a SwiGLU.
    file
        Name of the official weight file; empty if there is none.
    check
        SHA-256 of that file, or its first digits; empty if it is not known.
    """

    patch: int
    channels: int
    depth: int
    heads: int
    registers: int = 0
    rotary: bool = False
    gated: bool = False
    file: str = ""
    check: str = ""

    @property
    def url(self) -> str:
        """Official address; empty if the file is not given to everybody."""
        return f"{DINOV2}/{self.file.split('14')[0]}14/{self.file}" if self.file and not self.rotary else ""


_SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}
_CHECKS = {
    "dinov2-vits14": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    "dinov2-vitb14": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    "dinov3-vits16": "08c60483",
    "dinov3-vits16plus": "4057cbaa",
    "dinov3-vitb16": "73cec8be",
    "dinov3-vitl16": "8aa4cbdd",
}


def _dinov2(size: str, registers: int) -> tuple[str, ViTDesign]:
    name = f"dinov2-vit{size}14{'-reg' if registers else ''}"
    file = f"dinov2_vit{size}14{f'_reg{registers}' if registers else ''}_pretrain.pth"
    return name, ViTDesign(14, *_SIZES[size], registers, file=file, check=_CHECKS.get(name, ""))


def _dinov3(size: str, *, gated: bool = False) -> tuple[str, ViTDesign]:
    name = f"dinov3-vit{size}16{'plus' if gated else ''}"
    file = f"{name.replace('-', '_')}_pretrain_lvd1689m-{_CHECKS[name]}.pth"
    return name, ViTDesign(16, *_SIZES[size], 4, rotary=True, gated=gated, file=file, check=_CHECKS[name])


VITS: dict[str, ViTDesign] = dict(
    [
        *(_dinov2(size, registers) for registers in (0, 4) for size in "sbl"),
        *(_dinov3("s"), _dinov3("s", gated=True), _dinov3("b"), _dinov3("l")),
    ]
)
GATED = tuple(name for name, design in VITS.items() if design.file and not design.url)


def refuse_missing(arch: str, path: Path | str) -> None:
    """Refuse a weight file that does not exist and that only its owners give out.

    Raises
    ------
    InputError
        If the weights of this architecture are gated and the file does not exist; the message says where to ask.
    """
    if arch in GATED and not Path(path).exists():
        raise InputError(
            f"{path}: no such file; novelseg never downloads the weights of {arch} ({VITS[arch].file}), because each "
            f"user has to accept the DINOv3 License: ask for them at {DINOV3_PAGE}, read its terms (among them: a copy "
            "of the licence goes with the weights wherever they go, publications acknowledge their use, and military "
            "and weapons' uses are excluded), and give the path of the file"
        )


# First five channels of the class token and of the first patch, of COCO's image 000000039769 at 224×224 px (bilinear,
# antialiased), with the official weights; published with the conversion of these files for the package transformers.
KNOWN_VALUES = {
    "dinov3-vits16": (
        (0.463562, -0.415609, 0.408237, -0.126613, -0.286637),
        (-0.038754, -0.250895, -0.016393, -0.455474, 0.571582),
    ),
    "dinov3-vits16plus": (
        (-0.471349, -1.365779, -0.317983, 0.377219, -0.769086),
        (0.144552, -0.388117, -0.393434, -0.157695, -0.600380),
    ),
    "dinov3-vitb16": (
        (1.034643, -0.180609, -0.341018, -0.066377, -0.011384),
        (-0.082524, -0.456273, -0.728030, -0.430680, -0.152880),
    ),
    "dinov3-vitl16": (
        (0.484527, -0.582215, 0.480636, 0.592040, 0.945166),
        (-0.211367, -0.490864, -0.257131, 0.101764, 0.154511),
    ),
}
