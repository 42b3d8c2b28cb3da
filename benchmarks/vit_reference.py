"""Compare the vision transformers with an independent implementation, ``transformers``, on the same random weights.

Writes ``docs/results/vit-reference.md`` with the largest differences. Install ``transformers`` 5 or later in an
environment of its own and run ``python -m benchmarks.vit_reference --out docs/results/vit-reference.md``. With
``--arch NAME`` and ``--size HxW``, only the rows of this architecture and image size are measured, and the others of
the page are kept: ViT-L takes minutes for each.

``transformers`` interpolates the positions of DINOv2 without the offset of 0.1 cells that the published code has
without registers; the table shows the differences with the offset off, and what it changes.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from novelseg.backbones.contract import MEAN, STD
from novelseg.backbones.designs import VITS, ViTDesign
from novelseg.backbones.vit import ViTBackbone

# Name in transformers → official name; \1 is the number of the block.
NAMES = (
    (r"embeddings\.(cls_token|mask_token)", r"\1"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings(?:\.projection)?\.(\w+)", r"patch_embed.proj.\1"),
    (r"(?:layernorm|norm)\.(\w+)", r"norm.\1"),
    (r".*layer\.(\d+)\.(norm[12])\.(\w+)", r"blocks.\1.\2.\3"),
    (r".*layer\.(\d+)\.attention\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (r".*layer\.(\d+)\.attention\.o_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (r".*layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r".*layer\.(\d+)\.mlp\.(fc[12])\.(\w+)", r"blocks.\1.mlp.\2.\3"),
    (r".*layer\.(\d+)\.mlp\.gate_proj\.(\w+)", r"blocks.\1.mlp.w1.\2"),
)
PERCEPTRON = {True: ("w2", "w3"), False: ("fc1", "fc2")}  # up and down, gated or not
SIZES = {14: ((518, 518), (224, 308), (434, 322)), 16: ((224, 224), (256, 384), (400, 272))}
BATCHES = (1, 3)
SMALLEST = 384  # channels of ViT-S, which is always compared with all its blocks


def reference(design: ViTDesign, seed: int = 0) -> Any:
    """Return the model of transformers with this design and random weights, biases and factors included."""
    package: Any = import_module("transformers")
    common = {
        "hidden_size": design.channels,
        "num_hidden_layers": design.depth,
        "num_attention_heads": design.heads,
        "patch_size": design.patch,
        "attn_implementation": "eager",
    }
    if design.rotary:
        model = package.DINOv3ViTModel(
            package.DINOv3ViTConfig(
                **common,
                intermediate_size=4 * design.channels,
                num_register_tokens=design.registers,
                use_gated_mlp=design.gated,
                hidden_act="silu" if design.gated else "gelu",
            )
        )
    elif design.registers:
        model = package.Dinov2WithRegistersModel(
            package.Dinov2WithRegistersConfig(**common, image_size=518, num_register_tokens=design.registers)
        )
    else:
        model = package.Dinov2Model(package.Dinov2Config(**common, image_size=518))
    draws = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=draws)
        centre = 1.0 if name.endswith("lambda1") or re.search(r"norm\d?\.weight$", name) else 0.0
        scale = 0.04 if value.ndim == 2 and not name.endswith("token") else 0.1
        value.data = centre + (scale if value.ndim != 4 else 0.02) * noise
    return model.eval()


def official_state(model: Any, design: ViTDesign) -> dict[str, Tensor]:
    """Return the weights of a model of transformers under the official names and in their shapes."""
    up, down = PERCEPTRON[design.gated]
    registers = "storage_tokens" if design.rotary else "register_tokens"
    names = (
        *NAMES,
        (r"embeddings\.register_tokens", registers),
        (r".*layer\.(\d+)\.mlp\.up_proj\.(\w+)", rf"blocks.\1.mlp.{up}.\2"),
        (r".*layer\.(\d+)\.mlp\.down_proj\.(\w+)", rf"blocks.\1.mlp.{down}.\2"),
    )
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        new = next((re.sub(old, new, name) for old, new in names if re.fullmatch(old, name)), None)
        if new is None:
            raise ValueError(f"{name}: unknown name of transformers")
        state[new] = value.clone()
    state["mask_token"] = state["mask_token"].reshape(1, design.channels)
    mask = torch.ones(3 * design.channels)
    for number in range(design.depth):
        block = f"blocks.{number}.attn"
        state[f"{block}.qkv.weight"] = torch.cat([state.pop(f"{block}.{part}.weight") for part in "qkv"])
        # transformers has no bias of the keys in DINOv3; the official files have one, and a mask that removes it
        absent = torch.full((design.channels,), 0.7)
        state[f"{block}.qkv.bias"] = torch.cat([state.pop(f"{block}.{part}.bias", absent) for part in "qkv"])
        if design.rotary:
            mask[design.channels : 2 * design.channels] = 0
            state[f"{block}.qkv.bias_mask"] = mask.clone()
    if design.rotary:
        state["rope_embed.periods"] = 1 / model.rope_embeddings.inv_freq
    return state


def pair(arch: str, design: ViTDesign, folder: Path) -> tuple[Any, ViTBackbone]:
    """Return the reference and our network, which loads the reference's weights from a file of the official layout."""
    model = reference(design)
    path = folder / f"{arch}.pth"
    torch.save(official_state(model, design), path)
    net = ViTBackbone(arch=arch, design=design, side=4096)
    net.load_pretrained(path)
    path.unlink()
    return model, net.eval()


