"""Command line of the workflow, ``python -m workflow COMMAND``; ``--help`` lists the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from novelseg.core import commands
from novelseg.core.errors import InputError
from novelseg.core.files import disk_full_as_input_error
from workflow import presets
from workflow.lockfile import mend

# Commands that read or write dvc.lock, or start what does.
MENDING = ("run", "record", "adopt", "prune", "finish", "push", "pull", "audit", "explain")


def _table(options: argparse.Namespace) -> str:
    from workflow.results import markdown, table

    return markdown() if options.markdown else table()


def _use(options: argparse.Namespace) -> str:
    from workflow.plan import READS, folder

    changed = presets.use(options.name, force=options.force)
    for stage in READS:  # `dvc repro --dry` digests the folders that a stage reads, and fails if one is missing
        with disk_full_as_input_error(Path(folder(stage))):
            Path(folder(stage)).mkdir(parents=True, exist_ok=True)
    return f"params.yaml: {'now' if changed else 'already'} {options.name}"


def _check(options: argparse.Namespace) -> str:
    from workflow import checks

    if options.imports:
        return checks.imports_page()
    if options.fix:
        checks.fix()
    if faults := checks.run_checks():
        raise InputError("\n".join(faults))
    return f"{len(checks.CHECKS)} consistency checks passed"


def _ready(_: argparse.Namespace) -> str:
    from stages.provenance.digests import Digests
    from workflow.config import load
    from workflow.judge import Judge
    from workflow.ready import require_ready

    config = load()
    require_ready(config, Judge(config, Digests()))
    return ""


def _plan(_: argparse.Namespace) -> str:
    from workflow.forecast import plan

    return plan()


def _run(options: argparse.Namespace) -> str:
    from workflow.share import run

    return run(options.words)


def _record(options: argparse.Namespace) -> str:
    from workflow.records import record
    from workflow.tracking import alone

    # After a run, Snakemake still holds the lock of the folder.
    with nullcontext() if options.after_run else alone():
        return record()


def _adopt(options: argparse.Namespace) -> str:
    from workflow.adopt import adopt
    from workflow.tracking import alone

    with alone():
        return adopt(options.stages, every_job=options.every_job)


def _prune(options: argparse.Namespace) -> str:
    from workflow.plan import READS
    from workflow.records import prune
    from workflow.tracking import alone

    with alone():
        return "\n".join(f"removed {path}" for path in prune(tuple(options.stages) or tuple(READS)))


def _finish(options: argparse.Namespace) -> str:
    from workflow.records import finish
    from workflow.tracking import alone

    with alone():
        return "\n".join(f"removed {path}" for path in finish(options.stage))


def _push(options: argparse.Namespace) -> str:
    from workflow.share import push

    return push(options.remote)


def _pull(options: argparse.Namespace) -> str:
    from workflow.share import pull

    return pull(options.stages, options.remote)


def _audit(_: argparse.Namespace) -> str:
    from workflow.records import audit

    audit()
    return "dvc.lock and the provenance records agree"


def _explain(options: argparse.Namespace) -> str:
    from workflow.explain import explain

    return explain(options.path)


def _study(options: argparse.Namespace) -> str:
    if options.name == "seeds":
        from workflow.seeds import seeds

        return seeds(options.grid, options.words, state=options.state)
    if options.state:
        raise InputError(f"--state is for `study seeds`; the study '{options.name}' has nothing to resume")
    from workflow.study import study

    return study(options.name, options.grid, options.words)


def _join(options: argparse.Namespace) -> str:
    from workflow.join import join

    return join(options.folders, options.folds, options.out)


def _paper(options: argparse.Namespace) -> str:
    from workflow.paper import overview, paper

    return paper(options.name, options.words) if options.name else overview()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow", description="Everyday commands of the pipeline.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, action: Callable[[argparse.Namespace], str], text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=text)
        subparser.set_defaults(action=action)
        return subparser

    use = command("use", _use, "write params.yaml from a preset")
    use.add_argument("name", help=f"one of {', '.join(presets.names())}")
    use.add_argument("--force", action="store_true", help="overwrite edited values")
    command("plan", _plan, "show what would run and why, and how much time and disk space it takes; runs nothing")
    command("ready", _ready, "check lists, weights, supports and clusters; both engines do this before the first job")
    command("run", _run, "bring everything up to date and record it; further options go to snakemake: run --cores 4")
    record = command("record", _record, "write dvc.lock if every artifact is current")
    record.add_argument("--after-run", action="store_true", help=argparse.SUPPRESS)
    adopt = command(
        "adopt", _adopt, "keep artifacts of earlier code if a job of each stage, run again, gives the same content"
    )
    adopt.add_argument("stages", nargs="*", help="stages to adopt (default: all)")
    adopt.add_argument("--every-job", action="store_true", help="run all jobs of a stage again, not only the first")
    prune = command("prune", _prune, "remove shards, folds and scratch files that the parameters do not name")
    prune.add_argument("stages", nargs="*", help="stages to prune (default: all)")
    finish = command("finish", _finish, "prune a stage and pass its digests to DVC; `dvc repro` runs this itself")
    finish.add_argument("stage")
    push = command("push", _push, "publish what dvc.lock names, after an audit")
    push.add_argument("--remote", help="name of the DVC remote (default: DVC's own default)")
    command("audit", _audit, "compare dvc.lock with the provenance records; reads no large file")
    pull = command("pull", _pull, "fetch what dvc.lock names")
    pull.add_argument("stages", nargs="*", help="only what is needed to use these stages' outputs")
    pull.add_argument("--remote", help="name of the DVC remote (default: DVC's own default)")
    explain = command("explain", _explain, "print what an artifact was made from and, if it is stale, why")
    explain.add_argument("path", help="an artifact, a folder of artifacts, or a provenance record")
    study = command(
        "study",
        _study,
        "evaluate trained encoders under many test-time settings, or train with several seeds; further options go to "
        "`python -m stages studies`, or to snakemake",
    )
    study.add_argument("name", help="supports (Fig. 8 of the paper), thresholds (Fig. 7) or seeds (of the trainings)")
    study.add_argument("--grid", help="numbers of supports, thresholds or seeds, separated by spaces")
    study.add_argument("--state", action="store_true", help="seeds only: tell how much is finished, and run nothing")
    join = command("join", _join, "join the result tables of trainings with other seeds, each in a folder of its own")
    join.add_argument("folders", nargs="+", type=Path, help="folders of the repetitions, such as . and ../other-clone")
    join.add_argument("--folds", nargs="+", type=int, help="folds to join (default: all that the first folder has)")
    join.add_argument(
        "--out", type=Path, default=Path("studies/seeds"), help="folder of the tables (default: %(default)s)"
    )
    paper = command("paper", _paper, "write a table or figure of the papers, with their numbers, to report/paper/")
    paper.add_argument("name", nargs="?", help="such as A-III (table) or A-5 (figure); without it, all are listed")
    check = command("check", _check, "consistency checks: generated files, presets, imports, rules and signatures")
    check.add_argument("--fix", action="store_true", help="renew generated files first")
    check.add_argument("--imports", action="store_true", help="print every import between the project's files instead")
    table = command("table", _table, "print the result table")
    table.add_argument("--markdown", action="store_true", help="all tables of the report, for a document")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    commands.replace_unknown_characters()
    parser = _parser()
    options, words = parser.parse_known_args(argv)
    if words and options.command not in ("run", "study", "paper"):
        parser.error(f"unrecognized arguments: {' '.join(words)}")
    options.words = words

    def action() -> None:
        if options.command in MENDING:
            mend()
        if output := options.action(options):
            print(output)

    return commands.run(f"workflow {options.command}", action)


if __name__ == "__main__":
    sys.exit(main())
