"""Decide whether artifacts are current, by comparing their records with the present parameters, code and inputs.

The times of files play no part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from novelseg.formats.provenance import Record, read_record
from stages.provenance.code import code_digest
from stages.provenance.digests import Digests
from workflow.config import Config
from workflow.plan import READS, record_of, stage_of
from workflow.recipe import sections


@dataclass(frozen=True)
class Job:
    """A planned job, as the engine's rule describes it.

    Attributes
    ----------
    options
        Wildcards of the outputs; a record holds those that are options of the stage.
    inputs
        All artifacts that the job reads.
    """

    options: dict[str, str]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Reason:
    """Reason why an artifact is stale: its kind (``parameter``, ``code``, ``input``, …) and the details."""

    kind: str
    details: str

    def __str__(self) -> str:
        return f"{self.kind} {self.details}".strip()


class Judge:
    """Comparison of records with the present parameters, code and inputs.

    Parameters
    ----------
    config
        The present parameters.
    digests
        Cached digests.

    Attributes
    ----------
    seen
        Digests of the files and folders that were asked for so far.
    """

    def __init__(self, config: Config, digests: Digests) -> None:
        self.config, self.digests = config, digests
        self._records: dict[str, Record | None] = {}
        self._parameters: dict[str, dict[str, dict[str, Any]]] = {}
        self._external: dict[str, dict[str, str]] = {}
        self.seen: dict[str, str | None] = {}

    def record(self, output: str) -> Record | None:
        """Return the record of the job that made an output; None if there is none."""
        path = record_of(output)
        if path not in self._records:
            self._records[path] = read_record(Path(path))
        return self._records[path]

    def parameters(self, stage: str) -> dict[str, dict[str, Any]]:
        """Return the present values of the sections that a stage reads, in the form of a record."""
        if stage not in self._parameters:
            values = {name: self.config.values(name) for name in sections(stage)}
            self._parameters[stage] = json.loads(json.dumps(values))
        return self._parameters[stage]

    @cached_property
    def fetched(self) -> frozenset[str]:
        """Stages with at least one planned output on this machine; others were neither made here nor pulled."""
        return frozenset(
            stage for stage in READS if any(Path(output).exists() for output in self.config.targets.of(stage))
        )

    @cached_property
    def _outside(self) -> frozenset[str]:
        """Parameters that are paths to files and folders outside the pipeline."""
        return frozenset(key for stage in READS for key in self.config.external(stage))

    def now(self, path: str) -> str | None:
        """Return the present digest of a file or folder; it is computed once and reused for all jobs that read it."""
        if path not in self.seen:
            self.seen[path] = self.digests.of(path)
        return self.seen[path]

    def external(self, stage: str) -> dict[str, str]:
        """Return the files and folders that a stage reads from outside the pipeline: option → path."""
        if stage not in self._external:
            paths = self.config.external(stage)
            self._external[stage] = {key.rpartition(".")[2]: path for key, path in paths.items()}
        return self._external[stage]

    def changed_parameter(self, record: Record, now: dict[str, dict[str, Any]]) -> str:
        """Return the first parameter that differs between a record and other values; empty if there is none.

        A path to a file or folder outside the pipeline does not count: what is there is compared as an input. It counts
        if nothing is there. A path that the stage does not read never counts.
        """
        then, external = record.parameters, self.config.external(record.stage)
        if then == now:
            return ""
        for section in sorted({*then, *now}):
            old, new = then.get(section, {}), now.get(section, {})
            for key in sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
                path = external.get(f"{section}.{key}", "")
                if f"{section}.{key}" in self._outside and not path and key not in record.inputs:
                    continue
                if not (old.get(key) and new.get(key) and key in record.inputs and path and Path(path).exists()):
                    return f"{section}.{key}"
        return next((section for section in sorted({*then, *now}) if (section in then) != (section in now)), "")

    def digest(self, name: str, record: Record) -> str:
        """Return the present digest of an input that a record names.

        An input that is not on this machine counts as unchanged: for an artifact, its own record holds the digest, and
        for anything else ``record``.
        """
        if not name.startswith(("artifacts/", "report/")):
            path = self.external(record.stage).get(name)
            return (self.now(path) if path else None) or record.inputs[name]
        if (now := self.now(name)) is not None:
            return now
        upstream = self.record(name)
        return upstream.outputs.get(name, "") if upstream else record.inputs[name]

    def _inputs(self, record: Record, job: Job | None) -> Reason | None:
        if job is not None:
            names = {*job.inputs, *self.external(record.stage)}
            if names != record.inputs.keys():
                first = min(names ^ record.inputs.keys())
                return Reason("input", f"{first} {'is new' if first in names else 'is no longer read'}")
        for name, md5 in record.inputs.items():
            if self.digest(name, record) != md5:
                return Reason("input", name)
        return None

    def _content(self, record: Record, outputs: tuple[str, ...]) -> Reason | None:
        if sorted(record.outputs) != sorted(outputs):
            return Reason("record", "names other files")
        for path in outputs:
            now = self.now(path)
            if now is None and stage_of(path) in self.fetched:
                return Reason("missing", path)
            if now is not None and now != record.outputs[path]:
                return Reason("content", f"of {path} differs from its record")
        return None

    def why(self, outputs: tuple[str, ...], job: Job | None = None) -> Reason | None:
        """Return why the outputs of one job are stale; None if they are current.

        Without ``job``, the inputs are those of the record: only Snakemake knows which inputs a rule has now.
        """
        record = self.record(outputs[0])
        stage = stage_of(outputs[0])
        if record is None:
            return Reason("record", "is missing")
        if record.stage != stage or (job is not None and not record.options.items() <= job.options.items()):
            return Reason("record", "describes another job")
        if changed := self.changed_parameter(record, self.parameters(stage)):
            return Reason("parameter", changed)
        if record.code != code_digest(stage):
            return Reason("code", f"of {stage}")
        return self._inputs(record, job) or self._content(record, outputs)

    def jobs(self, stage: str) -> list[tuple[str, ...]]:
        """Return the planned outputs of each job of a stage."""
        grouped: dict[str, list[str]] = {}
        for output in self.config.targets.of(stage):
            grouped.setdefault(record_of(output), []).append(output)
        return [tuple(outputs) for outputs in grouped.values()]

    def chain(self, output: str) -> list[tuple[str, Reason]]:
        """Return the stale artifacts among an output and all that it was made from, upstream ones first."""
        stale: dict[str, tuple[str, Reason]] = {}
        visited: set[str] = set()

        def visit(path: str) -> None:
            record_path = record_of(path)
            if record_path in visited:
                return
            visited.add(record_path)
            record = self.record(path)
            for name in record.inputs if record else ():
                if name.startswith("artifacts/"):
                    visit(name)
            outputs = tuple(record.outputs) if record else (path,)
            reason = self.why(outputs)
            if reason:
                stale[record_path] = (path, reason)

        visit(output)
        return list(stale.values())
