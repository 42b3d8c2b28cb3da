"""``python -m tests.fuzz``: give every reader files with random damage and count what it makes of them.

A mutation is fine if the reader refuses it with :class:`InputError` and one short line, or accepts it. Accepted
mutations are counted by whether their content is that of the valid file, and a sample of the others is written down for
somebody to look at. Tracebacks, crashes, hangs, and messages of several lines or too many characters are faults: the
exit code is 1. Each mutation follows from the seed, the reader's name and its number. Mutations are read in a child
process with limits of CPU time and memory; another one takes over after a crash or hang. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

import numpy as np

from tests.flips import WEIGHTS, all_sources, make_project
from tests.fuzzing import artifacts, exchange, parameters, pictures
from tests.fuzzing.target import CRASH, FAULTS, HANG, OTHER, OUTCOMES, Attempts, Mutation, Outcome, Target, draw
from tests.makers import Project

CPU_S, WALL_S, MEMORY = 20, 60, 1 << 30  # of one mutation; bytes beyond those of the idle process
FORK = multiprocessing.get_context("fork")


def all_targets(project: Project, bundle: Path, folder: Path) -> list[Target]:
    """Return every reader; files that are made for it lie in the folder."""
    found = [*all_sources(project, bundle, folder), *artifacts.studies_and_records(project, folder)]
    # Shipped weights without the file beside them, whose MD5 no mutation has.
    found = [source if source.kind != "shipped region weights" else replace(source, beside=()) for source in found]
    params = Target("params.yaml", "params.yaml", _odd_parameters, _read_parameters)
    return [*pictures.targets(), *exchange.targets(), *(artifacts.target_of(source) for source in found), params]


def _odd_parameters(rng: np.random.Generator) -> Mutation:
    return Mutation(*parameters.mutant(int(rng.integers(1 << 31))), parameters.base().encode())


def _read_parameters(path: Path) -> str:
    return parameters.read(path.read_bytes(), path.parent)


@dataclass
class Child:
    """A process that reads mutations, one at a time."""

    targets: list[Target]
    seed: int
    folder: Path
    _process: ForkProcess | None = None
    _connection: Connection | None = field(default=None)

    def attempt(self, target: int, number: int) -> Outcome:
        """Read a mutation; start a process if there is none."""
        if self._process is None or self._connection is None:
            self._connection, other = FORK.Pipe()
            self._process = FORK.Process(target=_serve, args=(other, self.targets, self.seed, self.folder))
            self._process.start()
            other.close()
        try:
            self._connection.send((target, number))
            if self._connection.poll(WALL_S):
                outcome: Outcome = self._connection.recv()
                return outcome
            kind, detail = HANG, f"no answer in {WALL_S} s"
            self._process.kill()
            self._process.join()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            kind = HANG if code == -signal.SIGXCPU else CRASH
            detail = f"{CPU_S} s of CPU time" if kind == HANG else f"exit code {code}; {self._words()}"
        self._process = None
        change = draw(self.targets[target], self.seed, number).change
        return Outcome(self.targets[target].name, number, kind, change, detail)

    def _words(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")[-2000:]

    def end(self) -> None:
        """End the process."""
        if self._process is not None and self._connection is not None:
            self._connection.send(None)
            self._process.join()


def _serve(connection: Connection, targets: list[Target], seed: int, folder: Path) -> None:
    """Read the mutations that are asked for."""
    import resource

    import torch

    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    with (folder / "stderr").open("w") as errors:
        os.dup2(errors.fileno(), 2)  # for what native libraries print
    faulthandler.enable()
    attempts = Attempts(folder)
    statm = Path("/proc/self/statm")
    if statm.exists():
        idle = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (idle + MEMORY, resource.RLIM_INFINITY))
    while (asked := connection.recv()) is not None:
        target, number = asked
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + CPU_S, resource.RLIM_INFINITY))
        connection.send(attempts.attempt(targets[target], seed, number))


def fuzz(child: Child, each: int, total: int, end: float) -> Iterator[Outcome]:
    """Yield outcomes, of one reader after the other, until all are done or the time is over."""
    done = 0
    for number in range(each):
        for target in range(len(child.targets)):
            if done == total or time.monotonic() > end:
                return
            yield child.attempt(target, number)
            done += 1


def table(targets: list[Target], counts: Counter[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of the table, in Markdown."""
    yield f"| reader | mutations | {' | '.join(OUTCOMES)} |"
    yield f"|---|{'---|' * (1 + len(OUTCOMES))}"
    sums: Counter[str] = Counter()
    for target in targets:
        row = [counts[target.name, kind] for kind in OUTCOMES]
        sums.update(dict(zip(OUTCOMES, row, strict=True)))
        yield f"| {target.name} | {sum(row)} | {' | '.join(map(str, row))} |"
    yield f"| all | {sums.total()} | {' | '.join(str(sums[kind]) for kind in OUTCOMES)} |"


