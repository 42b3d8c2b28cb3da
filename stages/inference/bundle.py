"""A bundle: one file that holds what segmenting pictures needs, and where it came from; loading executes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from stages.core.errors import InputError
from stages.models.encoder import Encoder, rebuilt
from stages.models.files import Kind, read_head, save_tensors
from stages.sections.srofb import SrofbParams

BUNDLE = Kind("novelseg-bundle", 1, "make it with `python -m stages export`")
ENCODER, PROTOTYPES = "encoder.", "prototypes."
# What the head says, as JSON.
HEAD = {
    "encoder": "what was written beside the encoder's weights: architecture, scale, precision, fold, training",
    "srofb": "parameters of the online classifier",
    "classes": "base classes that the encoder has learned from",
    "lists": "lists of images, by MD5",
    "sources": "MD5 of the files that were packed",
    "prototypes": "attributes of the prototypes' file; empty if none were packed",
    "provenance": "records of the jobs that made encoder, index and prototypes, and of all before them",
}


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes
    ----------
    encoder
        The trained encoder.
    about
        The head, see :data:`HEAD`.
    prototypes
        ``bg/level1/centres`` and so on, as in the artifact; empty if none were packed.
    """

    encoder: Encoder
    about: dict[str, Any]
    prototypes: dict[str, Tensor]

    @property
    def srofb(self) -> SrofbParams:
        """Parameters of the online classifier."""
        return SrofbParams.model_validate(self.about["srofb"])


def save_bundle(path: Path, bundle: Bundle) -> None:
    """Write a bundle; the caller makes it appear whole."""
    state = {f"{ENCODER}{name}": value for name, value in bundle.encoder.state_dict().items()}
    state |= {f"{PROTOTYPES}{name}": value for name, value in bundle.prototypes.items()}
    save_tensors(path, state, BUNDLE, bundle.about)


def load_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises
    ------
    InputError
        If the file is absent, damaged, of another kind or version, or not whole.
    """
    about = read_head(path, BUNDLE)
    tensors = load_file(path)
    try:
        encoder = rebuilt(about["encoder"])
        state = {name.removeprefix(ENCODER): value for name, value in tensors.items() if name.startswith(ENCODER)}
        encoder.load_state_dict(state)
        prototypes = {
            name.removeprefix(PROTOTYPES): value for name, value in tensors.items() if name.startswith(PROTOTYPES)
        }
        bundle = Bundle(encoder.eval().requires_grad_(False), about, prototypes)
        absent = sorted(HEAD.keys() - about.keys())
        if absent:
            raise KeyError(absent[0])
        _ = bundle.srofb, float(about["encoder"]["scale"])
        if about["encoder"]["precision"] not in ("fp32", "bf16") or not isinstance(about["classes"], list):
            raise ValueError("precision or classes")
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError, ValidationError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path}: not a whole bundle ({type(error).__name__}: {said}); {BUNDLE.remedy}") from None
    return bundle
