"""The modules that docs/extend.md shows fit the contracts: each is written into a copy of the library and used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_house import ROOT, copy_house

pytestmark = pytest.mark.processes

PLACES = (
    "novelseg/backbones/patches.py",
    "novelseg/methods/smoothing/settings.py",
    "novelseg/methods/smoothing/refiner.py",
    "novelseg/data/pairfolder.py",
)
USE = """
import torch
from novelseg.backbones.patches import PatchBackbone
from novelseg.data.pairfolder import PairFolder
from novelseg.methods.contract import Case, RefinementTask
from novelseg.methods.smoothing.refiner import SmoothingRefiner
from novelseg.methods.smoothing.settings import SmoothingSettings
net = PatchBackbone(patch=14, channels=4, depth=1)
for size in ((28, 42), (41, 53), (14, 6)):
    assert net(torch.zeros(1, 3, *size)).shape[-2:] == net.grid.cells(size)
task = RefinementTask(Case(0, 0, 1, 1, (0,)), (), torch.zeros(4, 3, 3), torch.randn(2, 3, 3), 10.0)
assert SmoothingRefiner(SmoothingSettings()).refine([task])[0].logits.shape == (3, 3)
"""


def test_modules_of_the_extension_guide_fit_the_contracts(tmp_path: Path) -> None:
    copy_house(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/extend.md").read_text(encoding="utf8"), re.M | re.S)
    modules = [block for block in blocks if block.startswith('"""')]
    for place, module in zip(PLACES, modules, strict=True):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(module, encoding="utf8")
    (tmp_path / "novelseg/methods/smoothing/__init__.py").write_text('"""Smoothing."""\n', encoding="utf8")
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
