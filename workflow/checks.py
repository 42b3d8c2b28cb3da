"""``python -m workflow check``: consistency checks of the project."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from novelseg.core.errors import InputError
from novelseg.core.files import whole_file
from stages.provenance.digests import Digests
from workflow import dvcfile, reference
from workflow.config import load, section_classes
from workflow.formats import HDF5_SPECS, TABLE_SPECS
from workflow.judge import Judge
from workflow.picture import dag_picture
from workflow.plan import READS
from workflow.presets import names, resolve_preset
from workflow.ready import require_ready
from workflow.recipe import section_arguments, sections

ENGINES = ("snakemake", "dvc", "dvclive", "workflow")
DVCLIVE = ("stages/live.py", "dvclive")  # imported on demand, for trainings with live curves
# Layers of the library from the bottom; a package may import itself and packages of lower layers.
LAYERS = (
    ("core",),
    ("ops", "formats"),
    ("data",),
    ("regions", "backbones", "exchange"),
    ("methods",),
    ("training", "evaluation", "fetch"),
    ("inference", "report"),
    ("cli",),
)
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}
# Packages of stages/ that the stage modules import and that never import a stage module.
BELOW_STAGES = ("params", "provenance")
GENERATED: dict[Path, Callable[[], str]] = {
    dvcfile.PATH: dvcfile.render,
    Path("docs/params.md"): reference.params_page,
    Path("docs/artifacts.md"): reference.artifacts_page,
    Path("docs/dag.svg"): dag_picture,
}


def generated_files() -> Iterator[str]:
    """Check that generated files are up to date."""
    for path, render in GENERATED.items():
        if not path.exists() or path.read_text(encoding="utf8") != render():
            yield f"{path}: out of date; run `python -m workflow check --fix`"


def presets_validate() -> Iterator[str]:
    """Check that every preset resolves and validates, and that the active experiment fits its data and weights."""
    for name in names():
        try:
            resolve_preset(name)
        except InputError as error:
            yield f"preset {name}: {error}"
    try:
        config = load()
        require_ready(config, Judge(config, Digests()))
    except InputError as error:
        yield str(error)


def imported_names(path: Path) -> frozenset[str]:
    """Return the dotted names that a file imports anywhere; ``from novelseg.x import y`` gives ``novelseg.x.y``."""
    return _imported_names(path.read_text(encoding="utf8"))


@cache
def _imported_names(source: str) -> frozenset[str]:
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                imported.add("relative import")
            elif node.module:
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(imported)


def _import_fault(path: Path, name: str) -> str:
    """Return why a file must not import a name; empty if it may."""
    own, target = path.parts, name.split(".")
    if name == "relative import":
        return "imports must be absolute"
    if own[0] != "workflow" and target[0] in ENGINES and (path.as_posix(), target[0]) != DVCLIVE:
        return f"nothing under {own[0]}/ may import an engine"
    if own[0] == "novelseg":
        if target[0] == "stages":
            return "nothing under novelseg/ may import a stage or a parameter section"
        if target[0] == "novelseg" and len(own) > 2:
            if target[1] in LEVEL and own[1] != target[1] and LEVEL[target[1]] >= LEVEL[own[1]]:
                return f"novelseg/{own[1]} may import only itself and the layers below it"
            if target[1] not in LEVEL and target[1] != "version":
                return "import it from the module that defines it; the top-level names are for users of the library"
    if own[:2] in [("stages", name) for name in BELOW_STAGES] and target[0] == "stages" and target[1] != own[1]:
        return f"stages/{own[1]} may import only itself and novelseg"
    return ""


def walked_files() -> list[Path]:
    """Return every file that the import check covers."""
    return sorted(path for top in ("novelseg", "stages", "workflow") for path in Path(top).rglob("*.py"))


def imports_point_one_way() -> Iterator[str]:
    """Check that every import points down, from engines to stages to layers of the library, without circles."""
    edges: dict[str, set[str]] = {}
    for path in walked_files():
        if path.parts[0] == "novelseg" and len(path.parts) > 2 and path.parts[1] not in LEVEL:
            yield f"{path}: novelseg/{path.parts[1]} is in no layer; add it to LAYERS in workflow/checks.py"
            continue
        for name in sorted(imported_names(path)):
            if reason := _import_fault(path, name):
                yield f"{path}: imports {name}; {reason}"
        edges[path.as_posix()] = {target.as_posix() for target in _first_party(path)}
    for circle in _circles(edges):
        yield f"{' → '.join(circle)}: these files import each other in a circle"


def _first_party(path: Path) -> set[Path]:
    """Return the first-party files that a file imports, at load time or on demand."""
    files = set()
    for name in imported_names(path):
        if name.partition(".")[0] in ("novelseg", "stages", "workflow"):
            module = Path(*name.split("."))
            whole = module if len(module.parts) == 1 else module.parent
            options = (
                module.with_suffix(".py"),
                module / "__init__.py",
                whole.with_suffix(".py"),
                whole / "__init__.py",
            )
            files |= {next((option for option in options if option.exists()), path)}
    return files - {path}


def _circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Yield one circle for each import that leads a depth-first walk back to a file on its trail."""
    done: set[str] = set()

    def visit(file: str, trail: list[str]) -> Iterator[list[str]]:
        if file in trail:
            yield [*trail[trail.index(file) :], file]
            return
        if file in done:
            return
        for target in sorted(edges.get(file, ())):
            yield from visit(target, [*trail, file])
        done.add(file)

    for file in sorted(edges):
        yield from visit(file, [])


