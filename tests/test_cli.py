"""Command lines: what help says, unknown commands, missing packages, terminals without UTF-8."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from novelseg import __version__
from novelseg.cli.main import COMMANDS
from novelseg.cli.main import main as novelseg
from novelseg.core.errors import InputError
from novelseg.core.extras import EXTRAS, MissingPackageError, needs_extras
from novelseg.core.options import options_of
from stages.__main__ import STAGES
from stages.__main__ import main as stages
from stages.interface import TOOLS, interface

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
LEAN = {"PIL", "filelock", "numpy", "safetensors", "torch", "tqdm", "requests", "urllib3"}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with the packages of this clone."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False)


def lines_by_name(text: str) -> dict[str, str]:
    """Indented lines of a help text: first word → the rest."""
    parts = [line.split(maxsplit=1) for line in text.splitlines() if line.startswith("  ")]
    return {part[0]: part[1] for part in parts if len(part) == 2}


def test_help_says_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert novelseg(["--help"]) == 0
    printed = capsys.readouterr().out
    lines = lines_by_name(printed)
    assert list(lines) == [*COMMANDS, "--help", "--version"]
    assert all(line.endswith(".") and len(line) < 110 for line in lines.values())
    modules = {path.stem for path in (ROOT / "novelseg/cli").glob("*.py")}
    assert modules - {"__init__", "main", "options"} == {name.replace("-", "_") for name in COMMANDS}
    assert novelseg([]) == 2
    assert capsys.readouterr().out == printed


def test_help_says_what_each_stage_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert stages(["--help"]) == 0
    lines = lines_by_name(capsys.readouterr().out)
    assert list(lines) == [*STAGES, *TOOLS]
    assert all(line.endswith(".") for line in lines.values())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_describes_it_and_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        novelseg([command, "--help"])
    printed = capsys.readouterr().out
    assert f"usage: novelseg {command}" in printed
    assert "``" not in printed
    for name, option in options_of(importlib.import_module(f"novelseg.cli.{command.replace('-', '_')}").run).items():
        assert f"--{name.replace('_', '-')}" in printed
        assert option.help.text


@pytest.mark.parametrize("stage", [*STAGES, *TOOLS])
def test_every_option_of_a_stage_has_help(stage: str) -> None:
    for name, option in interface(stage).options.items():
        assert option.help.text, name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert novelseg(["--version"]) == 0
    assert capsys.readouterr().out == f"novelseg {__version__}\n"


def test_an_unknown_command_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert novelseg(["segmnt", "--bundle", "x"]) == 2
    assert capsys.readouterr().err == (
        "error: there is no command 'segmnt'; did you mean 'segment'? `novelseg --help` lists all commands\n"
    )
    assert stages(["imags"]) == 2
    assert "there is no command 'imags'; did you mean 'images'" in capsys.readouterr().err


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        novelseg(["segment", "--bun", "b", "--support", "s", "--query", "q", "--out", "o"])
    assert "unrecognized arguments: --bun" in capsys.readouterr().err


def test_an_interruption_ends_a_command_with_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("novelseg.cli.segment.use_threads", interrupted)
    words = ["--bundle", "b", "--support", "s", "--query", "q", "--out", "o"]
    assert novelseg(["segment", *words]) == 130
    assert capsys.readouterr().err.startswith("novelseg segment: interrupted; no partial output was kept")


def test_a_terminal_without_the_characters_of_the_help() -> None:
    code = "from stages.__main__ import main; main(['--help'])"
    process = python(code, PYTHONIOENCODING="ascii")
    assert process.returncode == 0, process.stderr
    assert "--option VALUE ?" in process.stdout


# --- extras


HIDDEN = f"""
import sys
for name in {sorted(EXTRAS)}:
    sys.modules[name] = None
from novelseg.cli.main import main
"""


def test_a_missing_package_is_told_with_the_extra_that_installs_it(tmp_path: Path) -> None:
    bundle = tmp_path / "absent.safetensors"
    code = f"""{HIDDEN}
assert main(["export", "--encoder", "e", "--index", "i", "--out", "o"]) == 2
assert main(["app", "--bundle", {str(bundle)!r}]) == 2
assert main(["segment", "--bundle", {str(bundle)!r}, "--support", "s", "--query", "q", "--out", "o"]) == 2
try:
    from novelseg.regions import segment_regions
except ImportError as error:
    print(error, file=sys.stderr)
from novelseg.regions import cut
"""
    process = python(code)
    assert process.returncode == 0, process.stderr
    assert process.stderr.splitlines() == [
        "error: novelseg export --encoder needs h5py; run `pip install 'novelseg[pipeline]'`",
        "error: novelseg app needs flask; run `pip install 'novelseg[app]'`",
        f"error: {bundle}: no such file; make it with `novelseg export`",
        "novelseg.regions.segment_regions needs cv2; run `pip install 'novelseg[regions]'`",
    ]


def test_packages_of_no_extra_are_not_explained() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), needs_extras("this test"):
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(MissingPackageError) as caught, needs_extras("this test"):
        raise ModuleNotFoundError("No module named 'h5py._errors'", name="h5py._errors")
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, ImportError)
    assert caught.value.name == "h5py"


def test_every_imported_package_is_lean_or_of_an_extra() -> None:
    imported = set()
    for path in [*(ROOT / "novelseg").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    # Stubs of the type checker, and an import that scikit-learn alone asks for.
    packages = imported - set(sys.stdlib_module_names) - {"novelseg", "stages", "_typeshed", "sklearn"}
    assert packages == LEAN | EXTRAS.keys()
