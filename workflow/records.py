"""Commands that keep ``dvc.lock`` correct: prune leftovers, record current artifacts, audit before publishing."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError, nearest
from novelseg.core.files import digest
from novelseg.formats.provenance import Record, read_record
from stages.provenance.code import closure, code_digest, source
from stages.provenance.digests import Digests
from workflow.config import Config, load
from workflow.engine import snakemake
from workflow.faults import MOST_FAULTS, refusal
from workflow.judge import Judge
from workflow.lockfile import LOCK_FILE
from workflow.plan import READS, folder, record_of, records, require_folders

UNRECORDED = Path(".cache/unrecorded")  # lies there from the start of a run of Snakemake until its outcome is recorded
# A scratch file or folder of a process, which is removed when the process ends, unless it is killed.
SCRATCH = re.compile(r"^\..+\.(\d+)\.tmp$")


def leftovers(config: Config, stages: tuple[str, ...] = tuple(READS)) -> list[Path]:
    """Return the files in the stages' folders that the plan does not name: old shards, old folds, scratch files."""
    files = []
    for stage in stages:
        outputs = config.targets.of(stage)
        # A killed training resumes from the checkpoint beside its output folder.
        checkpoints = {Path(output).parent.with_name(f".{Path(output).parent.name}.checkpoint") for output in outputs}
        planned = checkpoints | {Path(path) for output in outputs for path in (output, record_of(output))}
        # People may keep files of their own in the report's folder.
        for top in ("report/plots" if stage == "report" else folder(stage), f"provenance/{stage}"):
            files += [path for path in Path(top).rglob("*") if path.is_file() and path not in planned]
    return sorted(path for path in files if path.name != ".gitignore")


def prune(stages: tuple[str, ...] = tuple(READS)) -> list[Path]:
    """Remove the leftovers, and folders that become empty, and return the removed files."""
    for stage in stages:
        if stage not in READS:
            raise InputError(f"there is no stage '{stage}'; {nearest(stage, list(READS))}")
    removed = leftovers(load(), stages)
    for path in removed:
        path.unlink()
        for parent in path.parents:
            if parent == Path() or any(parent.iterdir()):
                break
            parent.rmdir()
    return removed


def finish(stage: str) -> list[Path]:
    """Finish a stage of ``dvc repro``: remove and return its leftovers, and pass known digests to DVC."""
    removed = prune((stage,))
    make_folders(stage)
    from workflow.remote import pass_digests

    pass_digests([Path(output) for output in load().targets.of(stage)], Digests())
    return removed


def make_folders(*stages: str) -> None:
    """Create the folders of stages, which DVC requires even if the plan has no job for a stage."""
    for stage in stages:
        if stage != "report":
            Path(folder(stage)).mkdir(parents=True, exist_ok=True)
            Path(records(stage)).mkdir(parents=True, exist_ok=True)


def would_run() -> str:
    """Return what Snakemake would run, empty if nothing; only Snakemake knows which inputs its rules have."""
    process = snakemake(["-n", "--quiet", "rules", "reason"], captured=True)
    printed = (process.stdout + process.stderr).strip()
    return "" if process.returncode == 0 and "Nothing to be done" in printed else printed


def stale(judge: Judge) -> Iterator[str]:
    """Yield one line per stale job; stages without any output on this machine are judged by their records alone."""
    for stage in READS:
        for outputs in judge.jobs(stage):
            reason = judge.why(outputs)
            if reason:
                yield f"{outputs[0]}: {reason}"


def _dead(scratch: Path) -> bool:
    """Return whether the process that a scratch file or folder is named after has ended on this machine."""
    match = SCRATCH.match(scratch.name)
    if match is None:
        return False
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another user's process
        return False
    return False


