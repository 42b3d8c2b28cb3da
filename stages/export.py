"""A trained encoder and what belongs to it → one bundle, which segments pictures without the pipeline.

Reads
    an encoder that ``train`` or ``baseline`` wrote, ``index``, and if given ``prototypes`` and the provenance records.
Writes
    one file (safetensors, what it is in its head): encoder, parameters of the online classifier, prototypes,
    provenance. Not a pipeline stage: ``python -m stages segment`` and ``stages.inference.Segmenter`` read it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.artifacts import hdf5
from stages.artifacts.formats.prototypes import PROTOTYPES
from stages.core.digests import digest_once
from stages.core.errors import InputError
from stages.core.files import whole_file
from stages.core.progress import say
from stages.core.provenance import Record, read_record
from stages.data.index import read_index
from stages.inference.bundle import Bundle, save_bundle
from stages.models.encoder import load_encoder
from stages.models.files import read_about
from stages.sections.srofb import SrofbParams


def lineage(folder: Path, files: list[str]) -> list[Record]:
    """Records of the jobs that made files (by MD5), and of all that these were made from, the last first.

    Raises
    ------
    InputError
        If no record knows one of the files.
    """
    records = [record for path in sorted(folder.rglob("*.json")) if (record := read_record(path))]
    makers = {md5: record for record in records for md5 in record.outputs.values()}
    found: list[Record] = []
    for md5 in files:
        if md5 not in makers:
            raise InputError(f"{folder}: no record there has made the file with MD5 {md5}; give the project's records")
    waiting = list(files)
    while waiting:
        record = makers.get(waiting.pop(0))
        if record and record not in found:
            found.append(record)
            waiting += record.inputs.values()
    return found


def _prototypes(path: Path, fold: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with hdf5.opened(path, PROTOTYPES) as file:
        attributes = {name: hdf5.attribute(file, name) for name in PROTOTYPES.attrs}
        if attributes["fold"] != fold:
            raise InputError(
                f"{path}: prototypes of fold {attributes['fold']}, but the encoder is of fold {fold}; give those"
            )
        return {name: torch.from_numpy(file[name][:]) for name in PROTOTYPES.fields}, attributes


def run(
    *,
    encoder: Path,
    index: Path,
    out: Path,
    srofb: SrofbParams,
    prototypes: Path | None = None,
    provenance: Path | None = None,
) -> None:
    """Pack a bundle; ``provenance`` is the project's folder of records."""
    data, fold = read_index(index), read_about(encoder)["fold"]
    network, trained = load_encoder(encoder, fold, data.base_names(fold))
    tensors, attributes = _prototypes(prototypes, fold) if prototypes else ({}, {})
    given = {"encoder": encoder, "index": index, **({"prototypes": prototypes} if prototypes else {})}
    sources = {name: digest_once(path) for name, path in given.items()}
    records = lineage(provenance, list(sources.values())) if provenance else []
    for record in records:
        if sources["encoder"] in record.outputs.values() and sources["index"] not in record.inputs.values():
            raise InputError(f"{index}: not the index that {encoder} was trained with; give that one")
    about = {
        "encoder": trained,
        "srofb": srofb.model_dump(),
        "classes": trained["classes"],
        "lists": dict(zip(data.lists, data.list_digests, strict=True)),
        "sources": sources,
        "prototypes": attributes,
        "provenance": [asdict(record) for record in records],
    }
    with whole_file(out) as scratch:
        save_bundle(scratch, Bundle(network, about, tensors))
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {len(tensors)} arrays of prototypes, {len(records)} records")
