"""What an artifact was made from and, if it is stale, why: one page of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.text import nearest
from novelseg.formats.provenance import Record
from stages.provenance.code import code_digest
from stages.provenance.digests import Digests
from stages.provenance.record import versions_of
from workflow.config import load
from workflow.judge import Judge
from workflow.plan import READS, record_of, stage_of

FEW = 8  # inputs of one folder that are listed one by one


def _output(path: str, judge: Judge) -> str:
    """The planned output that a path means: itself, its folder's first, or its record's."""
    planned = [output for stage in READS for output in judge.config.targets.of(stage)]
    wanted = Path(path).as_posix().rstrip("/")
    for output in planned:
        if wanted in (output, record_of(output)) or output.startswith(f"{wanted}/"):
            return output
    if judge.record(wanted) is not None and wanted.startswith(("artifacts/", "report/")):
        return wanted
    raise InputError(f"{path}: no stage makes it under the present parameters; {nearest(wanted, planned)}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _parameters(made: Record, judge: Judge) -> list[str]:
    then, now = _flat(made.parameters), _flat(judge.parameters(made.stage))
    lines = []
    for key in sorted({*then, *now}):
        changed = f"   now {now[key]}" if key in now and now[key] != then.get(key) else ""
        lines.append(f"  {key}: {then.get(key, '(did not exist)')}{changed}")
    return lines or ["  (none)"]


def _inputs(made: Record, judge: Judge) -> list[str]:
    lines: list[str] = []
    folders: dict[str, list[str]] = {}
    for name in made.inputs:
        folders.setdefault(str(Path(name).parent), []).append(name)
    for folder, names in folders.items():
        changed = [name for name in names if judge.digest(name, made) != made.inputs[name]]
        listed = names if len(names) <= FEW else changed[:FEW]
        if len(names) > FEW:
            lines.append(f"  {folder}/: {len(names)} files, {len(changed)} of them others now")
        for name in listed:
            notes = ["is another now"] if name in changed else []
            if not Path(judge.given(made.stage).get(name, name)).exists():
                notes.append("not here")
            lines.append(f"  {made.inputs[name][:12]}  {name}" + (f"   {', '.join(notes)}" if notes else ""))
    return lines or ["  (none)"]


def _versions(made: Record) -> str:
    here = versions_of(made.versions)
    other = {name: here[name] for name in made.versions if name in here and here[name] != made.versions[name]}
    text = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    return text + (f"   (here {', '.join(f'{name} {version}' for name, version in other.items())})" if other else "")


def explain(path: str) -> str:
    """The page of an artifact, of a folder's first, or of a record.

    Raises
    ------
    InputError
        If no stage makes it.
    """
    judge = Judge(load(), Digests())
    output = _output(path, judge)
    made, stage = judge.record(output), stage_of(output)
    chain = judge.chain(output)
    own = [str(reason) for name, reason in chain if record_of(name) == record_of(output)]
    before = [f"{name}: {reason}" for name, reason in chain if record_of(name) != record_of(output)]
    if not chain:
        verdict = "current: the present parameters, code and inputs would make the same"
    elif own:
        verdict = f"STALE: {own[0]}"
    else:
        verdict = "STALE: what it was made from is stale"
    lines = [output, "", verdict, *(f"  because of {line}" for line in before)]
    if made is None:
        lines += ["", f"There is no record {record_of(output)}: `snakemake {stage}_all` makes both."]
        return "\n".join(lines)
    options = "".join(f", {key} {value}" for key, value in made.options.items())
    code = "" if made.code == code_digest(stage) else f"   now {code_digest(stage)[:12]}"
    lines += ["", f"stage {made.stage}{options}", "", "parameters", *_parameters(made, judge)]
    lines += ["", f"code {made.code[:12]}{code}", f"versions {_versions(made)}"]
    lines += ["", "inputs", *_inputs(made, judge), "", "outputs"]
    lines += [
        f"  {md5[:12]}  {name}" + ("" if Path(name).exists() else "   not here") for name, md5 in made.outputs.items()
    ]
    return "\n".join(lines)
