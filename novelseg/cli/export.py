"""Pack an encoder into a bundle, a single file for segmenting pictures without the pipeline.

Reads
    pretrained weights; or an encoder of the stage ``train`` or ``baseline`` and the ``index`` of its data set.
    Optionally ``prototypes``, provenance records, and a file with settings of the refinements.
Writes
    a safetensors file with all of these; settings and provenance are in its header. ``novelseg segment`` and
    ``novelseg.Segmenter`` read it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from novelseg.backbones.encoder import load_encoder
from novelseg.cli.options import Stem, Weights
from novelseg.core.errors import InputError
from novelseg.core.extras import needs_extras
from novelseg.core.files import digest, whole_file
from novelseg.core.options import Help
from novelseg.core.progress import say
from novelseg.formats.provenance import Record, read_record
from novelseg.inference.bundle import Bundle, pretrained_bundle, save_bundle
from novelseg.methods.refiners import read_settings


def lineage_of(folder: Path, files: list[str]) -> list[Record]:
    """Return the records of the jobs that wrote some files, and of all jobs that those depend on, the latest first.

    Parameters
    ----------
    folder
        Folder of provenance records.
    files
        MD5 of each file.

    Raises
    ------
    InputError
        If the folder contains no record of a file.
    """
    records = [record for path in sorted(folder.rglob("*.json")) if (record := read_record(path))]
    by_output = {md5: record for record in records for md5 in record.outputs.values()}
    lineage: list[Record] = []
    for md5 in files:
        if md5 not in by_output:
            raise InputError(
                f"{folder}: contains no record of a file with MD5 {md5}; give the records of the project that made it"
            )
    pending = list(files)
    while pending:
        record = by_output.get(pending.pop(0))
        if record and record not in lineage:
            lineage.append(record)
            pending += record.inputs.values()
    return lineage


def _read_prototypes(path: Path, fold: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the arrays and attributes of a prototype file, which must be of the given fold."""
    from novelseg.formats import hdf5
    from novelseg.formats.prototypes import PROTOTYPES

    with hdf5.opened(path, PROTOTYPES) as file:
        attributes = {name: hdf5.attribute(file, name) for name in PROTOTYPES.attrs}
        if attributes["fold"] != fold:
            raise InputError(
                f"{path}: contains the prototypes of fold {attributes['fold']}; expected those of fold {fold}, on "
                "which the encoder was trained; give that file as --prototypes"
            )
        return {name: torch.from_numpy(file[name][:]) for name in PROTOTYPES.fields}, attributes


def run(
    *,
    out: Annotated[Path, Help("bundle to write")],
    encoder: Annotated[Path | None, Help("weights of the encoder to pack; with --index")] = None,
    index: Annotated[Path | None, Help("index of the data set that the encoder was trained on")] = None,
    weights: Weights = "",
    stem: Stem = "",
    params: Annotated[
        Path | None,
        Help("file with settings of the refinements, such as params.yaml; without it, the defaults of the library"),
    ] = None,
    prototypes: Annotated[Path | None, Help("file of prototypes to include")] = None,
    provenance: Annotated[
        Path | None, Help("folder of provenance records, of which those of the packed files are included")
    ] = None,
) -> None:
    """Write a bundle of the encoder, its settings, and optionally prototypes and provenance."""
    if weights:
        if encoder or index or prototypes or provenance:
            raise InputError("--weights packs pretrained weights alone; leave out --encoder, --index and the others")
        bundle = replace(pretrained_bundle(weights, stem), refiners=read_settings(params))
        with whole_file(out) as scratch:
            save_bundle(scratch, bundle)
        say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, pretrained {bundle.record.arch}; nothing was trained")
        return
    if encoder is None or index is None:
        raise InputError("expected --encoder with --index, or --weights")
    with needs_extras("novelseg export --encoder"):
        _pack(encoder, index, out, params, prototypes, provenance)


def _pack(
    encoder: Path, index: Path, out: Path, params: Path | None, prototypes: Path | None, provenance: Path | None
) -> None:
    """Pack an encoder that the pipeline has trained."""
    from novelseg.data.index import read_index

    data = read_index(index)
    network, record = load_encoder(encoder)
    load_encoder(encoder, record.fold, data.base_names(record.fold))
    tensors, attributes = _read_prototypes(prototypes, record.fold) if prototypes else ({}, {})
    files = {"encoder": encoder, "index": index, **({"prototypes": prototypes} if prototypes else {})}
    sources = {name: digest(path) for name, path in files.items()}
    records = lineage_of(provenance, list(sources.values())) if provenance else []
    for job in records:
        if sources["encoder"] in job.outputs.values() and sources["index"] not in job.inputs.values():
            raise InputError(f"{index}: is not the index that {encoder} was trained with; give that index")
    about = {
        "classes": record.classes,
        "lists": dict(zip(data.lists, data.list_digests, strict=True)),
        "source": data.source,
        "sources": sources,
        "prototypes": attributes,
        "provenance": [asdict(job) for job in records],
    }
    with whole_file(out) as scratch:
        save_bundle(scratch, Bundle(network, record, read_settings(params), about, tensors))
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {len(tensors)} arrays of prototypes, {len(records)} records")
