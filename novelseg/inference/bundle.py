"""Bundles: a bundle is one file with all that segmenting pictures needs, and its origin; loading executes no code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from novelseg.backbones.contract import Backbone
from novelseg.backbones.designs import VITS
from novelseg.backbones.encoder import pretrained_encoder
from novelseg.backbones.recognise import STEMS, recognise
from novelseg.backbones.registry import new_backbone
from novelseg.backbones.weights import UNBUILDABLE, build_and_load, first_line
from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.fetch.cache import WEIGHTS, cached_weights
from novelseg.formats.levels import DTYPES, LEVELS, SIDES, TYPES, levels_fault
from novelseg.formats.network import Kind, read_tensors, save_tensors, stated_source
from novelseg.formats.record import EncoderRecord, fits, from_json, to_json
from novelseg.inference.fitted import Fitted, from_parts, to_parts
from novelseg.methods.refiners import SETTINGS, RefinerSettings, settings_from, settings_to_json

BUNDLE = Kind("novelseg-bundle", 2, "make it with `novelseg export`", 1)
FIT_AGAIN = "fit it again with `novelseg segment --support … --save`"
ENCODER, PROTOTYPES, HEAD = "encoder.", "prototypes.", "head."
# Keys of the header, which is JSON, and their meanings.
HEADER = {
    "encoder": "record of the encoder: architecture, scale, precision, fold, training",
    **{name: f"settings of the refinement, as in the section `{name}` of params.yaml" for name in SETTINGS},
    "classes": "base classes on which the encoder was trained",
    "lists": "lists of images, by MD5",
    "source": "origin of the training images, as in the artifact `index`; empty or missing if it is unknown",
    "sources": "MD5 of the packed files",
    "prototypes": "attributes of the prototypes' file; empty if no prototypes were packed",
    "provenance": "records of the jobs that made encoder, index and prototypes, and of all jobs upstream",
    "fitted": "of a fitted segmenter: its classes, supports, side, and numbers of prototypes; otherwise missing",
}
OPTIONAL = (SETTINGS.keys() - {"srofb"}) | {"source", "fitted"}  # entries that bundles of earlier code do not have
DRAWN = "scenes"  # source of images that novelseg.data.scenes draws
# Settings that are missing in bundles of earlier versions → the values that those versions used.
EARLIER: dict[str, dict[str, Any]] = {"srofb": {"feature_norm": 0.0}}


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
    fitted
        The head of a fitted segmenter; None if the bundle is none.
    """

    encoder: Backbone
    record: EncoderRecord
    refiners: RefinerSettings
    about: dict[str, Any]
    prototypes: dict[str, Tensor]
    fitted: Fitted | None = None

    @property
    def caution(self) -> str:
        """What to know before segmenting photographs; empty if there is nothing."""
        if self.about.get("source") != DRAWN:
            return ""
        return (
            "this network was trained on drawn scenes, not on photographs, whose masks will be poor; for photographs, "
            "give pretrained weights such as resnet50"
        )


def pretrained_bundle(weights: Path | str, stem: str = "", side: int = 512) -> Bundle:
    """Build a bundle of pretrained weights, of which nothing was trained for few-shot segmentation.

    Parameters
    ----------
    weights
        Weight file, or a name in :data:`novelseg.fetch.cache.WEIGHTS`, which is downloaded at the first use.
    stem
        See :func:`novelseg.backbones.recognise.recognise`.
    side
        Longest side of a picture in a vision transformer, px.

    Raises
    ------
    InputError
        If the weights cannot be downloaded or read, or their architecture is unknown.
    """
    path = weight_file(weights)
    if stem not in ("", *STEMS):
        raise InputError(f"stem is '{stem}'; expected one of {', '.join(STEMS)}")
    spec = recognise(path, stem)
    encoder, record = pretrained_encoder(replace(spec, side=side) if spec.arch in VITS else spec, path)
    about = {
        "classes": [],
        "lists": {},
        "source": stated_source(path),
        "sources": {"encoder": digest(path)},
        "prototypes": {},
        "provenance": [],
    }
    return Bundle(encoder, record, RefinerSettings(), about, {})


def weight_file(weights: Path | str) -> Path:
    """Return the path of weights that are given by path or by name.

    Raises
    ------
    InputError
        If there is neither such a file nor such a name, or the download fails.
    """
    if str(weights) in WEIGHTS and not Path(weights).exists():
        return cached_weights(str(weights))
    if not Path(weights).exists():
        raise InputError(f"{weights}: no such file; expected a weight file, or one of the names {', '.join(WEIGHTS)}")
    return Path(weights)