def remove_dead_scratch(left: list[Path]) -> list[Path]:
    """Remove what killed stages have left of files and folders that they were writing, and return what stays.

    Parameters
    ----------
    left
        Files that the plan does not name.
    """
    scratch = {part for path in left for part in (path, *path.parents) if SCRATCH.match(part.name)}
    for path in sorted(path for path in scratch if _dead(path)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return [path for path in left if path.exists()] if scratch else left


def _absent(judge: Judge) -> list[str]:
    """Return the stages of the plan that have no output on this machine."""
    return [stage for stage in READS if stage not in judge.fetched and judge.config.targets.of(stage)]


def _unrecordable(absent: list[str]) -> Iterator[str]:
    """Yield the absent stages whose entries ``dvc.lock`` does not have either, so that they cannot be kept."""
    from workflow.remote import locked_stages

    lock = locked_stages() if LOCK_FILE.exists() else {}
    for stage in absent:
        outs = lock.get(stage, {}).get("outs", [])
        if not outs or not all(out.get("md5") for out in outs):
            yield f"{folder(stage)}: not on this machine, and not in dvc.lock; make or pull the stage {stage}"


def _remove_empty_folders(stages: list[str]) -> None:
    """Remove the empty folders of stages: DVC would record them as outputs without files."""
    for stage in stages:
        top = Path(folder(stage))
        for path in sorted([*top.rglob("*"), top], reverse=True) if top.is_dir() and not top.is_symlink() else ():
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def record() -> str:
    """Write ``dvc.lock`` if every artifact is current and nothing is left over; else change nothing.

    Raises
    ------
    InputError
        If an artifact is stale or left over; the message names it.
    """
    require_folders()
    config, digests = load(), Digests()
    judge = Judge(config, digests)
    absent = _absent(judge)
    left = remove_dead_scratch(leftovers(config))
    make_folders(*(stage for stage in READS if not config.targets.of(stage)))
    _remove_empty_folders(absent)
    # Snakemake and DVC take seconds each, and answer side by side.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(would_run)
        from workflow.remote import changed_stages, present_outputs

        if any(digests.known(path) is None for path in present_outputs()):
            asked.result()  # Snakemake reads what is new to this machine, and DVC does not read it again
            digests.catch_up()
        faults = [*_unrecordable(absent), *(f"{path}: {_why_left(path)}" for path in left)]
        with changed_stages(digests) as commit:
            planned = asked.result()
            if planned or absent or faults:
                _refuse_faults(planned, [*_stale_jobs(judge, planned, absent), *faults])
            commit()
    UNRECORDED.unlink(missing_ok=True)
    return "recorded in dvc.lock" + (f" (unchanged, since not on this machine: {', '.join(absent)})" if absent else "")


def _stale_jobs(judge: Judge, planned: str, absent: list[str]) -> list[str]:
    # Snakemake has compared every record, except those of stages that are not on this machine.
    return [*stale(judge)] if planned or absent else []


def _refuse_faults(planned: str, faults: list[str]) -> None:
    """Refuse to record what Snakemake would make again, or what is stale or left over."""
    if planned and not faults:
        faults = ["Snakemake would run jobs:", *planned.splitlines()[-MOST_FAULTS:]]
    if faults:
        UNRECORDED.unlink(missing_ok=True)
        raise refusal("nothing was recorded, and dvc.lock is unchanged:", faults)


def _why_left(path: Path) -> str:
    for part in (path, *path.parents):
        if match := SCRATCH.match(part.name):
            return f"process {match[1]} is writing it; wait until it ends"
    return "left over from other parameters; `python -m workflow prune`"


# ---- the audit


class Audit:
    """Comparison of ``dvc.lock`` with the provenance records that it names; no large file is read."""

    def __init__(self) -> None:
        from workflow.remote import cache_folder, locked_stages

        if not LOCK_FILE.exists():
            raise InputError(f"{LOCK_FILE}: nothing is recorded yet; run `python -m workflow record`")
        self.lock, self._cache, self._judge = locked_stages(), cache_folder(), Judge(load(), Digests())
        self.files: dict[str, str] = {}  # every file of dvc.lock whose list is in the cache → digest
        self.unlisted: list[str] = []
        self.unrecorded: list[str] = []  # outputs without a checksum in dvc.lock
        for locked in self.lock.values():
            for out in locked.get("outs", []):
                if not out.get("md5"):
                    self.unrecorded.append(out["path"])
                    continue
                files = self._files(out)
                if files is None:
                    self.unlisted.append(out["path"])
                else:
                    self.files |= files
        self.records: dict[str, Record] = {}  # output → the record that names it

    def _object(self, md5: str) -> Path:
        return self._cache / md5[:2] / md5[2:]

    def _files(self, out: dict[str, Any]) -> dict[str, str] | None:
        """Return the files of an output of ``dvc.lock`` with their digests; None if the list is not in the cache."""
        path = out["path"]
        if not out["md5"].endswith(".dir"):
            return {path: out["md5"]}
        listing = self._object(out["md5"])
        if not listing.exists():
            return None
        return {f"{path}/{file['relpath']}": file["md5"] for file in json.loads(listing.read_text(encoding="utf8"))}

    def faults(self) -> list[str]:
        """Return every disagreement with the file concerned; empty if ``dvc.lock`` can be trusted."""
        faults = [
            f"{stage}: not in dvc.lock; run `python -m workflow record`" for stage in READS if stage not in self.lock
        ]
        faults += [
            f"{path}: dvc.lock has no checksum of it; run `python -m workflow record` on a machine that has it"
            for path in self.unrecorded
        ]
        for stage in READS:
            if stage in self.lock:
                faults += self._records(stage)
        for stage in READS:
            if stage in self.lock:
                edited = list(self._code(stage))
                faults += [*edited, *self._outputs(stage), *self._recipes(stage, code_is_known=not edited)]
        return faults

    def _records(self, stage: str) -> Iterator[str]:
        top = records(stage)
        if top in self.unlisted:
            yield f"{top}: its list of files is not in DVC's cache; run `dvc fetch {top}`"
        for path, md5 in self.files.items():
            if path != top and not path.startswith(f"{top}/"):
                continue
            file = self._object(md5)
            record = read_record(file)
            if record is None:
                missing = f"is not in DVC's cache; run `dvc fetch {top}`"
                yield f"{path}: {'is not a provenance record' if file.exists() else missing}"
                continue
            self.records |= dict.fromkeys(record.outputs, record)
            if any(record_of(output) != path for output in record.outputs):
                yield f"{path}: is the record of other files"

    def _code(self, stage: str) -> Iterator[str]:
        locked = {dep["path"]: dep.get("md5") for dep in self.lock[stage].get("deps", [])}
        for path in closure(stage):
            if not source(path).empty and locked.get(path.as_posix()) != digest(path):
                yield f"{path}: differs from dvc.lock; run `python -m workflow record`"
                return

    def _outputs(self, stage: str) -> Iterator[str]:
        from workflow.remote import listing_digest

        for out in self.lock[stage]["outs"]:
            if out["path"].startswith("provenance") or out["path"] in self.unrecorded:
                continue
            recorded = {path for path in self.records if path == out["path"] or path.startswith(f"{out['path']}/")}
            if out["path"] in self.unlisted:
                files = {path.removeprefix(f"{out['path']}/"): self.records[path].outputs[path] for path in recorded}
                if listing_digest(files) != out["md5"]:
                    yield f"{out['path']}: its files differ from its records; fetch it and audit again to see which"
                continue
            for path in sorted({path for path in self.files if path.startswith(out["path"])} | recorded):
                if path not in self.records:
                    yield f"{path}: has no provenance record"
                elif path not in self.files:
                    yield f"{path}: has a provenance record, but is not in dvc.lock"
                elif self.records[path].outputs[path] != self.files[path]:
                    yield f"{path}: content differs from its record"

    def _recipes(self, stage: str, *, code_is_known: bool) -> Iterator[str]:
        params = self.lock[stage].get("params", {}).get("params.yaml", {})
        for path, record in self.records.items():
            if record.stage != stage or path != next(iter(record.outputs)):
                continue
            locked = {section: params.get(section, {}) for section in record.parameters}
            if self._judge.changed_parameter(record, locked):
                yield f"{path}: made with other parameters than those in dvc.lock"
            if code_is_known and record.code != code_digest(stage):
                yield f"{path}: made by other code than that in dvc.lock"
            for name, md5 in record.inputs.items():
                if name.startswith("artifacts/"):
                    now = self.files.get(name) or (self.records[name].outputs[name] if name in self.records else None)
                else:
                    now = self._judge.digest(name, record)
                if now != md5:
                    yield f"{path}: made from another version of {name}"


def audit() -> None:
    """Check that ``dvc.lock`` may be published.

    Raises
    ------
    InputError
        If ``dvc.lock`` and the provenance records disagree; the message names every file concerned.
    """
    faults = Audit().faults()
    if faults:
        raise refusal("dvc.lock and the provenance records disagree, so that nothing may be pushed:", faults)
