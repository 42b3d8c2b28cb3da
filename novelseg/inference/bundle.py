"""Bundles: a bundle is one file with all that segmenting pictures needs, and its origin; loading executes no code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from novelseg.backbones.contract import Backbone
from novelseg.backbones.registry import new_backbone
from novelseg.core.errors import InputError
from novelseg.formats.network import Kind, read_header, save_tensors
from novelseg.formats.record import EncoderRecord, from_json, to_json
from novelseg.methods.variants import SETTINGS, RefinerSettings, settings_from, settings_to_json

BUNDLE = Kind("novelseg-bundle", 1, "make it with `novelseg export`")
ENCODER, PROTOTYPES = "encoder.", "prototypes."
# Keys of the header, which is JSON, and their meanings.
HEADER = {
    "encoder": "record of the encoder: architecture, scale, precision, fold, training",
    **{name: f"settings of the refinement, as in the section `{name}` of params.yaml" for name in SETTINGS},
    "classes": "base classes on which the encoder was trained",
    "lists": "lists of images, by MD5",
    "sources": "MD5 of the packed files",
    "prototypes": "attributes of the prototypes' file; empty if no prototypes were packed",
    "provenance": "records of the jobs that made encoder, index and prototypes, and of all jobs upstream",
}
OPTIONAL = SETTINGS.keys() - {"srofb"}  # refinements that bundles of earlier code do not have


@dataclass(frozen=True)
class Bundle:
    """Content of a bundle.

    Attributes
    ----------
    encoder, record
        The trained encoder and its record.
    refiners
        Settings of the refinements.
    about
        The header, see :data:`HEADER`.
    prototypes
        ``bg/level1/centres`` and so on, as in the artifact; empty if no prototypes were packed.
    """

    encoder: Backbone
    record: EncoderRecord
    refiners: RefinerSettings
    about: dict[str, Any]
    prototypes: dict[str, Tensor]


def save_bundle(path: Path, bundle: Bundle) -> None:
    """Write a bundle; the caller provides a scratch path, so that the file appears whole."""
    state = {f"{ENCODER}{name}": value for name, value in bundle.encoder.state_dict().items()}
    state |= {f"{PROTOTYPES}{name}": value for name, value in bundle.prototypes.items()}
    head = {**bundle.about, "encoder": to_json(bundle.record), **settings_to_json(bundle.refiners)}
    save_tensors(path, state, BUNDLE, head)


def load_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises
    ------
    InputError
        If the file is absent, damaged, incomplete, or of another kind or version.
    """
    about = read_header(path, BUNDLE)
    tensors = load_file(path)
    try:
        absent = sorted(HEADER.keys() - OPTIONAL - about.keys())
        if absent:
            raise KeyError(absent[0])
        record = from_json(EncoderRecord, about["encoder"])
        refiners = settings_from(about)
        if record.precision not in ("fp32", "bf16") or not isinstance(about["classes"], list):
            raise ValueError("precision or classes")
        encoder = new_backbone(record.backbone)
        state = {name.removeprefix(ENCODER): value for name, value in tensors.items() if name.startswith(ENCODER)}
        encoder.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError, InputError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a complete bundle ({type(error).__name__}: {reason}); {BUNDLE.remedy}") from None
    prototypes = {
        name.removeprefix(PROTOTYPES): value for name, value in tensors.items() if name.startswith(PROTOTYPES)
    }
    return Bundle(encoder.eval().requires_grad_(False), record, refiners, about, prototypes)
