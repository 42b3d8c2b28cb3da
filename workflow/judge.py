"""Is an artifact what the present parameters, code and inputs would make? Its record is compared, never its time."""

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
    """What an engine is about to make, as its rule says.

    Attributes
    ----------
    options
        The wildcards of its outputs; a record names those that the stage is told.
    inputs
        Every artifact that it reads.
    """

    options: dict[str, str]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Reason:
    """Why an artifact is stale: the kind (``parameter``, ``code``, ``input``, …) and what it is about."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what}".strip()


def _differing(old: dict[str, Any], new: dict[str, Any]) -> str:
    """First key, in the order of the alphabet, whose values differ; empty if none."""
    return min((key for key in {*old, *new} if old.get(key) != new.get(key)), default="")


class Judge:
    """Compares records with the present.

    Parameters
    ----------
    config
        The present parameters.
    digests
        Memory of digests.
    """

    def __init__(self, config: Config, digests: Digests) -> None:
        self.config, self.digests = config, digests
        self._records: dict[str, Record | None] = {}
        self._parameters: dict[str, dict[str, dict[str, Any]]] = {}
        self._given: dict[str, dict[str, str]] = {}
        self.seen: dict[str, str | None] = {}

    def record(self, output: str) -> Record | None:
        """Record of the job that made an output."""
        path = record_of(output)
        if path not in self._records:
            self._records[path] = read_record(Path(path))
        return self._records[path]

    def parameters(self, stage: str) -> dict[str, dict[str, Any]]:
        """Present values of the sections that a stage reads, as a record holds them."""
        if stage not in self._parameters:
            values = {name: self.config.values(name) for name in sections(stage)}
            self._parameters[stage] = json.loads(json.dumps(values))
        return self._parameters[stage]

    @cached_property
    def fetched(self) -> frozenset[str]:
        """Stages of which at least one planned output lies here; the others were never made here, or not pulled."""
        return frozenset(
            stage for stage in READS if any(Path(output).exists() for output in self.config.targets.of(stage))
        )

    def now(self, path: str) -> str | None:
        """Digest of a file or folder as it is; asked once, however many jobs read it."""
        if path not in self.seen:
            self.seen[path] = self.digests.of(path)
        return self.seen[path]

    def given(self, stage: str) -> dict[str, str]:
        """What a stage is given from outside: option → path."""
        if stage not in self._given:
            found = self.config.given(stage)
            self._given[stage] = {key.rpartition(".")[2]: path for key, path in found.items()}
        return self._given[stage]

    def digest(self, name: str, made: Record) -> str:
        """Digest of an input now. What is not here counts as what it was: an artifact's record tells, or ``made``."""
        if not name.startswith(("artifacts/", "report/")):
            path = self.given(made.stage).get(name)
            return (self.now(path) if path else None) or made.inputs[name]
        if (now := self.now(name)) is not None:
            return now
        upstream = self.record(name)
        return upstream.outputs.get(name, "") if upstream else made.inputs[name]

    def _inputs(self, made: Record, job: Job | None) -> Reason | None:
        if job is not None:
            names = {*job.inputs, *self.given(made.stage)}
            if names != made.inputs.keys():
                first = min(names ^ made.inputs.keys())
                return Reason("input", f"{first} {'is new' if first in names else 'no longer counts'}")
        for name, recorded in made.inputs.items():
            if self.digest(name, made) != recorded:
                return Reason("input", name)
        return None

    def _content(self, made: Record, outputs: tuple[str, ...]) -> Reason | None:
        if sorted(made.outputs) != sorted(outputs):
            return Reason("record", "is of other files")
        for path in outputs:
            found = self.now(path)
            if found is None and stage_of(path) in self.fetched:
                return Reason("missing", path)
            if found is not None and found != made.outputs[path]:
                return Reason("content", f"of {path} is not what its record says")
        return None

    def why(self, outputs: tuple[str, ...], job: Job | None = None) -> Reason | None:
        """Why outputs of one job are not what the present would make; None when they are.

        Without ``job``, the inputs are those of the record: only Snakemake knows which a rule asks for now.
        """
        made = self.record(outputs[0])
        stage = stage_of(outputs[0])
        if made is None:
            return Reason("record", "is missing")
        if made.stage != stage or (job is not None and not made.options.items() <= job.options.items()):
            return Reason("record", "is of another job")
        now = self.parameters(stage)
        if made.parameters != now:
            section = _differing(made.parameters, now)
            key = _differing(made.parameters.get(section, {}), now.get(section, {}))
            return Reason("parameter", f"{section}.{key}" if key else section)
        if made.code != code_digest(stage):
            return Reason("code", f"of {stage}")
        return self._inputs(made, job) or self._content(made, outputs)

    def jobs(self, stage: str) -> list[tuple[str, ...]]:
        """Outputs of each job of a stage, by the plan."""
        grouped: dict[str, list[str]] = {}
        for output in self.config.targets.of(stage):
            grouped.setdefault(record_of(output), []).append(output)
        return [tuple(outputs) for outputs in grouped.values()]

    def chain(self, output: str) -> list[tuple[str, Reason]]:
        """Stale artifacts among an output and all that it was made from, the earliest first."""
        found: dict[str, tuple[str, Reason]] = {}
        seen: set[str] = set()

        def visit(path: str) -> None:
            record = record_of(path)
            if record in seen:
                return
            seen.add(record)
            made = self.record(path)
            for name in made.inputs if made else ():
                if name.startswith("artifacts/"):
                    visit(name)
            outputs = tuple(made.outputs) if made else (path,)
            reason = self.why(outputs)
            if reason:
                found[record] = (path, reason)

        visit(output)
        return list(found.values())
