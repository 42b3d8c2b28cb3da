"""Entry point of the program ``novelseg``; each of its commands is a module of this package."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from novelseg.core import commands
from novelseg.core.options import add_option, options_of
from novelseg.version import __version__

COMMANDS = ("segment", "app", "export", "fetch", "check-weights")


def _module(name: str) -> str:
    """Return the name of a command's module."""
    return name.replace("-", "_")


def _overview() -> str:
    return commands.overview(
        "novelseg COMMAND --option VALUE …",
        "Few-shot segmentation: given a few pictures of a new class with masks, segment the class in other pictures.",
        {
            "commands": {name: commands.summary(Path(__file__).with_name(f"{_module(name)}.py")) for name in COMMANDS},
            "options": {
                "--help": "Show this text; `novelseg COMMAND --help` describes the options of a command.",
                "--version": "Show the version.",
            },
        },
    )


def _run(name: str, arguments: Sequence[str]) -> None:
    module = importlib.import_module(f"novelseg.cli.{_module(name)}")
    parser = argparse.ArgumentParser(
        prog=f"novelseg {name}",
        description=(inspect.getdoc(module) or "").replace("``", "`"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for key, option in options_of(module.run).items():
        add_option(parser, key, option)
    module.run(**vars(parser.parse_args(arguments)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command with the given arguments (by default those of the process) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        commands.show(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        commands.show(f"novelseg {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        return commands.refuse(arguments[0], COMMANDS, "novelseg")
    return commands.run(f"novelseg {arguments[0]}", lambda: _run(arguments[0], arguments[1:]))
