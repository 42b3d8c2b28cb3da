"""The commands of the library, run in this process."""

from __future__ import annotations

from novelseg.cli.main import main
from tests.makers import Project


def novelseg(command: str, *words: object) -> int:
    """Run ``novelseg COMMAND``; give the exit code."""
    return main([command, *map(str, words)])


def export(project: Project, *words: object) -> int:
    """Run ``novelseg export`` with the settings of a project; give the exit code."""
    return novelseg("export", "--params", project.params, *words)
