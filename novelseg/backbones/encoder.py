"""Loading of backbones: from pretrained weight files and from encoders that the pipeline trained."""

from __future__ import annotations

from pathlib import Path

from novelseg.backbones.contract import Backbone
from novelseg.backbones.registry import new_backbone
from novelseg.backbones.weights import UNBUILDABLE, build_and_load, first_line
from novelseg.core.errors import InputError
from novelseg.formats.network import NETWORK as FILE
from novelseg.formats.network import read_record, read_tensors
from novelseg.formats.record import PRETRAINED, BackboneSpec, EncoderRecord, facts_of

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


def pretrained_encoder(
    spec: BackboneSpec, weights: Path, *, precision: str = "fp32", scale: float = 10.0
) -> tuple[Backbone, EncoderRecord]:
    """Load pretrained weights as an encoder of which nothing is trained: frozen, in evaluation mode, with a record.

    Parameters
    ----------
    spec, weights
        Settings of the backbone, and its weight file.
    precision
        ``fp32`` or ``bf16``.
    scale
        Factor of the cosine in matching.

    Raises
    ------
    InputError
        If the file cannot be read or belongs to another architecture.
    """
    record = EncoderRecord(
        network=NETWORK,
        stage=PRETRAINED,
        fold=0,
        classes=[],
        **facts_of(spec),
        precision=precision,
        resolution="",
        iterations=0,
        seed=0,
        scale=scale,
    )
    return pretrained_backbone(spec, weights).eval().requires_grad_(False), record


def freeze(backbone: Backbone, trained: int | None) -> None:
    """Freeze all but the last parts of a backbone.

    Parameters
    ----------
    backbone
        The backbone; see :meth:`Backbone.parts`.
    trained
        Number of last parts that stay trainable; None for all, 0 for none.

    Raises
    ------
    InputError
        If the backbone has fewer parts.
    """
    parts = backbone.parts()
    if trained is None:
        return
    if trained > len(parts):
        raise InputError(f"encoder.train is {trained}; the encoder has {len(parts)} parts: expected at most as many")
    for part in parts[: len(parts) - trained]:
        part.requires_grad_(False)


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
