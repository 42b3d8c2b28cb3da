"""Parts that the command-line programs share: the help overview, error messages and exit codes."""

from __future__ import annotations

import ast
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from novelseg.core.errors import InputError, nearest
from novelseg.core.extras import needs_extras
from novelseg.core.files import system_refused
from novelseg.core.progress import say


def summary(module: Path) -> str:
    """Return the first line of a module's docstring; the module is not imported, which could take seconds."""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf8"))) or "").partition("\n")[0]


def overview(usage: str, description: str, groups: Mapping[str, Mapping[str, str]]) -> str:
    """Return the text of a program's ``--help``.

    Parameters
    ----------
    usage
        Form of a call.
    description
        Purpose of the program.
    groups
        Title of a group → name of a command or option → description.
    """
    width = max(len(name) for group in groups.values() for name in group) + 2
    lines = [f"usage: {usage}", "", description]
    for title, group in groups.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}{text}" for name, text in group.items())]
    return "\n".join(lines)


def show(text: str) -> None:
    """Print a text to standard output."""
    replace_unknown_characters()
    sys.stdout.write(f"{text}\n")


def replace_unknown_characters() -> None:
    """Print ``?`` for characters that the terminal's encoding lacks, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def refuse(command: str, known: Iterable[str], program: str) -> int:
    """Report an unknown command and return the exit code."""
    say(f"error: there is no command '{command}'; {nearest(command, known)} `{program} --help` lists all commands")
    return 2


def run(name: str, action: Callable[[], None]) -> int:
    """Run a command and return its exit code; print an :class:`InputError` or a missing package as one sentence.

    Parameters
    ----------
    name
        Name of the command, for messages.
    action
        Function that imports and runs the command.
    """
    replace_unknown_characters()
    try:
        with needs_extras(name):
            action()
    except InputError as error:
        say(f"error: {error}")
        return 2
    except OSError as error:
        if not (refused := system_refused(error)):
            raise
        say(f"error: {refused}")
        return 2
    except KeyboardInterrupt:
        say(f"{name}: interrupted; no partial output was kept, run it again to continue")
        return 130
    return 0
