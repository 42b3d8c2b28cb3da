"""`python -m workflow check` and the code digest: each check fails when it should."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import novelseg
from novelseg.core.errors import InputError
from stages.__main__ import STAGES
from stages.interface import TOOLS
from stages.provenance import code
from tests.warm import started
from workflow import checks, recipe

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
MD5_OF_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"


def copy_house(target: Path, without: tuple[str, ...] = ()) -> Path:
    """The tracked and new files of the repository, without the ignored ones and those of some folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists() and not name.startswith(tuple(f"{folder}/" for folder in without)):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository; whoever breaks it restores it."""
    return copy_house(tmp_path_factory.mktemp("house"))


def states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of each file that is not in a hidden folder."""
    shown = [path for path in folder.rglob("[!.]*") if path.is_file() and path.relative_to(folder).parts[0][0] != "."]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in shown}


@pytest.fixture
def house(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the repository to break, as the working folder and as the code that is asked about."""
    monkeypatch.chdir(copied)
    monkeypatch.setattr(sys, "executable", str(started().folder / "python"))  # of Snakemake
    for package in code.ROOTS:
        monkeypatch.setitem(code.ROOTS, package, copied)
    _forget()
    before = states(copied)
    yield copied
    after = states(copied)
    for path in after.keys() - before.keys():
        path.unlink()
    for path, state in before.items():
        if after.get(path) != state:
            shutil.copy2(ROOT / path.relative_to(copied), path)
    _forget()


def _forget() -> None:
    code.forget()
    recipe.forget()


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = path.read_text(encoding="utf8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf8")


def test_the_house_agrees_with_itself(house: Path) -> None:
    assert checks.run_checks() == []


BREAKS: list[tuple[Callable[[], Iterator[str]], str, str, str, str]] = [
    (checks.generated_files, "dvc.yaml", "train_all", "train-all", "dvc.yaml: out of date"),
    (checks.generated_files, "docs/params.md", "Seed", "Sede", "docs/params.md: out of date"),
    (
        checks.generated_files,
        "stages/train.py",
        "import torch",
        "import novelseg.evaluation.metrics\nimport torch",
        "dvc.yaml",
    ),
    (
        checks.generated_files,
        "stages/features.py",
        "params: Params,",
        "params: Params, srofb: SrofbSettings,",
        "dvc.yaml",
    ),
    (checks.presets_validate, "params.yaml", "tau:", "tua:", "unknown key 'tua' in section 'regions'"),
    (
        checks.imports_point_one_way,
        "novelseg/methods/spfl/pseudolabels.py",
        "import torch\n",
        "import torch\nimport dvc\n",
        "novelseg/methods/spfl/pseudolabels.py: imports dvc; nothing under novelseg/ may import an engine",
    ),
    (
        checks.imports_point_one_way,
        "novelseg/methods/spfl/pseudolabels.py",
        "import torch\n",
        "import torch\nfrom stages.params import train\n",
        "novelseg/methods/spfl/pseudolabels.py: imports stages.params.train; nothing under novelseg/ may import a",
    ),
    (
        checks.imports_point_one_way,
        "novelseg/ops/pooling.py",
        "from torch import Tensor\n",
        "from torch import Tensor\n\nfrom novelseg.methods.spfl import clustering\n",
        "novelseg/ops/pooling.py: imports novelseg.methods.spfl.clustering; novelseg/ops may import only itself and",
    ),
    (
        checks.imports_point_one_way,
        "novelseg/ops/pooling.py",
        "from torch import Tensor\n",
        "from torch import Tensor\n\nfrom novelseg.formats import hdf5\n",
        "novelseg/ops/pooling.py: imports novelseg.formats.hdf5; novelseg/ops may import only itself and the layers",
    ),
    (
        checks.imports_point_one_way,
        "novelseg/formats/tables.py",
        "import pandas as pd\n",
        "import pandas as pd\n\nfrom novelseg.data.index import Index\n",
        "novelseg/formats/tables.py: imports novelseg.data.index.Index; novelseg/formats may import only itself and",
    ),
    (
        checks.imports_point_one_way,
        "novelseg/core/random.py",
        "import numpy as np\n",
        "import numpy as np\n\nfrom novelseg import Segmenter\n",
        "novelseg/core/random.py: imports novelseg.Segmenter; import it from the module that defines it",
    ),
    (
        checks.imports_point_one_way,
        "novelseg/core/errors.py",
        "class InputError",
        "from novelseg.core.files import digest\n\n\nclass InputError",
        "novelseg/core/errors.py → novelseg/core/files.py",
    ),
    (
        checks.imports_point_one_way,
        "stages/params/schema.py",
        "import reprlib\n",
        "import reprlib\nfrom stages.options import Fold\n",
        "stages/params/schema.py: imports stages.options.Fold; stages/params may import only itself and novelseg",
    ),
    (
        checks.imports_point_one_way,
        "stages/train.py",
        "import torch\n",
        "import torch\nfrom workflow.plan import Plan\n",
        "stages/train.py: imports workflow.plan",
    ),
    (
        checks.imports_point_one_way,
        "stages/train.py",
        "import torch\n",
        "import torch\nfrom . import baseline\n",
        "stages/train.py: imports relative import; imports must be absolute",
    ),
    (
        checks.commands_fit_signatures,
        "workflow/rules/encoders.smk",
        '" --variant {wildcards.variant}"\n',
        "",
        "rule train: run needs --variant",
    ),
    (
        checks.commands_fit_signatures,
        "workflow/rules/encoders.smk",
        '" --shot {wildcards.shot}"',
        '" --shots {wildcards.shot}"',
        "rule baseline: --shots is not a keyword of run",
    ),
    (
        checks.commands_fit_signatures,
        "workflow/rules/encoders.smk",
        '" --fold {wildcards.fold}"',
        '" --fold 2"',
        "rule baseline: --fold 2 is a constant",
    ),
    (
        checks.snakemake_agrees,
        "workflow/rules/evaluation.smk",
        '            regions=TARGETS.of("regions"),\n',
        "            regions=[],\n",
        "in the plan but not in the Snakefile, report reads regions",
    ),
]


@pytest.mark.parametrize(("check", "file", "old", "new", "fault"), BREAKS, ids=[f"{b[1]}: {b[4]}" for b in BREAKS])
def test_each_check_fails_when_it_should(
    house: Path, check: Callable[[], Iterator[str]], file: str, old: str, new: str, fault: str
) -> None:
    if "SrofbSettings" in new:
        edit(
            house / file,
            "\nfrom stages.params.features import Params",
            "\nfrom stages.params.features import Params\nfrom novelseg.methods.srofb.settings import SrofbSettings",
        )
    edit(house / file, old, new)
    _forget()
    assert any(fault in found for found in check())


def test_a_package_of_the_library_needs_a_layer(house: Path) -> None:
    new = house / "novelseg/extra/__init__.py"
    new.parent.mkdir()
    new.touch()
    fault = "novelseg/extra/__init__.py: novelseg/extra is in no layer; add it to LAYERS in workflow/checks.py"
    assert fault in list(checks.imports_point_one_way())


def test_the_import_check_leaves_no_file_out(house: Path) -> None:
    deep = house / "novelseg/methods/spfl/deeper/still/new.py"
    deep.parent.mkdir(parents=True)
    deep.write_text("import snakemake\n", encoding="utf8")
    walked = checks.walked_files()
    every = {path.relative_to(house) for path in house.rglob("*.py")}
    assert set(walked) == {path for path in every if path.parts[0] in ("novelseg", "stages", "workflow")}
    # Python outside these packages is of people and of tests alone.
    assert {path.parts[0] for path in every - set(walked)} == {"benchmarks", "tests"}
    page = checks.imports_page().splitlines()
    assert {Path(line) for line in page if line.endswith(".py") and not line.startswith(" ")} == set(walked)
    assert f"{deep.relative_to(house)}: imports snakemake; nothing under novelseg/ may import an engine" in page
    assert any(line.startswith(f"{len(walked)} files, ") and line.endswith("; faults: 1") for line in page)


def test_a_code_digest_is_that_of_the_running_code_wherever_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = (*STAGES, *TOOLS)

    def digests(folder: Path) -> dict[str, str]:
        monkeypatch.chdir(folder)
        _forget()
        return {stage: code.code_digest(stage) for stage in stages}

    there, here = digests(tmp_path), digests(ROOT)
    assert there == here
    assert MD5_OF_NOTHING not in here.values()
    assert len(set(here.values())) == len(stages)


@pytest.mark.parametrize("folder", [ROOT, ROOT.parent])
def test_code_of_an_unknown_stage_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for ask in (code.closure, code.code_digest):
        with pytest.raises(InputError, match=r"stages/feature\.py: no such file; check the name of the stage 'fe"):
            ask("feature")


def test_the_digest_follows_meaning_not_looks(house: Path) -> None:
    before = {stage: code.code_digest(stage) for stage in ("features", "prototypes", "episodes")}

    def moved() -> set[str]:
        _forget()
        return {stage for stage, digest in before.items() if code.code_digest(stage) != digest}

    edit(house / "novelseg/ops/pooling.py", "EPSILON = 1e-5", "EPSILON = 1e-5  # as the papers' code has it")
    edit(house / "novelseg/ops/pooling.py", '"""Masked average pooling', '"""MAP')
    edit(house / "novelseg/version.py", f'"{novelseg.__version__}"', '"9.9.9"')
    assert moved() == set()
    edit(house / "novelseg/ops/pooling.py", "EPSILON = 1e-5", "EPSILON = 1e-6")
    assert moved() == {"features"}
    edit(house / "novelseg/core/random.py", "digest_size=8", "digest_size=9")
    assert moved() == {"features", "prototypes", "episodes"}


def test_sections_of_a_stage_are_those_of_its_signature() -> None:
    from stages.interface import interface

    for stage in ("images", "baseline", "train", "evaluate", "pseudolabels", "report"):
        assert set(recipe.sections(stage)) == set(interface(stage).sections)
    own = ("evaluate", "encoder", "matching", "srofb", "self_support", "closed_form", "fssdino", "insid3", "foris")
    assert set(recipe.sections("evaluate")) == set(own)


def test_a_cluster_gives_a_gpu_to_every_job_that_uses_one() -> None:
    text = "".join(path.read_text(encoding="utf8") for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    rules = re.split(r"^rule (\w+):", text, flags=re.MULTILINE)[1:]
    wanting = {name for name, body in zip(rules[::2], rules[1::2], strict=True) if "**GPU" in body}
    profile = (ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf8")
    assert "cam" in wanting
    assert set(re.findall(r"- (\w+):gpu=1", profile)) == wanting


def test_neither_method_is_retrained_when_the_other_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names = {stage: {path.as_posix() for path in code.closure(stage)} for stage in ("baseline", "train", "cam")}
    assert "novelseg/methods/cam/network.py" in names["cam"]
    assert not any("cam" in Path(name).stem for stage in ("baseline", "train") for name in names[stage])
    assert not {"novelseg/methods/spfl/batches.py", "novelseg/methods/srofb/classifier.py"} & names["cam"]