def imports_page() -> str:
    """Return every import between first-party files as text, with counts and faults at the end."""
    files = walked_files()
    lines = []
    for path in files:
        targets = sorted(target.as_posix() for target in _first_party(path))
        lines.append(f"{path}" + "".join(f"\n  → {target}" for target in targets))
    faults = list(imports_point_one_way())
    count = sum(len(_first_party(path)) for path in files)
    return "\n".join([*lines, f"{len(files)} files, {count} imports; faults: {len(faults)}", *faults])


def _rule_shells() -> dict[str, str]:
    """Return the shell command of each rule as one line."""
    shells = {}
    for path in sorted(Path("workflow/rules").glob("*.smk")):
        for match in re.finditer(r"^rule (\w+):\n((?:[ \n].*\n?)*)", path.read_text(encoding="utf8"), re.M):
            _, _, shell = match[2].partition("    shell:\n")
            shells[match[1]] = "".join(re.findall(r'"([^"]*)"', shell))
    return shells


def _signature(stage: str) -> tuple[set[str], set[str]]:
    """Return the options of a stage's ``run`` without its parameter sections: all options, and the required ones."""
    tree = ast.parse(Path(f"stages/{stage}.py").read_text(encoding="utf8"))
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    section_names = section_arguments(stage)
    options, required = set(), set()
    for argument, default in zip(run.args.kwonlyargs, run.args.kw_defaults, strict=True):
        if argument.arg in section_names:
            continue
        options.add(argument.arg)
        if default is None:
            required.add(argument.arg)
    return options, required


def commands_fit_signatures() -> Iterator[str]:
    """Check that each rule runs its own stage with options of ``run``, all required ones, and no constant."""
    shells = _rule_shells()
    if set(shells) != set(READS):
        yield f"rules and stages differ: {', '.join(sorted(set(shells) ^ set(READS)))}"
    for stage, shell in shells.items():
        if not shell.startswith(f"python -m stages {stage} "):
            yield f"rule {stage}: must run `python -m stages {stage}`"
        pairs = re.findall(r"--([a-z-]+)(?: (\S+))?", shell)
        flags = {name.replace("-", "_") for name, _ in pairs}
        optional = set(re.findall(r"\{params\.(\w+)\}", shell))  # whole options that the rule may leave out
        options, required = _signature(stage)
        if f"--record provenance/{stage}" not in shell:
            yield f"rule {stage}: must write its provenance record, --record provenance/{stage}…"
        for name in sorted(flags - options - {"record"}):
            yield f"rule {stage}: --{name} is not a keyword of run"
        for name in sorted(required - flags - optional):
            yield f"rule {stage}: run needs --{name}"
        for name, value in pairs:
            # Values that can change a result come from files, parameters or the output's name; `report` is a path.
            if "{" not in value and not (name == "record" or (name == "out" and value in ("report", "$(dirname"))):
                yield f"rule {stage}: --{name} {value} is a constant, so that no engine would notice its change"


def snakemake_agrees() -> Iterator[str]:
    """Check that Snakemake's graph of rules has exactly the edges of the plan."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "--forceall", "--quiet", "all"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        yield f"snakemake --rulegraph fails: {process.stderr.strip().splitlines()[-1]}"
        return
    labels = dict(re.findall(r'(\d+)\[label = "(\w+)"', process.stdout))
    edges = {(labels[a], labels[b]) for a, b in re.findall(r"(\d+) -> (\d+)", process.stdout)}
    targets = load().targets
    stages = {stage for stage in READS if targets.of(stage)}
    planned = {(read, stage) for stage in stages for read in READS[stage] if read in stages} | {("report", "all")}
    for read, stage in sorted(edges ^ planned):
        where = "the Snakefile but not in the plan" if (read, stage) in edges else "the plan but not in the Snakefile"
        yield f"in {where}, {stage} reads {read}"


def artifacts_have_specs() -> Iterator[str]:
    """Check that every stage has a spec of its artifacts, and that specs name existing stages."""
    owners = {name for spec in (*HDF5_SPECS, *TABLE_SPECS) for name in spec.stage.split(", ")}
    for stage in READS:
        if stage not in owners:
            yield f"stage {stage}: its artifacts have no spec in novelseg/formats"
    for owner in sorted(owners - set(READS)):
        yield f"novelseg/formats names the stage {owner}, which does not exist"


def sections_are_used() -> Iterator[str]:
    """Check that a stage reads each section of ``params.yaml``."""
    used = {name for stage in READS for name in sections(stage)}
    for name in sorted(set(section_classes()) - used - {"plan"}):
        yield f"section {name}: no stage reads it"


CHECKS = (
    generated_files,
    presets_validate,
    imports_point_one_way,
    commands_fit_signatures,
    artifacts_have_specs,
    sections_are_used,
    snakemake_agrees,
)


def fix() -> None:
    """Rewrite the generated files."""
    for path, render in GENERATED.items():
        with whole_file(path) as scratch:
            scratch.write_text(render(), encoding="utf8")


def run_checks() -> list[str]:
    """Run all checks and return their faults, one sentence each."""
    return [fault for check in CHECKS for fault in check()]
