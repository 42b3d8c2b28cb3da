"""Keep ``dvc.lock`` true: remove what the plan does not name, record what is current, audit before it is published."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from novelseg.core.errors import InputError
from novelseg.core.files import digest
from novelseg.core.text import nearest
from novelseg.formats.provenance import Record, read_record
from stages.provenance.code import closure, code_digest, source
from stages.provenance.digests import Digests
from workflow.config import Config, load
from workflow.judge import Judge
from workflow.plan import READS, folder, record_of, records

LOCK_FILE = Path("dvc.lock")
SHOWN = 12  # faults that a refusal lists


def leftovers(config: Config, stages: tuple[str, ...] = tuple(READS)) -> list[Path]:
    """Files in the stages' folders that the present plan does not name: old shards, old folds, scratch files."""
    found = []
    for stage in stages:
        outputs = config.targets.of(stage)
        # A killed training goes on from its checkpoint, which lies beside the folder that it will write.
        spared = {Path(output).parent.with_name(f".{Path(output).parent.name}.checkpoint") for output in outputs}
        planned = spared | {Path(path) for output in outputs for path in (output, record_of(output))}
        # The report's folder is for people, who may keep files there.
        for top in ("report/plots" if stage == "report" else folder(stage), f"provenance/{stage}"):
            found += [path for path in Path(top).rglob("*") if path.is_file() and path not in planned]
    return sorted(path for path in found if path.name != ".gitignore")


def prune(stages: tuple[str, ...] = tuple(READS)) -> list[Path]:
    """Remove the leftovers, and the folders that they leave empty."""
    for stage in stages:
        if stage not in READS:
            raise InputError(f"there is no stage '{stage}'; {nearest(stage, list(READS))}")
    gone = leftovers(load(), stages)
    for path in gone:
        path.unlink()
        for parent in path.parents:
            if parent == Path() or any(parent.iterdir()):
                break
            parent.rmdir()
    return gone


def finish(stage: str) -> list[Path]:
    """End a stage of ``dvc repro``: remove its leftovers, and tell DVC the digests that are already known."""
    gone = prune((stage,))
    make_folders(stage)
    from workflow.remote import teach

    teach([Path(output) for output in load().targets.of(stage)], Digests())
    return gone


def make_folders(*stages: str) -> None:
    """Make the folders of stages; DVC wants them even where the plan has nothing for a stage to do."""
    for stage in stages:
        if stage != "report":
            Path(folder(stage)).mkdir(parents=True, exist_ok=True)
            Path(records(stage)).mkdir(parents=True, exist_ok=True)


def refusal(what: str, faults: list[str]) -> InputError:
    """One error of all faults, a line each."""
    more = [f"… {len(faults)} in all"] if len(faults) > SHOWN else []
    return InputError("\n  ".join([what, *faults[:SHOWN], *more]))


def would_run() -> str:
    """What Snakemake would run; empty if nothing. Only it knows which inputs the rules ask for."""
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "reason"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    printed = (found.stdout + found.stderr).strip()
    return "" if found.returncode == 0 and "Nothing to be done" in printed else printed


def stale(judge: Judge) -> Iterator[str]:
    """What is not current, a sentence each; stages of which nothing lies here count as what their records say."""
    for stage in READS:
        for outputs in judge.jobs(stage):
            reason = judge.why(outputs)
            if reason:
                yield f"{outputs[0]}: {reason}"


def record() -> str:
    """Write ``dvc.lock``, if every artifact is current and nothing is left over; else change nothing.

    Raises
    ------
    InputError
        Naming what is not.
    """
    config, digests = load(), Digests()
    judge = Judge(config, digests)
    faults = list(stale(judge))
    faults += [f"{path}: left over from other parameters; `python -m workflow prune`" for path in leftovers(config)]
    if not faults and (planned := would_run()):
        faults = ["snakemake would run jobs:", *planned.splitlines()[-SHOWN:]]
    if faults:
        raise refusal("not recorded, dvc.lock is as it was:", faults)
    from workflow.remote import commit

    make_folders(*(stage for stage in READS if not config.targets.of(stage)))
    commit(digests)
    absent = [stage for stage in READS if stage not in judge.fetched and config.targets.of(stage)]
    return "recorded in dvc.lock" + (f" (not here, as they were: {', '.join(absent)})" if absent else "")


# ---- the audit


