"""Presets: changes to ``base.yaml`` that give a complete ``params.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from novelseg.core.dialect import parse_yaml
from novelseg.core.errors import InputError, nearest
from novelseg.core.files import whole_file
from stages.params.schema import read_yaml
from workflow.config import PARAMS, check, section_classes

FOLDER = Path(__file__).parent / "presets"
HEADER = """\
# The active experiment. All values are in this file; none has a default elsewhere. Reference: docs/params.md.
# Written by `python -m workflow use {name}`; edit freely.
"""


def names() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "base")


def _changes(path: Path) -> list[dict[str, Any]]:
    """Return a preset's changes to the base; those of the preset that its key ``like`` names come first."""
    own = read_yaml(path)
    like = own.pop("like", None)
    if like is None:
        return [own]
    plain = [name for name in names() if "like" not in read_yaml(FOLDER / f"{name}.yaml")]
    if like not in plain:
        raise InputError(
            f"{path}: like is '{like}'; expected a preset without a key 'like' ({nearest(str(like), plain)})"
        )
    return [read_yaml(FOLDER / f"{like}.yaml"), own]


def resolve_preset(name: str) -> dict[str, Any]:
    """Return the values of a preset: those of the base with the preset's changes, in the order of the schema.

    Raises
    ------
    InputError
        If there is no such preset, or it does not validate.
    """
    if name not in names():
        raise InputError(
            f"there is no preset '{name}'; expected one of {', '.join(names())} ({nearest(name, names())})"
        )
    path = FOLDER / f"{name}.yaml"
    merged = read_yaml(FOLDER / "base.yaml")
    for changes in _changes(path):
        for section, values in changes.items():  # `check` refuses unknown sections
            merged[section] = {**merged.get(section, {}), **values} if isinstance(values, dict) else values
    check(merged, path)
    kinds = section_classes()
    return {section: {key: merged[section][key] for key in kinds[section].model_fields} for section in kinds}


def render(name: str) -> str:
    """Return the text of ``params.yaml`` for a preset."""
    sections = [
        yaml.safe_dump({section: values}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
        for section, values in resolve_preset(name).items()
    ]
    return HEADER.format(name=name) + "\n" + "\n".join(sections)


def use(name: str, *, force: bool, path: Path = PARAMS) -> bool:
    """Write ``params.yaml`` and return whether it changed; edited values are overwritten only with ``force``.

    Raises
    ------
    InputError
        If the file holds edited values, or the preset does not exist.
    """
    text = render(name)
    if path.exists():
        present = read_yaml(path)
        if present == parse_yaml(text):
            return False
        if not force and all(present != resolve_preset(other) for other in names()):
            raise InputError(
                f"{path} holds values of your own; keep a copy and add --force to overwrite them with '{name}'"
            )
    with whole_file(path) as scratch:
        scratch.write_text(text, encoding="utf8")
    return True
