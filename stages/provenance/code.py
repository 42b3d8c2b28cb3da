"""First-party code of a stage: the files that its module imports, and one digest of their meaning.

Imports are read from the syntax trees and nothing is imported, so that the engines start fast.
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
from stages.provenance.sources import SourceMemory

# First-party package → its parent folder; these are the files that this process runs, wherever it was started.
ROOTS = {"novelseg": Path(novelseg.__file__).parents[1], "stages": Path(__file__).parents[2]}
EMPTY = "Module(body=[])"


@dataclass(frozen=True)
class Source:
    """A Python file: its imports, the digest of its meaning, and whether it holds nothing but a docstring."""

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
    """Return a syntax tree as text, without comments, docstrings, layout and empty fields (newer Pythons add some)."""
    if isinstance(node, ast.AST):
        fields = [f"{name}={_meaning(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(_meaning(entry) for entry in node if not _is_docstring(entry))}]"
    return repr(node)


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a syntax tree, except code under ``TYPE_CHECKING``."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    yield tree
    for node in ast.iter_child_nodes(tree):
        yield from _executed(node)


def locate(path: Path) -> Path:
    """Return the location of a first-party file, named relative to :data:`ROOTS`, such as ``stages/train.py``."""
    return ROOTS[path.parts[0]] / path


@cache
def source(path: Path) -> Source:
    """Read a first-party file: local name → dotted name for every absolute import, and the digest of its syntax tree.

    The digest of a template is that of its bytes.
    """
    content = locate(path).read_bytes()
    if path.suffix != ".py":
        return Source({}, hashlib.md5(content).hexdigest(), False)
    memory = _memory()
    key = memory.key(content)
    if known := memory.get(key):
        return Source(*known)
    parsed = _parse(content, path)
    memory.put(key, parsed.imports, parsed.digest, parsed.empty)
    return parsed


@cache
def _memory() -> SourceMemory:
    return SourceMemory()


@cache  # by content: never out of date
def _parse(content: bytes, path: Path) -> Source:
    tree = ast.parse(content, str(path))
    imports: dict[str, str] = {}
    for node in _executed(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: alias.name for alias in node.names}
    meaning = _meaning(tree)
    return Source(imports, hashlib.md5(meaning.encode()).hexdigest(), meaning == EMPTY)


@cache
def _needs(path: Path) -> tuple[Path, ...]:
    """Return the first-party files that a file needs itself: modules, and ``__init__.py`` above it."""
    wanted = [parent / "__init__.py" for parent in path.parents if parent != Path()]
    for dotted in source(path).imports.values():
        if dotted.split(".")[0] in ROOTS:
            # The last part is a module or a name in a module.
            module = Path(*dotted.split("."))
            wanted += [module / "__init__.py"]
            wanted += [part.with_suffix(".py") for part in (module, module.parent) if len(part.parts) > 1]
    return tuple(file for file in dict.fromkeys(wanted) if locate(file).exists())


@cache
def _templates(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / "templates" / path.name for path in locate(folder).glob("templates/*"))


@cache
def closure(stage: str) -> tuple[Path, ...]:
    """Return, sorted, the first-party files that a stage runs.

    These are its module, the modules that it imports directly or indirectly, the ``__init__.py`` of the packages above
    them, and the templates of these packages. Paths are relative to :data:`ROOTS`.

    Raises
    ------
    InputError
        If the stage has no module, since the digest of no code would match anything.
    """
    module, tool = Path("stages", f"{stage}.py"), Path("stages", "tools", f"{stage}.py")
    todo = [path for path in (module, tool) if locate(path).exists()]
    if not todo:
        raise InputError(f"{locate(module)}: no such file; check the name of the stage '{stage}'")
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += _needs(path)
    templates = {template for folder in {path.parent for path in seen} for template in _templates(folder)}
    _memory().save()
    return tuple(sorted(seen | templates))


@cache
def code_digest(stage: str) -> str:
    """Return the digest of a stage's code: of the names and meanings of all files in its closure."""
    parts = [f"{path.as_posix()} {source(path).digest}" for path in closure(stage)]
    return hashlib.md5("\n".join(parts).encode()).hexdigest()


def packages(stage: str) -> set[str]:
    """Return the top-level names of all packages that a stage's own files import, however late."""
    return {dotted.split(".")[0] for path in closure(stage) for dotted in source(path).imports.values()}


def forget() -> None:
    """Clear the caches, for a process that keeps running while code is edited."""
    for function in (source, _needs, _templates, closure, code_digest, _memory):
        function.cache_clear()
