"""Meanings of the variants and measures, for the page's first screen: under ``?`` and on hover."""

from __future__ import annotations

from novelseg.methods.variants import VARIANTS, Variant

NETWORKS = {
    "pretrained": "The pretrained network, not trained here: a query is segmented by its similarity to the supports",
    "baseline": "The network trained on episodes of the base classes (Baseline of paper A)",
    "spfl-single-level": "The network trained on episodes and pseudo labels of one level (SPFL without the hierarchy)",
    "spfl": "The network trained on episodes and on pseudo labels of three levels (SPFL, paper A)",
    "cam": "The two-branch network that segments with the activation maps of known classes (paper B)",
}
REFINEMENTS = {
    "self-support": "refined by prototypes of the query's own confident pixels",
    "closed-form": "refined by a discriminant and several prototypes in closed form; nothing is trained",
    "srofb-support-only": "refined by a small classifier that is trained on the supports of each episode",
    "srofb": "refined by a small classifier that is trained on the supports and the query's confident pixels (SROFB, "
    "paper A)",
    "self-support+srofb": "refined by self-support, then by SROFB's classifier",
}
MAP_ONLY = "The activation map of paper B alone, cut at a threshold"
MEASURES = {
    "mIoU %": "Mean over the novel classes of intersection over union: 100 is a perfect mask, 0 none in common",
    "95 % interval": "Range of the score on other test images of this kind, in 19 of 20 cases (bootstrap over queries)",
    "± seeds": "Standard deviation over the seeds of the episode lists",
    "FB-IoU %": "Mean of the IoU of foreground and of background, regardless of the class",
    "gain": "mIoU of the first variant minus that of the second, in points, on the same episodes",
    "verdict": "Better or worse if the interval of the gain does not hold zero, else no difference shown",
    "resamples better": "Share of the bootstrap samples in which the first variant is better",
    "parameters": "Weights of the network and of the classifier that is trained for an episode, in millions",
    "episodes": "Tasks that were scored: one query image, one class, and its supports",
    "shot": "Number of supports: images with a mask of the class that is looked for",
    "fold": "Division of the classes into base classes, for training, and novel classes, for the test",
    "novel class": "Class without any mask in training",
    "purity": "Share of the largest class among the annotated pixels of a prototype's members",
}


def meaning(name: str) -> str:
    """Return what a variant is, in one sentence; empty for an unknown one."""
    variant = next((variant for variant in VARIANTS if variant.name == name), None)
    return "" if variant is None else _meaning(variant)


def _meaning(variant: Variant) -> str:
    if variant.name == "cam-map-only":
        return f"{MAP_ONLY}."
    network = NETWORKS.get(variant.network, f"The network {variant.network}")
    return f"{network}{_refined(variant.refiner)}."


def _refined(refiner: str) -> str:
    return f"; {REFINEMENTS.get(refiner, f'refined by {refiner}')}" if refiner else ""


def entries(variants: list[str]) -> list[tuple[str, str]]:
    """Return the terms of the glossary with their meanings: the variants of a table, then the measures."""
    return [*((name, meaning(name)) for name in variants), *((name, f"{text}.") for name, text in MEASURES.items())]
