"""Command line of the stages: ``python -m stages STAGE --option value …``.

The options are the keywords of the stage's ``run``; parameters come from the sections of ``--params`` that its
signature names. ``--record FILE`` also writes a provenance record (:mod:`stages.provenance.record`).
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path

from novelseg.core import commands
from novelseg.core.files import check_writable
from novelseg.core.options import add_option
from stages.interface import TOOLS, Interface, interface
from stages.params.schema import load_sections
from stages.provenance.digests import Digests
from stages.provenance.record import Recorder
from stages.provenance.times import Clock

STAGES = (
    "images",
    "index",
    "hierarchies",
    "regions",
    "baseline",
    "features",
    "prototypes",
    "pseudolabels",
    "train",
    "cam",
    "episodes",
    "evaluate",
    "report",
)


def _parser(stage: Interface) -> argparse.ArgumentParser:
    summary = (inspect.getdoc(inspect.getmodule(stage.run)) or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"python -m stages {stage.name}", description=summary)
    if stage.sections:
        parser.add_argument(
            "--params",
            type=Path,
            default=Path("params.yaml"),
            metavar="PATH",
            help="parameter file (default: %(default)s)",
        )
    for name, option in stage.options.items():
        add_option(parser, name, option)
    if "out" in stage.options:
        parser.add_argument(
            "--record", type=Path, metavar="PATH", help="provenance record to write; run in the project's folder"
        )
    return parser


def _run(name: str, words: list[str]) -> None:
    clock = Clock()
    stage = interface(name)
    options = vars(_parser(stage).parse_args(words))
    sections = load_sections(options.pop("params"), stage.sections) if stage.sections else {}
    record = options.pop("record", None)
    for target in filter(None, (options.get("out"), record)):
        check_writable(target)
    recorder = None
    if record:
        parameters = {name: values.model_dump() for name, values in sections.items()}
        recorder = Recorder(record, stage.name, stage.scientific(options), parameters, Digests())
    stage.run(**options, **{stage.arguments[name]: values.for_stage() for name, values in sections.items()})
    if recorder:
        outputs = recorder.write()
        clock.log(record, stage.name, parameters, outputs)


def _overview() -> str:
    folder = Path(__file__).parent
    return commands.overview(
        "python -m stages STAGE --option VALUE …",
        "Stages of the pipeline and its tools. `python -m stages STAGE --help` describes the options of a stage.",
        {
            "stages, in the order of the pipeline": {name: commands.summary(folder / f"{name}.py") for name in STAGES},
            "tools": {name: commands.summary(folder / "tools" / f"{name}.py") for name in TOOLS},
        },
    )


def main(argv: list[str] | None = None) -> int:
    """Run a stage from command-line words and return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        commands.show(_overview())
        return 0 if words else 2
    if words[0] not in STAGES + TOOLS:
        return commands.refuse(words[0], STAGES + TOOLS, "python -m stages")
    return commands.run(f"stages {words[0]}", lambda: _run(words[0], words[1:]))


if __name__ == "__main__":
    sys.exit(main())
