"""``python -m tests.kills``: kill the engines and everyday commands at random instants, fill their disk, and look.

A small project of its own is brought to rest once in each of four states, undisturbed; their bytes are the reference.
Then each kill makes something stale, starts a command and sends a signal, at a random instant, to the command, to one
of its descendants or to its whole group. The next plain command has to mend everything: every artifact and record has
the reference's bytes, nothing is left over, ``dvc.lock`` is that of the reference. Every tenth time, and at the end,
Snakemake and DVC themselves must have nothing to do.

Results are appended to a file, one JSON line per kill, so that an interrupted program goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import yaml

from tests.engines import CLEAN, NOTHING, environment, new_team, set_values

SIGNALS = ("TERM", "HUP", "INT", "KILL")
VICTIMS = ("main", "child", "group")
MODULES = {
    "snakemake": ("snakemake",),
    "repro": ("dvc", "repro"),
    "run": ("workflow", "run"),
    "record": ("workflow", "record"),
    "push": ("workflow", "push", "--remote", "other"),
    "pull": ("workflow", "pull"),
}
STATES = ((2, 100), (1, 100), (2, 101), (1, 101))  # evaluate.examples, report.bootstrap
TOPS = ("artifacts", "provenance", "report")
LATE = ("artifacts/episodes/fold0/1shot/seed0.tsv", "artifacts/evaluate/fold0/1shot/about.json", "report/results.tsv")
BUSY = "another run is at work"
LIMIT_S = 240.0
CHECK_EVERY = 10
FOLDER = Path(tempfile.gettempdir()) / "novelseg-kills"
LOG = Path(tempfile.gettempdir()) / f"novelseg-kills-{os.getpid()}.log"  # not on the disk that is filled


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass
class Outcome:
    """What one kill or fill did, and whether the next plain command mended it."""

    number: int
    kind: str
    command: str
    signal: str
    victim: str
    after_s: float
    ended: int
    mended_by: list[str]
    faults: list[str]
    seconds: float


def manifest(folder: Path) -> dict[str, str]:
    """MD5 of every file, also hidden ones, in the folders of outputs."""
    files = [path for top in TOPS for path in (folder / top).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, with signals as at a terminal."""
    log = LOG.open("wb")
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,  # a job in the background ignores it
    )


def printed() -> str:
    """What the last command has printed."""
    return LOG.read_text(encoding="utf8", errors="replace")


def finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for a command, and give its exit code; one that hangs is killed."""
    try:
        return process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return 1000


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A command's descendants."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []


class Project:
    """The project that is disturbed, its remotes and the reference of its states."""

    def __init__(self, base: Path) -> None:
        self.base, self.folder, self.pristine = base, base / "work", base / "pristine"
        self.state = 0
        self.files: list[dict[str, str]] = []
        self.locks: list[str] = []
        self.lasts: dict[str, float] = {}

    def set_state(self, state: int) -> None:
        """Write the parameters of a state."""
        examples, bootstrap = STATES[state]
        set_values(self.folder, evaluate={"examples": examples}, report={"bootstrap": bootstrap})
        self.state = state

    def plain(self, *words: str) -> int:
        """Run a command undisturbed."""
        return finish(start(self.folder, *words))

    def prepare(self) -> None:
        """Make the project, or read that of an earlier run of this program, and time its commands."""
        reference = self.base / "reference.json"
        if not reference.exists():
            shutil.rmtree(self.base, ignore_errors=True)
            self.base.mkdir(parents=True)
            new_team(self.base / "team")
            shutil.copytree(self.base / "team/clone", self.folder, symlinks=True)
            words = ("remote", "add", "-q", "other", str(self.base / "other"))
            assert self.plain("dvc", *words) == 0
            for state in (1, 2, 3, 0):
                self.set_state(state)
                began = time.monotonic()
                assert self.plain("snakemake") == 0, printed()
                self.lasts["snakemake"] = time.monotonic() - began
                assert self.plain("workflow", "push") == 0, printed()
                self.files.insert(0, manifest(self.folder))
                self.locks.insert(0, (self.folder / "dvc.lock").read_text(encoding="utf8"))
            # They were inserted in the order 1, 2, 3, 0, each first.
            order = [0, 3, 2, 1]
            self.files = [self.files[order.index(state)] for state in range(4)]
            self.locks = [self.locks[order.index(state)] for state in range(4)]
            for command in ("record", "push", "pull"):
                began = time.monotonic()
                assert self.plain(*MODULES[command]) == 0, printed()
                self.lasts[command] = time.monotonic() - began
            self.lasts["run"] = self.lasts["snakemake"] * 2 + self.lasts["record"]
            self.lasts["repro"] = self.lasts["snakemake"] * 2 + 5
            shutil.copytree(self.folder, self.pristine, symlinks=True)
            reference.write_text(json.dumps({"files": self.files, "locks": self.locks, "lasts": self.lasts}))
        values = json.loads(reference.read_text())
        self.files, self.locks, self.lasts = values["files"], values["locks"], values["lasts"]
        self.restore()

    def restore(self) -> None:
        """Start again from the undisturbed project."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.pristine, self.folder, symlinks=True)
        self.state = 0

    def disturb(self, command: str, order: random.Random) -> None:
        """Give a command something to do."""
        if command in ("snakemake", "repro", "run"):
            chance = order.random()
            if chance < 0.25:
                (self.folder / order.choice(LATE)).unlink()
            elif chance < 0.75:
                self.set_state((self.state + 2) % 4)  # the report alone
            else:
                self.set_state(order.choice([state for state in range(4) if state != self.state]))
        elif command == "record":
            other = order.choice([state for state in range(4) if state != self.state])
            (self.folder / "dvc.lock").write_text(self.locks[other], encoding="utf8")
        elif command == "push":
            shutil.rmtree(self.base / "other", ignore_errors=True)
        else:
            shutil.rmtree(self.folder / ".dvc/cache", ignore_errors=True)
            for top in order.sample(("artifacts/features", "artifacts/images", "artifacts/cam", "report"), 2):
                shutil.rmtree(self.folder / top)

    def mend(self, command: str) -> list[str]:
        """Run the next plain command, and another where it cannot do so alone; give what was run."""
        mended = []
        for words in (MODULES[command], MODULES[command], MODULES["run"]):
            # DVC alone cannot read a file that it has cut short; any of our commands mends it.
            mended.append(" ".join(words))
            if self.plain(*words) == 0:
                break
            text = printed()
            mended[-1] += f" ({' '.join(text.split())[-160:]})"
            if BUSY in text:
                time.sleep(8)
            elif words != MODULES["repro"]:
                break
        return mended

    def faults(self, *, engines: bool) -> list[str]:
        """Compare everything with the reference."""
        now, wanted = manifest(self.folder), self.files[self.state]
        faults = [
            f"{path}: {'wrong bytes' if path in now else 'missing'}" for path in wanted if now.get(path) != wanted[path]
        ]
        faults += [f"{path}: left over" for path in now if path not in wanted]
        lock = (self.folder / "dvc.lock").read_text(encoding="utf8")
        if yaml.safe_load(lock) != yaml.safe_load(self.locks[self.state]):
            faults.append("dvc.lock: differs from the reference")
        if engines:
            for words, text in (
                (("snakemake", "-n"), NOTHING),
                (("dvc", "status"), CLEAN),
                (("workflow", "audit"), "agree"),
            ):
                self.plain(*words)
                if text not in printed():
                    faults.append(f"{' '.join(words)}: {' '.join(printed().split())[-300:]}")
        return faults

    def remote_faults(self) -> list[str]:
        """Check every object in the remote that was pushed to."""
        objects = [path for path in (self.base / "other").rglob("*") if path.is_file() and len(path.parent.name) == 2]
        named = {path: (path.parent.name + path.name).removesuffix(".dir") for path in objects}
        return [
            f"{path.name}: wrong bytes in the remote"
            for path, md5 in named.items()
            if len(md5) == 32 and hashlib.md5(path.read_bytes()).hexdigest() != md5
        ]


def kill(project: Project, number: int, order: random.Random) -> Outcome:
    """Disturb a command by a signal, let the next plain command mend it, and compare."""
    command = order.choices(list(MODULES), weights=(14, 14, 10, 24, 19, 19))[0]
    name, victim = order.choice(SIGNALS), order.choice(VICTIMS)
    after = order.random() * project.lasts[command]
    began = time.monotonic()
    project.disturb(command, order)
    process = start(project.folder, *MODULES[command])
    started = time.monotonic()
    while time.monotonic() - started < after and process.poll() is None:
        time.sleep(0.01)
    if process.poll() is not None:  # the machine is faster than when the commands were timed
        project.lasts[command] = time.monotonic() - started
    relatives = family(process)
    target = order.choice(relatives) if victim == "child" and relatives else None
    try:
        if process.poll() is not None:
            victim = "none, as it had ended"
        elif target is not None:
            target.send_signal(getattr(signal, f"SIG{name}"))
        elif victim == "group":
            os.killpg(process.pid, getattr(signal, f"SIG{name}"))
        else:
            process.send_signal(getattr(signal, f"SIG{name}"))
    except (psutil.Error, ProcessLookupError):
        victim = "none, as it had ended"
    ended = finish(process)
    mended = project.mend(command)
    _, alive = psutil.wait_procs(relatives, timeout=30)
    for orphan in alive:
        orphan.kill()
    return _looked(
        project, Outcome(number, "kill", command, name, victim, round(after, 2), ended, mended, [], 0), began
    )


