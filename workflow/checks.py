"""``python -m workflow check``: the house agrees with itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from stages.core.errors import InputError
from stages.core.files import whole_file
from workflow import dvcfile, reference
from workflow.config import load, section_classes
from workflow.formats import HDF5_SPECS, TABLE_SPECS
from workflow.picture import dag_picture
from workflow.plan import READS
from workflow.presets import names, resolve_preset
from workflow.recipe import sections

ENGINES = ("snakemake", "dvc", "dvclive", "workflow")
DVCLIVE = ("stages/training/live.py", "dvclive")  # on demand alone: a training without curves does without
# Package → the packages of stages/ that it may import; a stage module may import all.
ARROWS = {
    "core": {"core"},
    "sections": {"core", "sections"},
    "artifacts": {"core", "artifacts"},
    "ops": {"core", "ops"},
    "data": {"core", "sections", "artifacts", "ops", "data"},
    "models": {"core", "sections", "artifacts", "ops", "models"},
    "training": {"core", "sections", "artifacts", "ops", "data", "models", "training"},
    "evaluation": {"core", "sections", "artifacts", "ops", "data", "models", "evaluation"},
    "inference": {"core", "sections", "ops", "models", "evaluation", "inference"},
    "reporting": {"core", "sections", "artifacts", "ops", "data", "models", "reporting"},
}
GENERATED: dict[Path, Callable[[], str]] = {
    dvcfile.PATH: dvcfile.render,
    Path("docs/params.md"): reference.params_page,
    Path("docs/artifacts.md"): reference.artifacts_page,
    Path("docs/dag.svg"): dag_picture,
}


def generated_files() -> Iterator[str]:
    """Generated files are what would be generated now."""
    for path, render in GENERATED.items():
        if not path.exists() or path.read_text(encoding="utf8") != render():
            yield f"{path}: out of date; run `python -m workflow check --fix`"


def presets_validate() -> Iterator[str]:
    """Every preset resolves and validates, and so does the active experiment."""
    for name in names():
        try:
            resolve_preset(name)
        except InputError as error:
            yield f"preset {name}: {error}"
    try:
        load()
    except InputError as error:
        yield str(error)


def _imported(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                found.add("relative import")
            elif node.module == "stages":
                found |= {f"stages.{alias.name}" for alias in node.names}
            elif node.module:
                found.add(node.module)
    return found


def imports_point_one_way() -> Iterator[str]:
    """No engine under stages/; packages import only what lies below them."""
    for path in sorted(Path("stages").rglob("*.py")):
        package = path.parent.name
        for name in sorted(_imported(path)):
            parts = name.split(".")
            if (parts[0] in ENGINES and (path.as_posix(), parts[0]) != DVCLIVE) or name == "relative import":
                yield f"{path}: imports {name}; nothing under stages/ knows an engine, and imports are absolute"
            if parts[0] == "stages" and package in ARROWS and len(parts) > 1 and parts[1] not in ARROWS[package]:
                yield f"{path}: imports {name}; stages/{package} may import only {', '.join(sorted(ARROWS[package]))}"


def _rule_shells() -> dict[str, str]:
    """Shell command of each rule, joined."""
    found = {}
    for path in sorted(Path("workflow/rules").glob("*.smk")):
        for match in re.finditer(r"^rule (\w+):\n((?:[ \n].*\n?)*)", path.read_text(encoding="utf8"), re.M):
            _, _, shell = match[2].partition("    shell:\n")
            found[match[1]] = "".join(re.findall(r'"([^"]*)"', shell))
    return found


def _signature(stage: str) -> tuple[set[str], set[str]]:
    """Options of a stage's ``run`` without its sections: all, and those that must be given."""
    tree = ast.parse(Path(f"stages/{stage}.py").read_text(encoding="utf8"))
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    options, required = set(), set()
    for argument, default in zip(run.args.kwonlyargs, run.args.kw_defaults, strict=True):
        if argument.arg == "params" or (
            argument.arg in sections(stage) and ast.unparse(argument.annotation or run) != "Path"
        ):
            continue
        options.add(argument.arg)
        if default is None:
            required.add(argument.arg)
    return options, required


def commands_fit_signatures() -> Iterator[str]:
    """Each rule runs its own stage, with flags that ``run`` knows, all that it needs, and no constant."""
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
            yield f"rule {stage}: --{name} is no keyword of run"
        for name in sorted(required - flags - optional):
            yield f"rule {stage}: run needs --{name}"
        for name, value in pairs:
            # What can change a result comes from files, parameters or the output's name; `--out report` is a path.
            if "{" not in value and not (name == "record" or (name == "out" and value in ("report", "$(dirname"))):
                yield f"rule {stage}: --{name} {value} is a constant that no engine would see"


def snakemake_agrees() -> Iterator[str]:
    """Snakemake's own graph of rules has exactly the edges of the plan, and its outputs are the plan's."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "--forceall", "--quiet", "all"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        yield f"snakemake --rulegraph fails: {found.stderr.strip().splitlines()[-1]}"
        return
    labels = dict(re.findall(r'(\d+)\[label = "(\w+)"', found.stdout))
    edges = {(labels[a], labels[b]) for a, b in re.findall(r"(\d+) -> (\d+)", found.stdout)}
    targets = load().targets
    asked = {stage for stage in READS if targets.of(stage)}
    planned = {(read, stage) for stage in asked for read in READS[stage] if read in asked} | {("report", "all")}
    for read, stage in sorted(edges ^ planned):
        where = "the Snakefile, not the plan," if (read, stage) in edges else "the plan, not the Snakefile,"
        yield f"{where} has {stage} read {read}"


def artifacts_have_specs() -> Iterator[str]:
    """Every stage that writes arrays or tables has a spec, and specs name existing stages."""
    owners = {name for spec in (*HDF5_SPECS, *TABLE_SPECS) for name in spec.stage.split(", ")}
    for stage in READS:
        if stage not in owners:
            yield f"stage {stage} writes no artifact that stages/artifacts/formats knows"
    for owner in sorted(owners - set(READS)):
        yield f"stages/artifacts/formats names the stage {owner}, which does not exist"


def sections_are_used() -> Iterator[str]:
    """Every section of params.yaml is read by a stage."""
    used = {name for stage in READS for name in sections(stage)}
    for name in sorted(set(section_classes()) - used - {"plan"}):
        yield f"section {name} is read by no stage"


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
    """Write the generated files anew."""
    for path, render in GENERATED.items():
        with whole_file(path) as scratch:
            scratch.write_text(render(), encoding="utf8")


def run_checks() -> list[str]:
    """All disagreements, one sentence each."""
    return [fault for check in CHECKS for fault in check()]
