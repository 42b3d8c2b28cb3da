"""What an artifact is made by: the parameter sections and the code that its stage imports.

Nothing is imported to find out: signatures and imports are read from the syntax tree, so that the engines start fast.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from workflow.config import Config

SECTIONS = "stages.sections."


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf8"), str(path))


def _imports(tree: ast.Module) -> dict[str, str]:
    """Local name → dotted name, for every ``from … import …`` and ``import …``."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name] = alias.name
    return found


@cache
def sections(stage: str) -> tuple[str, ...]:
    """Parameter sections that a stage's ``run`` takes, by the annotations of its signature."""
    tree = _tree(Path(f"stages/{stage}.py"))
    imports = _imports(tree)
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    names = [arg.annotation.id for arg in run.args.kwonlyargs if isinstance(arg.annotation, ast.Name)]
    dotted = [imports.get(name, "") for name in names]
    return tuple(name.removeprefix(SECTIONS).split(".")[0] for name in dotted if name.startswith(SECTIONS))


@cache
def closure(stage: str) -> tuple[Path, ...]:
    """First-party files that a stage's module imports, itself and the packages above included, sorted."""
    seen: set[Path] = set()
    todo = [Path(f"stages/{stage}.py")]
    while todo:
        path = todo.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        todo += [parent / "__init__.py" for parent in path.parents if parent != Path()]
        for dotted in _imports(_tree(path)).values():
            if dotted.split(".")[0] == "stages":
                # The last part is a module, or a name in one.
                module = Path(*dotted.split("."))
                todo += [module.with_suffix(".py"), module / "__init__.py", module.parent.with_suffix(".py")]
    return tuple(sorted(seen))


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    # The names are ast's.
    visit_Module = visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _strip  # noqa: N815


@cache
def code_digest(stage: str) -> str:
    """Digest of a stage's code: the syntax trees of its closure, without comments, docstrings and layout."""
    parts = [f"{path}\n{ast.unparse(_WithoutDocstrings().visit(_tree(path)))}" for path in closure(stage)]
    return hashlib.md5("\0".join(parts).encode()).hexdigest()


def recipe(stage: str, config: Config) -> str:
    """Parameters and code of a stage as one line; Snakemake reruns a job when it changes."""
    content = {"code": code_digest(stage), **{name: config.values(name) for name in sections(stage)}}
    return json.dumps(content, sort_keys=True)
