"""A small vision transformer of DINOv2's layout, with registers and random weights, that every stage can use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from novelseg.backbones import designs, registry
from novelseg.backbones.designs import ViTDesign
from novelseg.backbones.vit import ViT

ARCH, DESIGN = "vit-tiny14-reg", ViTDesign(14, 24, 3, 2, registers=2)


def register(monkeypatch: pytest.MonkeyPatch, weights: Path) -> Path:
    """Make the architecture known for a test, and write random weights in the official layout."""
    monkeypatch.setitem(designs.VITS, ARCH, DESIGN)
    monkeypatch.setitem(registry.ARCHITECTURES, ARCH, registry._vit)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(14)
        torch.save(ViT(DESIGN).state_dict(), weights)
    return weights