def save_bundle(path: Path, bundle: Bundle) -> None:
    """Write a bundle; the caller provides a scratch path, so that the file appears whole."""
    state = {f"{ENCODER}{name}": value for name, value in bundle.encoder.state_dict().items()}
    state |= {f"{PROTOTYPES}{name}": value for name, value in bundle.prototypes.items()}
    head = {**bundle.about, "encoder": to_json(bundle.record), **settings_to_json(bundle.refiners)}
    if bundle.fitted:
        head["fitted"], tensors = to_parts(bundle.fitted)
        state |= {f"{HEAD}{name}": value for name, value in tensors.items()}
    save_tensors(path, state, BUNDLE, head)


def load_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises
    ------
    InputError
        If the file is absent, damaged, incomplete, or of another kind or version.
    """
    about, tensors = read_tensors(path, BUNDLE)
    prototypes = {
        name.removeprefix(PROTOTYPES): value for name, value in tensors.items() if name.startswith(PROTOTYPES)
    }
    remedy = FIT_AGAIN if "fitted" in about else BUNDLE.remedy
    try:
        absent = sorted(HEADER.keys() - OPTIONAL - about.keys())
        if absent:
            raise KeyError(absent[0])
        record = from_json(EncoderRecord, about["encoder"])
        refiners = settings_from({name: {**EARLIER.get(name, {}), **about[name]} for name in SETTINGS if name in about})
        _check_header(about)
        if prototypes or about["prototypes"]:
            _check_prototypes(prototypes, about["prototypes"])
        state = {name.removeprefix(ENCODER): value for name, value in tensors.items() if name.startswith(ENCODER)}
        head = {name.removeprefix(HEAD): value for name, value in tensors.items() if name.startswith(HEAD)}
        parts = (ENCODER, PROTOTYPES, *([HEAD] if "fitted" in about else []))
        if strays := sorted(name for name in tensors if not name.startswith(parts)):
            raise ValueError(f"the tensor '{strays[0]}' belongs to no part of a bundle")
        encoder = build_and_load(lambda: new_backbone(record.backbone), state)
        fitted = None
        if "fitted" in about:
            fitted = from_parts(about.pop("fitted"), head, refiners.closed_form, encoder.channels)
    except (InputError, *UNBUILDABLE) as error:
        raise InputError(
            f"{path}: not a complete bundle ({type(error).__name__}: {first_line(error)}); {remedy}"
        ) from None
    return Bundle(encoder.eval().requires_grad_(False), record, refiners, about, prototypes, fitted)


def _check_header(about: dict[str, Any]) -> None:
    """Check the types of the entries that are not records.

    Raises
    ------
    ValueError
        If an entry is of another type; the message names it.
    """
    kinds: dict[str, Any] = {
        **{"classes": list[str], "lists": dict[str, str], "source": str},
        "sources": dict[str, str],
    }
    for name, kind in kinds.items():
        if name in about and not fits(about[name], kind):
            raise ValueError(f"'{name}' is {about[name]!r:.60}; expected {kind}")
    if len(set(about["classes"])) < len(about["classes"]):
        raise ValueError("'classes' names a class twice")
    if not isinstance(about["prototypes"], dict) or not isinstance(about["provenance"], list):
        raise ValueError("'prototypes' or 'provenance' has the wrong type; expected an object and a list")


def _check_prototypes(prototypes: dict[str, Tensor], attributes: dict[str, Any]) -> None:
    """Check the prototypes in a bundle as strictly as an artifact `prototypes`.

    Raises
    ------
    ValueError
        If an array or attribute is missing, unexpected or of another type, or they contradict each other.
    """
    for name, kind in TYPES.items():
        if not fits(attributes.get(name), kind):
            raise ValueError(f"'prototypes.{name}' is {attributes.get(name)!r:.60}; expected {kind}")
    parts = [f"{side}/level{level}" for side in SIDES for level in LEVELS]
    expected = {f"{part}/{name}": dtype for part in parts for name, dtype in DTYPES.items()}
    if differing := sorted(expected.keys() ^ prototypes.keys()):
        raise ValueError(f"'prototypes.{differing[0]}' is missing or unexpected")
    arrays = {name: value.numpy() for name, value in prototypes.items()}
    width = arrays[f"{parts[0]}/centres"].shape[-1:]
    for name, dtype in expected.items():
        count = arrays[f"{name.rpartition('/')[0]}/members"].shape[:1]
        shape = count + width if name.endswith("centres") else count
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape or not shape:
            raise ValueError(f"'prototypes.{name}' is {array.dtype} of shape {array.shape}; expected {dtype}, {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"'prototypes.{name}' contains NaN or infinite values")
    if fault := levels_fault(arrays, attributes):
        raise ValueError(f"prototypes: {fault}")
