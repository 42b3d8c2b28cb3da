"""The encoder: a ResNet that takes uint8 images, and its weight files, which say how to rebuild it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stages.core.errors import InputError
from stages.models.resnet import ResNet
from stages.models.weights import load_strictly
from stages.sections.encoder import EncoderParams

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMAT, VERSION = "novelseg-encoder", 2


class Encoder(nn.Module):
    """ResNet with input normalisation: (B, 3, H, W) RGB in [0, 1] to (B, C, h, w)."""

    mean: Tensor
    std: Tensor

    def __init__(self, *, arch: str, stem: str, width: int) -> None:
        super().__init__()
        # Channels last in memory: what tensor cores and oneDNN's convolutions want.
        self.resnet = ResNet(arch=arch, stem=stem, width=width)
        self.resnet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    @property
    def channels(self) -> int:
        """Number of feature channels."""
        return self.resnet.channels

    def forward(self, images: Tensor) -> Tensor:
        """Features at stride 8."""
        normal = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.resnet(normal)
        return features


def new_encoder(params: EncoderParams, weights: Path) -> Encoder:
    """Build the encoder that the parameters describe, from a pretrained weight file."""
    encoder = Encoder(arch=params.arch, stem=params.stem, width=params.width)
    load_strictly(encoder.resnet, weights)
    return encoder


def save_encoder(path: Path, encoder: nn.Module, about: dict[str, Any]) -> None:
    """Write weights (safetensors) with everything needed to rebuild the encoder.

    Parameters
    ----------
    path
        Target; the caller makes it appear whole.
    encoder
        Trained encoder.
    about
        ``arch``, ``stem``, ``width``, ``precision``, ``scale``, ``resolution`` and what else should lie
        beside the weights.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    # One key: safetensors writes several in an order that differs from process to process.
    save_file(state, path, {FORMAT: json.dumps({"version": VERSION, **about}, sort_keys=True)})
    path.chmod(0o644)  # safetensors makes files that only their owner can read; a team shares these


def read_about(path: Path) -> dict[str, Any]:
    """What was written beside a trained encoder's weights.

    Raises
    ------
    InputError
        If the file is absent, damaged, or not written by this project.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the stage `baseline` or `train`") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable weight file ({error}); delete it and rerun its stage") from None
    if FORMAT not in meta:
        raise InputError(f"{path}: expected a '{FORMAT}' file; rerun `baseline` or `train`")
    about = json.loads(meta[FORMAT])
    if about.pop("version") != VERSION:
        raise InputError(
            f"{path}: {FORMAT} is of another version, this code reads {VERSION}: rerun `baseline` or `train`"
        )
    return dict(about)


def load_encoder(path: Path, fold: int | None = None) -> tuple[Encoder, dict[str, Any]]:
    """Rebuild a trained encoder and give what was written beside it.

    Raises
    ------
    InputError
        If the file cannot be read, or was trained for another fold than the one given: it has seen its novel classes.
    """
    about = read_about(path)
    if fold is not None and about["fold"] != fold:
        raise InputError(f"{path}: trained for fold {about['fold']}, not {fold}; give the encoder of fold {fold}")
    encoder = Encoder(**{key: about[key] for key in ("arch", "stem", "width")})
    encoder.load_state_dict(load_file(path))
    return encoder.eval().requires_grad_(False), about
