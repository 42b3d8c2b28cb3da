"""What code a stage runs: its module's first-party imports, and one digest of what they say.

Nothing is imported to find out: imports are read from the syntax tree, so that the engines start fast.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import novelseg
from novelseg.core.errors import InputError

# First-party package → folder that it lies in: the files that this process runs, wherever it was started.
ROOTS = {"novelseg": Path(novelseg.__file__).parents[1], "stages": Path(__file__).parents[2]}
EMPTY = "Module(body=[])"


@dataclass(frozen=True)
class Source:
    """A Python file: what it imports, its meaning as a digest, and whether it says nothing beside its docstring."""

    imports: dict[str, str]
    digest: str
    empty: bool


def _is_docstring(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _meaning(node: object) -> str:
    """A syntax tree as text: no comments, docstrings, layout or empty fields, which Python versions add to."""
    if isinstance(node, ast.AST):
        fields = [f"{name}={_meaning(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(_meaning(entry) for entry in node if not _is_docstring(entry))}]"
    return repr(node)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a syntax tree, without what only type checkers see."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    yield tree
    for node in ast.iter_child_nodes(tree):
        yield from _executed(node)


def locate(path: Path) -> Path:
    """Where a first-party file lies that is named relative to its package's folder, such as ``stages/train.py``."""
    return ROOTS[path.parts[0]] / path


@cache
def source(path: Path) -> Source:
    """Read a first-party file: local name → dotted name for every absolute import, and the digest of its syntax tree.

    A template has its bytes for a meaning.
    """
    place = locate(path)
    if path.suffix != ".py":
        return Source({}, hashlib.md5(place.read_bytes()).hexdigest(), False)
    tree = ast.parse(place.read_text(encoding="utf8"), str(path))
    imports: dict[str, str] = {}
    for node in _executed(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: alias.name for alias in node.names}
    meaning = _meaning(tree)
    return Source(imports, hashlib.md5(meaning.encode()).hexdigest(), meaning == EMPTY)


@cache
def closure(stage: str) -> tuple[Path, ...]:
    """First-party files that a stage's module imports, itself and the packages above included, sorted.

    The templates of a package that is imported are among them.

    Paths are relative to the folder that holds the packages (:data:`ROOTS`).

    Raises
    ------
    InputError
        If there is no such file: a digest of nothing would certify anything.
    """
    seen: set[Path] = set()
    module, tool = Path("stages", f"{stage}.py"), Path("stages", "tools", f"{stage}.py")
    if not (locate(module).exists() or locate(tool).exists()):
        raise InputError(f"{locate(module)}: no such file; the code of the stage '{stage}' cannot be identified")
    todo = [module, tool]  # of which one exists
    while todo:
        path = todo.pop()
        if path in seen or not locate(path).exists():
            continue
        seen.add(path)
        todo += [parent / "__init__.py" for parent in path.parents if parent != Path()]
        for dotted in source(path).imports.values():
            if dotted.split(".")[0] in ROOTS:
                # The last part is a module, or a name in one.
                module = Path(*dotted.split("."))
                todo += [module / "__init__.py"]
                todo += [part.with_suffix(".py") for part in (module, module.parent) if len(part.parts) > 1]
    templates = {
        folder / "templates" / path.name
        for folder in {path.parent for path in seen}
        for path in locate(folder).glob("templates/*")
    }
    return tuple(sorted(seen | templates))


@cache
def code_digest(stage: str) -> str:
    """Digest of a stage's code: the meanings of all files of its closure, and their names."""
    parts = [f"{path.as_posix()} {source(path).digest}" for path in closure(stage)]
    return hashlib.md5("\n".join(parts).encode()).hexdigest()


def forget() -> None:
    """Read all files anew: for a process that lives while code is edited."""
    for remembered in (source, closure, code_digest):
        remembered.cache_clear()
