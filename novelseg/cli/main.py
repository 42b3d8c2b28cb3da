"""The command ``novelseg``: what each subcommand does, its options, and how it ends."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Sequence

from novelseg import __version__
from novelseg.core.errors import InputError
from novelseg.core.options import add_option, options_of
from novelseg.core.progress import say

# Command → what it does, in a line. The module of a command is imported when it runs, so that help comes at once.
COMMANDS = {
    "segment": "segment pictures, given a few pictures with masks",
    "app": "open a local page: paint a mask, drop pictures, download masks",
    "export": "pack a trained encoder into one file that segments pictures anywhere",
    "fetch": "download official data sets and pretrained weights, verified",
}


def _overview() -> str:
    lines = [f"  {name:<10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: novelseg COMMAND [--help] …",
            "",
            "Few-shot segmentation: a few pictures of something new with masks, and masks of it in other pictures.",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            "  --help    show this text; `novelseg COMMAND --help` lists the options of a command",
            "  --version show the version",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command from command-line words; give the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["-h"], ["--help"]) or words == ["--version"]:
        sys.stdout.write(f"novelseg {__version__}\n" if words == ["--version"] else _overview() + "\n")
        return 0
    if not words or words[0] not in COMMANDS:
        say(_overview() if not words else f"error: there is no command '{words[0]}'; expected {', '.join(COMMANDS)}")
        return 2
    module = importlib.import_module(f"novelseg.cli.{words[0]}")
    parser = argparse.ArgumentParser(
        prog=f"novelseg {words[0]}",
        description=inspect.getdoc(module),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, option in options_of(module.run).items():
        add_option(parser, name, option)
    options = vars(parser.parse_args(words[1:]))
    try:
        module.run(**options)
    except InputError as error:
        say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        say(f"{words[0]}: interrupted; nothing half-written is kept, run it again to go on")
        return 130
    return 0
