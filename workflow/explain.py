"""Page of text about an artifact: what it was made from and, if it is stale, why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError, nearest
from novelseg.formats.provenance import Record
from stages.provenance.code import code_digest
from stages.provenance.digests import Digests
from stages.provenance.record import versions_of
from workflow.config import load
from workflow.judge import Judge
from workflow.plan import READS, record_of, stage_of

FEW = 8  # largest number of inputs in one folder that are all listed


def _output(path: str, judge: Judge) -> str:
    """Return the output that a path names: itself, the first planned one in a folder, or that of a record."""
    planned = [output for stage in READS for output in judge.config.targets.of(stage)]
    name = Path(path).as_posix().rstrip("/")
    for output in planned:
        if name in (output, record_of(output)) or output.startswith(f"{name}/"):
            return output
    if judge.record(name) is not None and name.startswith(("artifacts/", "report/")):
        return name
    raise InputError(f"{path}: no stage makes it under the present parameters; {nearest(name, planned)}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values; keys are joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _parameters(record: Record, judge: Judge) -> list[str]:
    then, now = _flat(record.parameters), _flat(judge.parameters(record.stage))
    lines = []
    for key in sorted({*then, *now}):
        changed = f"   now {now[key]}" if key in now and now[key] != then.get(key) else ""
        lines.append(f"  {key}: {then.get(key, '(did not exist)')}{changed}")
    return lines or ["  (none)"]


def _inputs(record: Record, judge: Judge) -> list[str]:
    lines: list[str] = []
    folders: dict[str, list[str]] = {}
    for name in record.inputs:
        folders.setdefault(str(Path(name).parent), []).append(name)
    for folder, names in folders.items():
        changed = [name for name in names if judge.digest(name, record) != record.inputs[name]]
        if len(names) > FEW:
            lines.append(f"  {folder}/: {len(names)} files, of which {len(changed)} have changed")
        for name in names if len(names) <= FEW else changed[:FEW]:
            notes = ["has changed"] if name in changed else []
            if not Path(judge.external(record.stage).get(name, name)).exists():
                notes.append("not on this machine")
            lines.append(f"  {record.inputs[name][:12]}  {name}" + (f"   {', '.join(notes)}" if notes else ""))
    return lines or ["  (none)"]


def _versions(record: Record) -> str:
    here = versions_of(record.versions)
    other = {name: here[name] for name in record.versions if name in here and here[name] != record.versions[name]}
    text = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return text + (f"   (here {', '.join(f'{name} {version}' for name, version in other.items())})" if other else "")


def explain(path: str) -> str:
    """Return the page about an artifact, the first artifact in a folder, or that of a record.

    Raises
    ------
    InputError
        If no stage makes such an artifact.
    """
    judge = Judge(load(), Digests())
    output = _output(path, judge)
    record, stage = judge.record(output), stage_of(output)
    chain = judge.chain(output)
    own = [str(reason) for name, reason in chain if record_of(name) == record_of(output)]
    before = [f"{name}: {reason}" for name, reason in chain if record_of(name) != record_of(output)]
    if not chain:
        verdict = "current: the present parameters, code and inputs would make the same"
    elif own:
        verdict = f"STALE: {own[0]}"
    else:
        verdict = "STALE: an artifact that it was made from is stale"
    lines = [output, "", verdict, *(f"  because of {line}" for line in before)]
    if record is None:
        lines += ["", f"There is no record {record_of(output)}; `snakemake {stage}_all` makes artifact and record."]
        return "\n".join(lines)
    options = "".join(f", {key} {value}" for key, value in record.options.items())
    code = "" if record.code == code_digest(stage) else f"   now {code_digest(stage)[:12]}"
    lines += ["", f"stage {record.stage}{options}", "", "parameters", *_parameters(record, judge)]
    lines += ["", f"code {record.code[:12]}{code}", f"versions {_versions(record)}"]
    lines += ["", "inputs", *_inputs(record, judge), "", "outputs"]
    for name, md5 in record.outputs.items():
        lines.append(f"  {md5[:12]}  {name}" + ("" if Path(name).exists() else "   not on this machine"))
    return "\n".join(lines)