def fill(project: Project, number: int, order: random.Random) -> Outcome:
    """Let a command meet a full disk, make room, let the next plain command mend it, and compare."""
    command = order.choice(("snakemake", "repro", "run", "record", "pull"))
    began = time.monotonic()
    project.disturb(command, order)
    filler = project.base / "filler"
    room = int(order.random() ** 2 * 600_000)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(project.base).free - room))
    ended = project.plain(*MODULES[command])
    filler.unlink()
    mended = project.mend(command)
    outcome = Outcome(number, "fill", command, f"{room // 1000} kB left", "disk", 0.0, ended, mended, [], 0)
    return _looked(project, outcome, began)


def _looked(project: Project, outcome: Outcome, began: float) -> Outcome:
    outcome.faults = project.faults(engines=outcome.number % CHECK_EVERY == CHECK_EVERY - 1)
    if outcome.command == "push":
        outcome.faults += project.remote_faults()
    if outcome.faults:
        project.restore()
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _series(
    project: Project,
    act: Callable[[Project, int, random.Random], Outcome],
    kind: str,
    count: int,
    results: Path,
    seed: int,
) -> list[Outcome]:
    """Do what the results do not hold yet, and give all outcomes of a kind."""
    lines = results.read_text(encoding="utf8").splitlines() if results.exists() else []
    done = [Outcome(**values) for values in map(json.loads, lines) if values["kind"] == kind]
    while sum(not outcome.victim.startswith("none") for outcome in done) < count:
        number = len(done)
        outcome = act(project, number, random.Random(f"{seed} {kind} {number}"))
        with results.open("a", encoding="utf8") as file:
            file.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
        fault = "; ".join(outcome.faults[:3]) or "as the reference"
        say(
            f"{kind} {number + 1} {outcome.command}: {outcome.signal} to {outcome.victim} after "
            f"{outcome.after_s} s, ended with {outcome.ended}; {len(outcome.mended_by)} command(s); {fault}; "
            f"{outcome.seconds} s"
        )
        done.append(outcome)
    return done


def main() -> int:
    """Run the program, and return 1 if anything was not mended."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder to work in")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    parser.add_argument("--kills", type=int, default=100, help="number of kills")
    parser.add_argument("--fills", type=int, default=10, help="number of full disks; needs the right to mount a tmpfs")
    options = parser.parse_args()
    project = Project(options.folder.absolute())
    project.prepare()
    results = options.folder / f"results-{options.seed}.jsonl"
    outcomes = _series(project, kill, "kill", options.kills, results, options.seed)
    last = project.faults(engines=True)
    small = options.folder / "disk"
    small.mkdir(exist_ok=True)
    if (
        options.fills
        and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(small)], check=False).returncode
    ):
        say("no disk was filled: that needs the right to mount a tmpfs")
    elif options.fills:
        try:
            shutil.copytree(project.pristine, small / "pristine", symlinks=True)
            other = Project(small)
            other.files, other.locks, other.lasts = project.files, project.locks, project.lasts
            other.restore()
            outcomes += _series(other, fill, "fill", options.fills, results, options.seed)
            last += other.faults(engines=True)
        finally:
            subprocess.run(["umount", "-l", str(small)], check=True)
    _summary(outcomes, last)
    return int(bool(last) or any(outcome.faults for outcome in outcomes))


def _summary(outcomes: list[Outcome], last: list[str]) -> None:
    for kind in ("kill", "fill"):
        own = [outcome for outcome in outcomes if outcome.kind == kind]
        alone = sum(len(outcome.mended_by) == 1 for outcome in own)
        faulty = [outcome for outcome in own if outcome.faults]
        wrong = sum("wrong bytes" in fault for outcome in own for fault in outcome.faults)
        commands = Counter(outcome.command for outcome in own)
        minutes = sum(outcome.seconds for outcome in own) / 60
        reached = sum(not outcome.victim.startswith("none") for outcome in own)
        say(
            f"{len(own)} {kind}s ({', '.join(f'{name} {count}' for name, count in commands.items())}), {reached} met a "
            f"command at work; {alone} mended by the next plain command, {len(own) - alone} by one more; {len(faulty)} "
            f"not as the reference, {wrong} files with wrong bytes; {minutes:.0f} min"
        )
    say(
        "at the end: "
        + ("; ".join(last) or "both engines and the audit have nothing to say, all bytes as the reference")
    )


if __name__ == "__main__":
    sys.exit(main())