class Audit:
    """``dvc.lock`` against the provenance records that it points to; large files are not read."""

    def __init__(self) -> None:
        from workflow.remote import cache_folder, locked_stages

        if not LOCK_FILE.exists():
            raise InputError(f"{LOCK_FILE}: nothing is recorded yet; `python -m workflow record`")
        self.lock, self._cache, self._judge = locked_stages(), cache_folder(), Judge(load(), Digests())
        self.files: dict[str, str] = {}  # every file of dvc.lock whose list is here → digest
        self.unlisted: list[str] = []
        for locked in self.lock.values():
            for out in locked.get("outs", []):
                listed = self._listed(out)
                if listed is None:
                    self.unlisted.append(out["path"])
                else:
                    self.files |= listed
        self.made: dict[str, Record] = {}  # output → the record that names it

    def _object(self, md5: str) -> Path:
        return self._cache / md5[:2] / md5[2:]

    def _listed(self, out: dict[str, Any]) -> dict[str, str] | None:
        """Files of an output of ``dvc.lock`` and their digests; None if the list is not in the cache."""
        path = out["path"]
        if not str(out["md5"]).endswith(".dir"):
            return {path: out["md5"]}
        listing = self._object(out["md5"])
        if not listing.exists():
            return None
        return {f"{path}/{file['relpath']}": file["md5"] for file in json.loads(listing.read_text(encoding="utf8"))}

    def faults(self) -> list[str]:
        """Every disagreement, naming the file; empty if ``dvc.lock`` can be trusted."""
        found = [f"{stage}: not in dvc.lock; `python -m workflow record`" for stage in READS if stage not in self.lock]
        for stage in READS:
            if stage in self.lock:
                found += self._records(stage)
        for stage in READS:
            if stage in self.lock:
                edited = list(self._code(stage))
                found += [*edited, *self._outputs(stage), *self._recipes(stage, code_is_known=not edited)]
        return found

    def _records(self, stage: str) -> Iterator[str]:
        top = records(stage)
        if top in self.unlisted:
            yield f"{top}: its list is not in the cache; `dvc fetch {top}`"
        for path, md5 in self.files.items():
            if path != top and not path.startswith(f"{top}/"):
                continue
            kept = self._object(md5)
            made = read_record(kept)
            if made is None:
                missing = f"not in the cache; `dvc fetch {top}`"
                yield f"{path}: {'is no provenance record' if kept.exists() else missing}"
                continue
            self.made |= dict.fromkeys(made.outputs, made)
            if any(record_of(output) != path for output in made.outputs):
                yield f"{path}: is the record of other files"

    def _code(self, stage: str) -> Iterator[str]:
        locked = {dep["path"]: dep["md5"] for dep in self.lock[stage].get("deps", [])}
        for path in closure(stage):
            if not source(path).empty and locked.get(path.as_posix()) != digest(path):
                yield f"{path}: is not the file of dvc.lock; `python -m workflow record`"
                return

    def _outputs(self, stage: str) -> Iterator[str]:
        from workflow.remote import listing_digest

        for out in self.lock[stage]["outs"]:
            if out["path"].startswith("provenance"):
                continue
            named = {path for path in self.made if path == out["path"] or path.startswith(f"{out['path']}/")}
            if out["path"] in self.unlisted:
                files = {path.removeprefix(f"{out['path']}/"): self.made[path].outputs[path] for path in named}
                if listing_digest(files) != out["md5"]:
                    yield f"{out['path']}: holds other files than its records say; fetch it and ask again to see which"
                continue
            for path in sorted({path for path in self.files if path.startswith(out["path"])} | named):
                if path not in self.made:
                    yield f"{path}: has no provenance record"
                elif path not in self.files:
                    yield f"{path}: its record is there, the file is not in dvc.lock"
                elif self.made[path].outputs[path] != self.files[path]:
                    yield f"{path}: content is not what its record says"

    def _recipes(self, stage: str, *, code_is_known: bool) -> Iterator[str]:
        params = self.lock[stage].get("params", {}).get("params.yaml", {})
        for path, made in self.made.items():
            if made.stage != stage or path != next(iter(made.outputs)):
                continue
            if any(params.get(section) != values for section, values in made.parameters.items()):
                yield f"{path}: made with other parameters than dvc.lock says"
            if code_is_known and made.code != code_digest(stage):
                yield f"{path}: made by other code than dvc.lock says"
            for name, md5 in made.inputs.items():
                if name.startswith("artifacts/"):
                    now = self.files.get(name) or (self.made[name].outputs[name] if name in self.made else None)
                else:
                    now = self._judge.digest(name, made)
                if now != md5:
                    yield f"{path}: made from another {name}"


def audit() -> None:
    """Refuse what must not be published.

    Raises
    ------
    InputError
        Naming every file of which ``dvc.lock`` and the provenance records disagree.
    """
    faults = Audit().faults()
    if faults:
        raise refusal("not pushed:", faults)
