"""Vision transformers DINOv2 (arXiv 2304.07193, registers: 2309.16588) and DINOv3 (2508.10104).

Names and shapes of all weights are those of the official files. Both families are a ViT with layer scale. They differ
in the positions (learned and interpolated, or rotary), in the ε of LayerNorm, and in the bias of the keys.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novelseg.backbones.contract import MEAN, STD, Backbone
from novelseg.backbones.designs import VITS, ViTDesign, refuse_missing
from novelseg.backbones.grid import ReducedPatchGrid
from novelseg.backbones.weights import fit_strictly, plain_names, read_state
from novelseg.core.errors import InputError

POSITIONS = 37  # DINOv2's learned positions are those of 37×37 patches: an image of 518×518 px
ROTARY_BASE = 100.0
Rotation = tuple[Tensor, Tensor]


class LayerScale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels."""
        return x * self.gamma


class MaskedBiasLinear(nn.Linear):
    """A linear layer whose bias is multiplied by a mask of the weight file; in DINOv3, it is 0 for the keys."""

    bias_mask: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        mask = torch.ones(outputs)
        mask[outputs // 3 : 2 * outputs // 3] = 0
        self.register_buffer("bias_mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the weights and the masked bias."""
        return F.linear(x, self.weight, self.bias * self.bias_mask)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the channels i and i + d/2 of each patch by its angle i, in float32; tokens before the patches stay.

    Parameters
    ----------
    x : (B, heads, T + N, d)
        Queries or keys of T tokens without a position and N patches.
    rotation : (N, d) float32 each
        Cosine and sine of the angles.
    """
    cosine, sine = rotation
    first = x.shape[-2] - len(cosine)
    patches = x[..., first:, :].float()
    left, right = patches.chunk(2, dim=-1)
    rotated = patches * cosine + torch.cat((-right, left), -1) * sine
    return torch.cat((x[..., :first, :], rotated.to(x.dtype)), -2)


class Attention(nn.Module):
    """Attention of several heads."""

    def __init__(self, design: ViTDesign) -> None:
        super().__init__()
        self.heads, channels = design.heads, design.channels
        self.qkv = (MaskedBiasLinear if design.rotary else nn.Linear)(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        """Let every token attend to all; (B, N, C) to (B, N, C)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        mixed: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return mixed


class Perceptron(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to each token."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class GatedPerceptron(nn.Module):
    """SwiGLU: a layer gates another one (arXiv 2002.05202)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(channels, 4 * channels), nn.Linear(channels, 4 * channels)
        self.w3 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to each token."""
        y: Tensor = self.w3(F.silu(self.w1(x)) * self.w2(x))
        return y


class Block(nn.Module):
    """Attention and perceptron, each after a LayerNorm, scaled and added to its input."""

    def __init__(self, design: ViTDesign) -> None:
        super().__init__()
        channels, epsilon = design.channels, _epsilon(design)
        self.norm1, self.norm2 = nn.LayerNorm(channels, epsilon), nn.LayerNorm(channels, epsilon)
        self.attn = Attention(design)
        self.mlp = GatedPerceptron(channels) if design.gated else Perceptron(channels)
        self.ls1, self.ls2 = LayerScale(channels), LayerScale(channels)

    def forward(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        """Map the tokens (B, N, C) to tokens."""
        x = x + self.ls1(self.attn(self.norm1(x), rotation))
        y: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return y


class PatchEmbedding(nn.Module):
    """A linear map of each patch's pixels."""

    def __init__(self, design: ViTDesign) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, design.channels, design.patch, design.patch)

    def forward(self, images: Tensor) -> Tensor:
        """Embed the patches: (B, 3, H, W) to (B, C, h, w)."""
        embedded: Tensor = self.proj(images)
        return embedded


class RotaryPositions(nn.Module):
    """Angles of the patches by their positions from −1 to 1 along each axis (arXiv 2104.09864).

    Period i of d/4 is 100^(2i/(d/2)), where d is the number of channels of a head. The weight file contains them.
    """

    periods: Tensor

    def __init__(self, design: ViTDesign) -> None:
        super().__init__()
        quarter = design.channels // design.heads // 4
        periods = ROTARY_BASE ** (torch.arange(quarter, dtype=torch.float32) / quarter)
        self.register_buffer("periods", periods)

    def forward(self, rows: int, columns: int) -> Rotation:
        """Return cosine and sine of the angles, (h·w, d) float32: y, then x, both twice."""
        device, kind = self.periods.device, torch.float32
        y = (torch.arange(rows, dtype=kind, device=device) + 0.5) / rows * 2 - 1
        x = (torch.arange(columns, dtype=kind, device=device) + 0.5) / columns * 2 - 1
        positions = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1)  # (h, w, 2)
        angles = 2 * math.pi * positions[..., None] / self.periods.float()  # (h, w, 2, d/4)
        angles = angles.flatten(0, 1).flatten(1).tile(2)
        return angles.cos(), angles.sin()


@lru_cache(maxsize=256)
def _interpolation(cells: int, offset: float, antialias: bool) -> Tensor:
    """Return the weights of a bicubic interpolation of 37 positions to a number of cells, (cells, 37) float32.

    They are read off the interpolation of unit vectors, so that they are PyTorch's own; as a matrix, its gradient is
    deterministic on a GPU too.
    """
    units = torch.eye(POSITIONS)[None, None]
    if offset:
        resized = F.interpolate(units, scale_factor=(1.0, (cells + offset) / POSITIONS), mode="bicubic")
    else:
        resized = F.interpolate(units, size=(POSITIONS, cells), mode="bicubic", antialias=antialias)
    return resized[0, 0].T.contiguous()


def _epsilon(design: ViTDesign) -> float:
    """Return the ε of LayerNorm."""
    return 1e-5 if design.rotary else 1e-6


class ViT(nn.Module):
    """A vision transformer with the weights' names of the official files.

    Parameters
    ----------
    design
        Its design.

    Attributes
    ----------
    offset
        Number of cells that is added to the size in the interpolation of positions: DINOv2 without registers was
        published with 0.1, which shifts the positions slightly.
    """

    def __init__(self, design: ViTDesign) -> None:
        super().__init__()
        self.design, channels = design, design.channels
        self.offset = 0.0 if design.registers else 0.1
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        # The features do not depend on the token of masked patches, which the files contain.
        self.register_buffer("mask_token", torch.zeros(1, channels))
        if design.registers:
            tokens = nn.Parameter(0.02 * torch.randn(1, design.registers, channels))
            self.register_parameter(self.register_name, tokens)
        if design.rotary:
            self.rope_embed = RotaryPositions(design)
        else:
            self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + POSITIONS**2, channels))
        self.patch_embed = PatchEmbedding(design)
        self.blocks = nn.ModuleList(Block(design) for _ in range(design.depth))
        self.norm = nn.LayerNorm(channels, _epsilon(design))

    @property
    def register_name(self) -> str:
        """Name of the registers in the weight files of the family."""
        return "storage_tokens" if self.design.rotary else "register_tokens"

    def embedding(self) -> nn.Module:
        """Return the weights before the blocks: the projection of patches, the tokens and the learned positions."""
        return nn.ModuleList([self.patch_embed, nn.ParameterList(self.parameters(recurse=False))])

    def positions(self, rows: int, columns: int) -> Tensor:
        """Return the learned positions of the class token and of h×w patches, (1, 1 + h·w, C)."""
        if (rows, columns) == (POSITIONS, POSITIONS):
            return self.pos_embed
        grid = self.pos_embed[0, 1:].float().unflatten(0, (POSITIONS, POSITIONS))
        down, across = (
            _interpolation(cells, self.offset, bool(self.design.registers)).to(grid.device) for cells in (rows, columns)
        )
        with torch.autocast(grid.device.type, enabled=False):
            resized = torch.einsum("ri,ijc,kj->rkc", down, grid, across)
        return torch.cat((self.pos_embed[:, :1], resized.flatten(0, 1)[None].to(self.pos_embed.dtype)), 1)

    def forward(self, images: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """Return the tokens after some blocks, before the last norm.

        Parameters
        ----------
        images : (B, 3, H, W) float
            Normalised images of whole patches.
        blocks
            Numbers 1…depth of the blocks.

        Returns
        -------
        list of (B, 1 + registers + h·w, C)
        """
        x = self.patch_embed(images)  # (B, C, h, w)
        rows, columns = x.shape[-2:]
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)), 1)
        if not self.design.rotary:
            x = x + self.positions(rows, columns)
        if self.design.registers:
            registers = self.get_parameter(self.register_name).expand(len(x), -1, -1)
            x = torch.cat((x[:, :1], registers, x[:, 1:]), 1)
        rotation = self.rope_embed(rows, columns) if self.design.rotary else None
        after = {}
        for number, block in enumerate(self.blocks[: max(blocks)], 1):
            x = block(x, rotation)
            if number in blocks:
                after[number] = x
        return [after[number] for number in blocks]


