"""A bundle: one file that holds what segmenting pictures needs, and where it came from; loading executes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from novelseg.backbones.contract import Backbone
from novelseg.backbones.registry import new_backbone
from novelseg.core.errors import InputError
from novelseg.formats.network import Kind, read_header, save_tensors
from novelseg.formats.record import EncoderRecord, from_json, to_json
from novelseg.methods.self_support.settings import SelfSupportSettings
from novelseg.methods.srofb.settings import SrofbSettings
from novelseg.methods.variants import RefinerSettings

BUNDLE = Kind("novelseg-bundle", 1, "make it with `novelseg export`")
ENCODER, PROTOTYPES = "encoder.", "prototypes."
# What the head says, as JSON.
HEAD = {
    "encoder": "record that lies beside the encoder's weights: architecture, scale, precision, fold, training",
    "srofb": "settings of the online classifier",
    "self_support": "settings of self-support matching; the defaults where an earlier version left it out",
    "classes": "base classes that the encoder has learned from",
    "lists": "lists of images, by MD5",
    "sources": "MD5 of the files that were packed",
    "prototypes": "attributes of the prototypes' file; empty if none were packed",
    "provenance": "records of the jobs that made encoder, index and prototypes, and of all before them",
}
LATER = {"self_support"}  # keys that bundles of earlier code lack


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes
    ----------
    encoder, record
        The trained encoder and its record.
    refiners
        Settings of the refinements.
    about
        The head, see :data:`HEAD`.
    prototypes
        ``bg/level1/centres`` and so on, as in the artifact; empty if none were packed.
    """

    encoder: Backbone
    record: EncoderRecord
    refiners: RefinerSettings
    about: dict[str, Any]
    prototypes: dict[str, Tensor]


def save_bundle(path: Path, bundle: Bundle) -> None:
    """Write a bundle; the caller makes it appear whole."""
    state = {f"{ENCODER}{name}": value for name, value in bundle.encoder.state_dict().items()}
    state |= {f"{PROTOTYPES}{name}": value for name, value in bundle.prototypes.items()}
    settings = {name: asdict(getattr(bundle.refiners, name)) for name in ("srofb", "self_support")}
    save_tensors(path, state, BUNDLE, {**bundle.about, "encoder": to_json(bundle.record), **settings})


def load_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises
    ------
    InputError
        If the file is absent, damaged, of another kind or version, or not whole.
    """
    about = read_header(path, BUNDLE)
    tensors = load_file(path)
    try:
        absent = sorted(HEAD.keys() - LATER - about.keys())
        if absent:
            raise KeyError(absent[0])
        record = from_json(EncoderRecord, about["encoder"])
        refiners = RefinerSettings(
            from_json(SrofbSettings, about["srofb"]), from_json(SelfSupportSettings, about.get("self_support", {}))
        )
        if record.precision not in ("fp32", "bf16") or not isinstance(about["classes"], list):
            raise ValueError("precision or classes")
        encoder = new_backbone(record.backbone)
        state = {name.removeprefix(ENCODER): value for name, value in tensors.items() if name.startswith(ENCODER)}
        encoder.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError, InputError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a whole bundle ({type(error).__name__}: {reason}); {BUNDLE.remedy}") from None
    prototypes = {
        name.removeprefix(PROTOTYPES): value for name, value in tensors.items() if name.startswith(PROTOTYPES)
    }
    return Bundle(encoder.eval().requires_grad_(False), record, refiners, about, prototypes)