def _make(root: Path) -> tuple[Project, Path]:
    """Make the tiny project in a process of its own: a process in which networks were trained should not fork."""
    process = FORK.Process(target=_make_silently, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == 0, "the tiny project cannot be made"
    return Project(root, WEIGHTS), root / "bundle.safetensors"


def _make_silently(root: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        make_project(root)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="seed of all mutations")
    parser.add_argument("--each", type=int, help="mutations of each reader; as many as the total asks for by default")
    parser.add_argument("--total", type=int, help="mutations of all readers together; 3600 by default, without --each")
    parser.add_argument("--minutes", type=float, default=20.0, help="end after this time")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="readers, by the names in the table")
    parser.add_argument("--accepted", type=Path, metavar="FILE", help="write a sample of accepted mutations (TSV)")
    parser.add_argument("--sample", type=int, default=6, help="accepted mutations of each reader in the sample")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files of faults and of the sample")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Read mutations and print the counts."""
    options = _parse(argv)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch)
        targets = all_targets(*_make(folder / "project"), folder)
        names = [target.name for target in targets]
        if unknown := sorted({*(options.only or ())} - {*names}):
            sys.stderr.write(f"error: no reader '{unknown[0]}'; expected {', '.join(names)}\n")
            return 2
        targets = [target for target in targets if target.name in (options.only or names)]
        counts: Counter[tuple[str, str]] = Counter()
        faults, sample = [], []
        start = time.monotonic()
        child = Child(targets, options.seed, folder / "child")
        total = options.total or (3600 if options.each is None else sys.maxsize)
        for outcome in fuzz(child, options.each or total, total, start + 60 * options.minutes):
            counts[outcome.target, outcome.kind] += 1
            if outcome.kind in FAULTS:
                faults.append(outcome)
            elif outcome.kind == OTHER and counts[outcome.target, OTHER] <= options.sample:
                sample.append(outcome)
        child.end()
        if options.keep:
            _keep(options.keep, [*faults, *sample], {target.name: target for target in targets}, options.seed)
    for outcome in faults:
        sys.stdout.write(f"{shown(outcome)}\n")
    if options.accepted:
        options.accepted.write_text("".join(map(_line, sorted(sample, key=lambda outcome: outcome.target))), "utf8")
    sys.stdout.write("".join(f"{line}\n" for line in table(targets, counts)))
    sys.stdout.write(f"seed {options.seed}, {time.monotonic() - start:.0f} s\n")
    return 1 if faults else 0


def shown(outcome: Outcome) -> str:
    """Return a fault in words."""
    return f"{outcome.kind}: {outcome.target} {outcome.number} ({outcome.change}): {outcome.detail}"


def _line(outcome: Outcome) -> str:
    cells = outcome.target, str(outcome.number), outcome.change, outcome.original, outcome.detail
    return "\t".join(" ".join(repr(cell)[1:-1].split()) for cell in cells) + "\n"


def _keep(folder: Path, outcomes: list[Outcome], targets: dict[str, Target], seed: int) -> None:
    """Write the files of mutations."""
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        target = targets[outcome.target]
        mutation = draw(target, seed, outcome.number)
        name = f"{target.name.replace(' ', '-')}-{seed}-{outcome.number}-{mutation.file or target.file}"
        (folder / name).write_bytes(mutation.content)


if __name__ == "__main__":
    sys.exit(main())
