"""Parameter sections of a stage, from the annotations of its ``run``."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from stages.provenance.code import locate, source

SECTIONS, SETTINGS = "stages.params.", ".settings"  # names of modules: start, end


@cache
def _by_argument(stage: str) -> dict[str, str]:
    """Return the section of each keyword of a stage's ``run`` that is a parameter section.

    The same as :func:`stages.interface.interface` says, but from the syntax tree: an import could take seconds.
    """
    path = Path(f"stages/{stage}.py")
    tree, imports = ast.parse(locate(path).read_text(encoding="utf8")), source(path).imports
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    names = {arg.arg: arg.annotation.id for arg in run.args.kwonlyargs if isinstance(arg.annotation, ast.Name)}
    by_argument = {}
    for argument, name in names.items():
        module = imports.get(name, "").rpartition(".")[0]
        if module.startswith(SECTIONS):
            by_argument[argument] = module.removeprefix(SECTIONS).split(".")[0]
        elif module.endswith(SETTINGS):
            by_argument[argument] = argument
    return by_argument


def sections(stage: str) -> tuple[str, ...]:
    """Return the parameter sections of a stage."""
    return tuple(_by_argument(stage).values())


def section_arguments(stage: str) -> set[str]:
    """Return the keywords of a stage's ``run`` that are parameter sections."""
    return set(_by_argument(stage))


def forget() -> None:
    """Clear the cache, for a process that keeps running while code is edited."""
    _by_argument.cache_clear()