@torch.inference_mode()
def difference(model: Any, net: ViTBackbone, size: tuple[int, int], batch: int) -> tuple[float, float]:
    """Return the largest absolute differences of the tokens and of the features, and check that they vary."""
    images = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(batch + size[1]))
    normalised = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    expected = model(normalised).last_hidden_state
    patches = expected[:, 1 + net.design.registers :].transpose(1, 2).unflatten(2, net.grid.cells(size))
    if patches.std(dim=(-1, -2)).mean() < 0.01:
        raise ValueError("the reference's features hardly vary; the comparison would say nothing")
    tokens = (net.tokens(images) - expected).abs().max().item()
    return tokens, (net(images) - patches).abs().max().item()


def rows(arch: str, design: ViTDesign, sizes: list[tuple[int, int]]) -> Iterator[tuple[str, ...]]:
    """Yield a row of the table for each size and batch."""
    with tempfile.TemporaryDirectory() as folder:
        model, net = pair(arch, design, Path(folder))
    published = net.vit.offset
    for size in sizes:
        for batch in BATCHES:
            net.vit.offset = 0.0
            tokens, features = difference(model, net, size, batch)
            net.vit.offset = published
            trap = f"{difference(model, net, size, batch)[0]:.1e}" if published and batch == 1 else "–"
            name = f"{design.depth} blocks, {design.channels} channels, {design.registers} registers"
            yield arch, name, f"{size[0]}×{size[1]}", str(batch), f"{tokens:.1e}", f"{features:.1e}", trap


def key_of(line: str) -> tuple[str, ...]:
    """Return architecture, image size and batch of a row of the page."""
    cells = [cell.strip() for cell in line.split("|")]
    return (cells[1], *cells[3:5]) if len(cells) > 4 and cells[1] in VITS else ()


def table(archs: list[str], depth: int, page: Path, only: list[tuple[int, int]]) -> str:
    """Return the results as a Markdown page; rows of an existing page that are not measured again are kept."""
    transformers: Any = import_module("transformers")
    lines = [
        "# Vision transformers beside an independent implementation",
        "",
        f"Random weights of each design in `transformers` {transformers.__version__} (eager attention), converted to",
        "the official layout, written to a file and loaded strictly by `ViTBackbone`; float32 on a CPU, PyTorch",
        f"{torch.__version__}. Largest absolute differences of all tokens (class, registers, patches) and of the",
        "features, after the last LayerNorm, whose outputs are of the order of 1. The last column is the difference of",
        "the tokens with the published offset of 0.1 cells in the interpolation of positions, which `transformers`",
        "does not have (DINOv2 without registers; no interpolation happens at 518×518).",
        "",
        "Command: `python -m benchmarks.vit_reference --out docs/results/vit-reference.md`, of one architecture and",
        "size at a time with `--arch` and `--size`. Two blocks instead of 12 or 24 were measured with `--depth 2`.",
        "",
        "| architecture | design | image | batch | tokens | features | with the offset |",
        "|---|---|---|---|---|---|---|",
    ]
    old = page.read_text(encoding="utf8").splitlines() if page.exists() else []
    measured = {key: line for line in old if (key := key_of(line))}
    for arch in archs:
        design = VITS[arch]
        if depth and design.channels > SMALLEST:
            design = replace(design, depth=depth)
        for row in rows(arch, design, [size for size in SIZES[design.patch] if not only or size in only]):
            line = f"| {' | '.join(row)} |"
            measured[key_of(line)] = line
            print(line, flush=True)
    return "\n".join([*lines, *(line for arch in VITS for key, line in measured.items() if key[0] == arch)]) + "\n"


def size_of(text: str) -> tuple[int, int]:
    """Parse a size such as 224x308."""
    height, width = map(int, text.split("x"))
    return height, width


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    parser.add_argument("--arch", action="append", choices=tuple(VITS), help="architectures; by default, all")
    parser.add_argument("--depth", type=int, default=0, help="blocks of ViT-B and -L; 0: as published")
    parser.add_argument("--size", action="append", type=size_of, default=[], help="image sizes, as 224x308; or all")
    options = parser.parse_args()
    options.out.write_text(table(options.arch or list(VITS), options.depth, options.out, options.size), encoding="utf8")