class ViTBackbone(Backbone):
    """The patches of a vision transformer, (B, 3, H, W) RGB in [0, 1]; one cell per patch.

    Only patches whose centres lie in the image are tokens: the part of such a patch beyond the border is filled with
    the outermost pixels, and pixels that belong to no such patch are cut off. No token is mostly padding.

    Parameters
    ----------
    arch
        Name of the design, for messages; see :data:`novelseg.backbones.designs.VITS`.
    design
        The design; by default, that of this name.
    layers
        Blocks whose outputs are the features, 1…depth, concatenated in this order; empty for the last block.
    norm
        Whether the last LayerNorm is applied to the output of each of these blocks.
    side
        Longest side of an image in the network, px; larger images are reduced to it.

    Raises
    ------
    InputError
        If the network has no such block.
    """

    mean: Tensor
    std: Tensor
    grid: ReducedPatchGrid

    def __init__(
        self,
        *,
        arch: str,
        design: ViTDesign | None = None,
        layers: tuple[int, ...] = (),
        norm: bool = True,
        side: int = 512,
    ) -> None:
        super().__init__()
        self.arch, self.design = arch, design or VITS[arch]
        depth = self.design.depth
        if not all(1 <= number <= depth for number in layers) or len(set(layers)) < len(layers):
            raise InputError(
                f"encoder.layers is {list(layers)}; expected different numbers from 1 to {depth} for {arch}"
            )
        if side < self.design.patch:
            raise InputError(f"encoder.side is {side}; expected at least the side of a patch, {self.design.patch}")
        self.layers, self.last_norm = layers or (depth,), norm
        self.vit = ViT(self.design)
        self.channels, self.grid = (
            self.design.channels * len(self.layers),
            ReducedPatchGrid(self.design.patch, side=side),
        )
        self.level = f"block {'+'.join(map(str, self.layers))}{' and norm' if norm else ''}"
        self.note = f"{self.level}, images of at most {side} px"
        unused: list[nn.Module] = [*self.vit.blocks[max(self.layers) :], *([] if norm else [self.vit.norm])]
        for part in unused:
            part.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def tokens(self, images: Tensor) -> Tensor:
        """Return the class token, the registers and the patches after the last block and norm, (B, N, C)."""
        (last,) = self.vit(self._whole_patches((images - self.mean) / self.std), (self.design.depth,))
        normalised: Tensor = self.vit.norm(last)
        return normalised

    def forward(self, images: Tensor) -> Tensor:
        """Compute features of patches; see :meth:`Backbone.forward`."""
        rows, columns = self.grid.cells((images.shape[-2], images.shape[-1]))
        outputs = self.vit(self._whole_patches((images - self.mean) / self.std), self.layers)
        patches = [(self.vit.norm(x) if self.last_norm else x)[:, 1 + self.design.registers :] for x in outputs]
        features: Tensor = torch.cat(patches, -1).transpose(1, 2).unflatten(2, (rows, columns)).contiguous()
        return features

    def parts(self) -> list[nn.Module]:
        """Return the embedding and the blocks up to the last one that is used; its part contains the last norm."""
        *first, last = self.vit.blocks[: max(self.layers)]
        end = nn.ModuleList([last, self.vit.norm]) if self.last_norm else last
        return [self.vit.embedding(), *first, end]

    def load_pretrained(self, path: Path) -> None:
        """Load an official weight file, key by key."""
        refuse_missing(self.arch, path)
        state = plain_names(read_state(path))
        held = vit_of(state)
        if held and held != self.arch and self.arch in VITS:
            raise InputError(
                f"{path}: holds weights of {held}, but encoder.arch is {self.arch}; set encoder.arch to {held}, or "
                "give another file"
            )
        fit_strictly(self.vit, state, path, "encoder.arch")
        self._check_periods(path, state)

    def _check_periods(self, path: Path, state: dict[str, Tensor]) -> None:
        """Refuse rotary periods of another base; those of the official files are rounded to bfloat16."""
        if not self.design.rotary:
            return
        expected = RotaryPositions(self.design).periods
        if ((state["rope_embed.periods"].float() / expected - 1).abs() > 0.01).any():
            raise InputError(
                f"{path}: the weight rope_embed.periods lacks the values of DINOv3 (base {ROTARY_BASE:g}); give an "
                "official file"
            )

    def _whole_patches(self, images: Tensor) -> Tensor:
        """Reduce images beyond the longest side, then pad or cut them to whole patches."""
        size = (images.shape[-2], images.shape[-1])
        resized, whole = self.grid.network_size(size)
        if resized != size:
            images = F.interpolate(images, resized, mode="bilinear", antialias=True)
        down, right = whole[0] - resized[0], whole[1] - resized[1]
        images = images[..., : whole[0], : whole[1]]
        return F.pad(images, (0, max(right, 0), 0, max(down, 0)), mode="replicate")


def vit_of(state: dict[str, Tensor]) -> str | None:
    """Return the name of the design to which weights belong by their names and shapes; None if there is none."""
    token, patches = state.get("cls_token"), state.get("patch_embed.proj.weight")
    if token is None or patches is None or patches.ndim != 4:
        return None
    registers = state.get("storage_tokens", state.get("register_tokens"))
    shape = (
        patches.shape[-1],
        token.shape[-1],
        len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        registers.shape[1] if registers is not None and registers.ndim == 3 else 0,
        "pos_embed" not in state,
        "blocks.0.mlp.w1.weight" in state,
    )
    for name, design in VITS.items():
        if shape == (
            *(design.patch, design.channels, design.depth, design.registers),
            *(design.rotary, design.gated),
        ):
            return name
    return None
