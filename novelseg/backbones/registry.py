"""Architectures by name; a network is imported only when it is built, so that listing names does not load torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from novelseg.backbones.designs import VITS
from novelseg.core.errors import InputError, nearest
from novelseg.formats.record import BackboneSpec

if TYPE_CHECKING:
    from novelseg.backbones.contract import Backbone


def _resnet(spec: BackboneSpec) -> Backbone:
    from novelseg.backbones.resnet import ResNetBackbone

    return ResNetBackbone(arch=spec.arch, stem=spec.stem, width=spec.width, last=spec.last)


def _vit(spec: BackboneSpec) -> Backbone:
    from novelseg.backbones.vit import ViTBackbone

    return ViTBackbone(arch=spec.arch, layers=spec.layers, norm=spec.norm, side=spec.side)


# Architecture → function that builds it. Code digests include the imports inside these functions.
ARCHITECTURES: dict[str, Callable[[BackboneSpec], Backbone]] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101"), _resnet),
    **dict.fromkeys(VITS, _vit),
}


def new_backbone(spec: BackboneSpec) -> Backbone:
    """Build a backbone with newly initialised weights.

    Raises
    ------
    InputError
        If the architecture is unknown.
    """
    if spec.arch not in ARCHITECTURES:
        raise InputError(
            f"unknown architecture '{spec.arch}'; expected one of {', '.join(ARCHITECTURES)} "
            f"({nearest(spec.arch, ARCHITECTURES)})"
        )
    return ARCHITECTURES[spec.arch](spec)
