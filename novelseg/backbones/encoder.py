"""Loading of backbones: from pretrained weight files and from encoders that the pipeline trained."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from novelseg.backbones.contract import Backbone
from novelseg.backbones.registry import new_backbone
from novelseg.formats.network import read_record
from novelseg.formats.record import BackboneSpec, EncoderRecord

NETWORK = "encoder"


def pretrained_backbone(spec: BackboneSpec, weights: Path) -> Backbone:
    """Build a backbone from a pretrained weight file.

    Raises
    ------
    InputError
        If the file cannot be read or belongs to another architecture.
    """
    backbone = new_backbone(spec)
    backbone.load_pretrained(weights)
    return backbone


def load_encoder(path: Path, fold: int | None = None, base: list[str] | None = None) -> tuple[Backbone, EncoderRecord]:
    """Load a trained encoder, frozen and in evaluation mode, and the record stored with its weights.

    Raises
    ------
    InputError
        If the file cannot be read, or the encoder was trained for another fold or other base classes than those given.
    """
    record = read_record(path, EncoderRecord, NETWORK, fold, base)
    encoder = new_backbone(record.backbone)
    encoder.load_state_dict(load_file(path))
    return encoder.eval().requires_grad_(False), record
