"""Make Snakemake, which decides by time, follow the provenance records.

A stale job gets one more input, a file whose name is the reason. Snakemake checks whether an input is newer than the
job's outputs; here, that file always is, and no other input ever is.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import snakemake
from snakemake.io import _IOFile

from novelseg.backbones.designs import refuse_missing
from novelseg.core.errors import InputError
from novelseg.core.files import disk_full_as_input_error, whole_file
from novelseg.core.lock import exclusive
from novelseg.fetch.catalogue import lacking
from stages.provenance.digests import Digests
from workflow.config import Config
from workflow.judge import Job, Judge, Reason
from workflow.plan import READS, record_of, stage_of, unset_variable
from workflow.ready import require_ready
from workflow.records import UNRECORDED

STALE = Path(".cache/stale")
LOCK = Path(".cache/run.lock")
# What to do if a file or folder from outside the pipeline does not exist.
PUT_THERE = "put the data there, set NOVELSEG_DATA to the folder that holds it, or change the path in params.yaml"
REMEDIES = {
    "report.studies": "set it to '', run the pipeline and `python -m workflow study supports`, and set it again",
}
CONFIG_REFUSED = (
    "Snakemake's --config and --configfile would be ignored; values stand in params.yaml alone: edit it, or use a "
    "preset (`python -m workflow use NAME`)"
)
# Private methods of Snakemake that are replaced, with their parameters.
REPLACED = {"is_newer": ("self", "time"), "touch": ("self", "times")}
CONSTRAINT = re.compile(r",[^{}]*\}")  # what Snakemake has added to a wildcard in an output: {fold,\d+}
YEAR_NS = 365 * 86_400 * 1_000_000_000


def _expanded(value: Any, wildcards: dict[str, str]) -> list[str]:
    """Expand an input of a rule, which is a pattern, a list of patterns or a function of the wildcards, to paths."""
    patterns = value(SimpleNamespace(**wildcards)) if callable(value) else value
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return [pattern.format(**wildcards) if "{" in pattern else pattern for pattern in patterns]


@dataclass(frozen=True)
class JudgedJob:
    """A job of the plan: its outputs, the artifacts that it reads by the name of the input, and why it is stale."""

    outputs: tuple[str, ...]
    inputs: dict[str, list[str]]
    reason: Reason | None

    @property
    def reads(self) -> tuple[str, ...]:
        """All artifacts that the job reads."""
        return tuple(path for paths in self.inputs.values() for path in paths)


@cache
def _later(stage: str) -> frozenset[str]:
    """Return the stages that read what a stage makes, directly or through others."""
    readers = [name for name, reads in READS.items() if stage in reads]
    return frozenset(readers).union(*map(_later, readers))


@cache
def _mark(reason: Reason) -> str:
    """Write the file that makes the jobs stale for which it is an input, once per run, and return its path.

    Its content differs from that of earlier runs, since Snakemake may compare contents rather than times.
    """
    path = STALE / re.sub(r"[^\w.-]+", "-", str(reason)).strip("-")
    with whole_file(path) as scratch:  # replaces the earlier file even if it is a colleague's
        scratch.write_text(f"{reason}\n{time.time_ns()}\n", encoding="utf8")
    return path.as_posix()


class Tracking:
    """Inputs of the rules in one run of Snakemake.

    Parameters
    ----------
    workflow
        Snakemake's workflow object.
    config
        The checked parameters.
    """

    def __init__(self, workflow: Any, config: Config) -> None:
        self._workflow, self._held = workflow, ExitStack()
        self._judge: Judge | None = None
        self._holds = False
        self._patterns: dict[str, dict[str, Any]] = {}  # stage → inputs of its rule
        self._implied: dict[str, dict[str, str]] = {}  # stage → inputs that another input implies
        self._jobs: dict[tuple[Any, ...], JudgedJob] = {}
        self._given: dict[tuple[Any, ...], dict[str, list[str]]] = {}  # job → what Snakemake has to know of its inputs
        self._found: dict[tuple[Any, ...], bool] = {}  # job → whether it and all before it are current
        self._files: dict[str, bool] = {}  # the same by artifact
        self._present: dict[str, bool] = {}  # file → whether it existed when the graph was built
        self._outputs: dict[str, list[str]] = {}  # stage → outputs of its rule
        self._lacks: dict[str, str] = {}  # stage → a sentence about an outside file that is missing, or nothing
        with disk_full_as_input_error(STALE):
            STALE.mkdir(parents=True, exist_ok=True)
        self._digests = Digests()
        _override(self._digests)
        # Only the main process decides what is stale, not that of a single job on a cluster.
        if workflow.is_main_process:
            self._judge = Judge(config, self._digests)
            atexit.register(self._digests.compact)
            require_ready(config, self._judge)
            if UNRECORDED.exists():
                atexit.register(self._record_interrupted)

    def hold(self) -> None:
        """Keep other runs out of the folder until this process ends."""
        try:
            self._held.enter_context(alone())
            self._holds = True
        except InputError as error:
            raise SystemExit(f"error: {error}") from None
        UNRECORDED.touch()
        # Snakemake removes the outputs of a job that starts or fails. If their record stayed and is current, a killed
        # job would look like one whose outputs are not on this machine.
        for job in self._jobs.values():
            if job.reason and job.reason.kind in ("missing", "content"):
                Path(record_of(job.outputs[0])).unlink(missing_ok=True)

    def record(self) -> None:
        """Record a finished run, unless `dvc repro` or `python -m workflow run` does that by itself."""
        if not os.environ.keys() & {"DVC_STAGE", "NOVELSEG_STAGEWISE"}:
            words = ["record", "--after-run"] if self._holds else ["record"]
            subprocess.run([sys.executable, "-m", "workflow", *words], check=False)

    def _record_interrupted(self) -> None:
        """Record what a killed run has finished, if this run has found nothing to do."""
        workflow = self._workflow
        executes = workflow.executor_plugin is not None and not workflow.dryrun
        if executes and not self._holds and not len(workflow.dag):
            self.record()

    def _digest_outside(self, stage: str) -> None:
        """Digest the outside files and folders of a stage once here, rather than in every job that reads them."""
        assert self._judge is not None
        for path in self._judge.external(stage).values():
            if path not in self._judge.seen:
                if Path(path).is_dir() and self._judge.digests.known(path) is None:
                    print(f"reading {path} once, so that later changes are noticed", file=sys.stderr, flush=True)
                self._judge.now(path)

    def inputs(self, stage: str, implied: dict[str, str] | None = None, **inputs: Any) -> dict[str, Any]:
        """Return the inputs of a stage's rule: the artifacts ``inputs`` and, for a stale job, the file that marks it.

        Snakemake looks at every input of every job, so that it is given as few as possible, and calls functions slowly,
        so that it is given patterns where nothing of a stage and of those after it is there yet. A job that is current,
        with all that it was made from, has no inputs. An input that is ``implied`` by another one, which is made from
        it (name → name of the other), is left out while Snakemake would make it for the other; the rule's command names
        it by a parameter. Files from outside the pipeline are not among the inputs, since Snakemake would require them
        even if no job has to run.
        """
        self._patterns[stage], self._implied[stage] = inputs, implied or {}
        if self._judge is None:
            return inputs

        def named(name: str) -> Callable[[Any], list[str]]:
            return _ending(lambda wildcards: self._planned(stage, dict(wildcards.items()))[name])

        if self._judge.fetched.isdisjoint({stage, *_later(stage)}) and not self._lacking(stage):
            self._digest_outside(stage)
            return {name: named(name) if name in self._implied[stage] else paths for name, paths in inputs.items()}
        return {name: named(name) for name in (*inputs, "stale")}

    def _planned(self, stage: str, options: dict[str, str]) -> dict[str, list[str]]:
        """Return the inputs of a job that Snakemake has to know, by name."""
        key = stage, *sorted(options.items())
        if key not in self._given:
            job = self._judged(stage, options)
            self._refuse_missing(stage, job)
            for path in filter(self._exists, job.outputs):
                _fix_time(Path(path), self._digests)
            if self._hides and self._settled(stage, options, job):
                self._given[key] = {name: [] for name in (*job.inputs, "stale")}
            else:
                stale = [_mark(job.reason)] if job.reason and self._needs_mark(stage, job) else []
                self._given[key] = {**self._not_implied(stage, job), "stale": stale}
        return self._given[key]

    def _not_implied(self, stage: str, job: JudgedJob) -> dict[str, list[str]]:
        named = dict(job.inputs)
        for name, other in self._implied[stage].items() if self._hides else ():
            # They are there, or will be made since nothing that is made from them is there.
            if all(map(self._exists, named[name])) or not any(map(self._exists, job.inputs[other])):
                named[name] = []
        return named

    def _needs_mark(self, stage: str, job: JudgedJob) -> bool:
        """Return whether Snakemake would not run a stale job by itself, as it runs jobs whose outputs are missing.

        It leaves those missing that no job to be run reads. Where nothing of the later stages exists, all of these run.
        """
        assert self._judge is not None
        return any(map(self._exists, job.outputs)) or not self._judge.fetched.isdisjoint(_later(stage))

    def _exists(self, path: str) -> bool:
        if path not in self._present:
            self._present[path] = Path(path).exists()
        return self._present[path]

    def _judged(self, stage: str, options: dict[str, str]) -> JudgedJob:
        key = stage, *sorted(options.items())
        if key not in self._jobs:
            assert self._judge is not None
            self._digest_outside(stage)
            if stage not in self._outputs:
                patterns = map(str, self._workflow.get_rule(stage).output)
                self._outputs[stage] = [CONSTRAINT.sub("}", pattern) for pattern in patterns]
            outputs = tuple(_expanded(self._outputs[stage], options))
            job = JudgedJob(outputs, _all_inputs(self._patterns[stage], options), None)
            self._jobs[key] = replace(job, reason=self._judge.why(outputs, Job(options, job.reads)))
        return self._jobs[key]

    @cached_property
    def _hides(self) -> bool:
        """Whether jobs run because they are stale, rather than because the command line names them."""
        settings = self._workflow.dag_settings
        forced = settings.forceall or settings.forcetargets or settings.forcerun or settings.until or settings.omit_from
        return self._workflow.executor_plugin is not None and not forced

    def _settled(self, stage: str, options: dict[str, str], job: JudgedJob) -> bool:
        """Return whether a job cannot run: its outputs exist, and they and all that they were made from are current."""
        return all(map(self._exists, job.outputs)) and self._current(stage, options)

    def _current(self, stage: str, options: dict[str, str]) -> bool:
        key = stage, *sorted(options.items())
        if key not in self._found:
            job = self._judged(stage, options)
            self._found[key] = job.reason is None and all(map(self._current_file, job.reads))
        return self._found[key]

    def _current_file(self, path: str) -> bool:
        if path not in self._files:
            stage = stage_of(path)
            self._files[path] = self._current(stage, dict(self._workflow.get_rule(stage).get_wildcards(path)))
        return self._files[path]

    def write_jobs(self, path: Path) -> None:
        """Write every job of the plan, with what it reads and why it is stale, for :mod:`workflow.forecast`."""
        assert self._judge is not None
        entries = []
        try:
            for stage in READS:
                rule = self._workflow.get_rule(stage)
                for outputs in self._judge.jobs(stage):
                    options = dict(rule.get_wildcards(outputs[0]))
                    job = self._judged(stage, options)
                    self._refuse_missing(stage, job)
                    reason = str(job.reason) if job.reason else None
                    about = {"stage": stage, "options": options, "outputs": job.outputs, "reads": job.reads}
                    entries.append({**about, "reason": reason})
        except InputError as error:
            raise SystemExit(f"error: {error}") from None
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(entries), encoding="utf8")

    def _lacking(self, stage: str) -> str:
        """Return a sentence about an outside file of a stage that is missing; empty if none is."""
        if stage not in self._lacks:
            assert self._judge is not None
            self._lacks[stage] = _lack(self._judge, stage)
        return self._lacks[stage]

    def _refuse_missing(self, stage: str, job: JudgedJob) -> None:
        if self._lacking(stage):
            assert self._judge is not None
            _refuse_missing(self._judge, stage, job.reason, job.outputs[0])


def _all_inputs(patterns: dict[str, Any], options: dict[str, str]) -> dict[str, list[str]]:
    return {name: _expanded(value, options) for name, value in patterns.items()}


def _ending(function: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
    """Let a failing input function end the run, since Snakemake would treat it like one without inputs."""

    def files(wildcards: Any) -> list[str]:
        try:
            return function(wildcards)
        except InputError as error:
            raise SystemExit(f"error: {error}") from None
        except Exception as error:
            raise SystemExit(f"error: {type(error).__name__}: {error}") from error

    return files


def refuse_config(settings: Any) -> None:
    """Refuse values for Snakemake's own configuration, which no rule reads.

    Raises
    ------
    InputError
        If Snakemake was given ``--config`` or ``--configfile``, on the command line or in a profile.
    """
    if settings.config or settings.configfiles:
        raise InputError(CONFIG_REFUSED)


def _require_known_snakemake() -> None:
    """Refuse a version of Snakemake without the two methods that are replaced here.

    Raises
    ------
    SystemExit
        If a method is missing or has other parameters.
    """
    for name, parameters in REPLACED.items():
        method = getattr(_IOFile, name, None)
        if getattr(method, "__module__", "") == __name__:
            continue  # already replaced in this process
        if not callable(method) or tuple(inspect.signature(inspect.unwrap(method)).parameters) != parameters:
            raise SystemExit(
                f"error: Snakemake {snakemake.__version__} has no method `_IOFile.{name}({', '.join(parameters)})`, "
                "which decides what is stale here; install the version in requirements.lock"
            )


def _override(digests: Digests) -> None:
    """Replace the two methods by which Snakemake reads and sets times of files."""
    _require_known_snakemake()
    touch = _IOFile.touch

    async def is_newer(file: Any, _: float) -> bool:
        return str(file).startswith(f"{STALE.as_posix()}/")

    def touch_and_keep(file: Any, times: tuple[float, float] | None = None) -> None:
        # Snakemake gives an output a new time when its job is done; without this, it would be digested again.
        digests.catch_up()
        known = digests.known(str(file))
        touch(file, times)
        if known:
            digests.learn(str(file), known)

    _IOFile.is_newer, _IOFile.touch = is_newer, touch_and_keep


def _refuse_missing(judge: Judge, stage: str, reason: Reason | None, output: str) -> None:
    """Stop before the first job if a job that has to run, now or after upstream jobs, lacks an outside file.

    Raises
    ------
    InputError
        If these are weights that only their owners give out.
    SystemExit
        If it is any other file or folder.
    """
    own = _lack(judge, stage)
    if own and (reason or judge.chain(output)):
        if weights := judge.config.external(stage).get("encoder.weights"):
            refuse_missing(judge.config.values("encoder")["arch"], weights)
        # Of several, the one that the pipeline reads first is named.
        firsts = {name: judge.config.targets.of(name)[:1] for name in list(READS)[: list(READS).index(stage)]}
        earlier = (_lack(judge, name) for name, outputs in firsts.items() if any(map(judge.chain, outputs)))
        raise SystemExit(f"error: {next(filter(None, earlier), own)}")


def _lack(judge: Judge, stage: str) -> str:
    """Return a sentence about the first outside file of a stage that is missing; empty if none is."""
    images = judge.config.values("images")
    for key, path in judge.config.external(stage).items():
        lack = lacking(path, (images["train_list"], images["val_list"]))
        if lack or not Path(path).exists():
            unset = unset_variable(path)
            remedy = f"the environment variable {unset} is not set" if unset else REMEDIES.get(key, PUT_THERE)
            return f"{key} points to {path}" + (f": {lack}" if lack else f", which does not exist; {remedy}")
    return ""


def _fix_time(path: Path, digests: Digests) -> None:
    """Set a time in the future (another machine's clock) or before 1971 to now; Snakemake fails on both."""
    now = time.time_ns()
    if not path.exists() or YEAR_NS < path.stat().st_mtime_ns <= now:
        return
    try:
        digests.redate(path, now)
    except PermissionError:
        _replace_by_copy(path, digests)


def _replace_by_copy(path: Path, digests: Digests) -> None:
    """Replace a file that another user has dated wrongly by a copy of our own, if the folder may be written."""
    known = digests.known(path)
    try:
        with whole_file(path) as scratch:
            shutil.copyfile(path, scratch)
    except InputError:
        raise SystemExit(
            f"error: {path} is dated {time.strftime('%Y-%m-%d %H:%M', time.localtime(path.stat().st_mtime))}, and it "
            f"belongs to another user ({path.stat().st_uid}), so that its time cannot be changed; ask the user to run "
            f"`touch {path}`, and to set the clock of the machine that wrote it"
        ) from None
    if known:
        digests.learn(path, known)
    print(
        f"{path} had a date in the future and belongs to another user; it is replaced by a copy",
        file=sys.stderr,
        flush=True,
    )


def alone() -> AbstractContextManager[None]:
    """Hold the folder for one run.

    Raises
    ------
    InputError
        On entering, if another run is at work.
    """
    return exclusive(LOCK, "another run is at work in this folder; wait until it ends, or stop it")
