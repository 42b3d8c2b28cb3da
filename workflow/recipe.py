"""Parameter sections that a stage reads, by the annotations of its ``run``."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from stages.core.code import source

SECTIONS = "stages.sections."


@cache
def sections(stage: str) -> tuple[str, ...]:
    """Parameter sections of a stage, from its syntax tree: importing it could take seconds."""
    path = Path(f"stages/{stage}.py")
    tree, imports = ast.parse(path.read_text(encoding="utf8")), source(path).imports
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    names = [arg.annotation.id for arg in run.args.kwonlyargs if isinstance(arg.annotation, ast.Name)]
    dotted = [imports.get(name, "") for name in names]
    return tuple(name.removeprefix(SECTIONS).split(".")[0] for name in dotted if name.startswith(SECTIONS))
