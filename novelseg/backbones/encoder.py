"""Loading of backbones: from pretrained weight files and from encoders that the pipeline trained."""

from __future__ import annotations

from pathlib import Path

from novelseg.backbones.contract import Backbone
from novelseg.backbones.registry import new_backbone
from novelseg.backbones.weights import UNBUILDABLE, build_and_load, first_line
from novelseg.core.errors import InputError
from novelseg.formats.network import NETWORK as FILE
from novelseg.formats.network import read_record, read_tensors
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
    _, state = read_tensors(path, FILE)
    try:
        encoder = build_and_load(lambda: new_backbone(record.backbone), state)
    except (InputError, *UNBUILDABLE) as error:
        raise InputError(f"{path}: its weights do not fit its header ({first_line(error)}); {FILE.remedy}") from None
    return encoder.eval().requires_grad_(False), record
