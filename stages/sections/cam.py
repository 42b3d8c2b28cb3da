"""Section ``cam``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit
from pydantic import model_validator

from stages.core.errors import InputError
from stages.sections.optimisation import Schedule


class Params(Schedule):
    """The two-branch network of the CAM prior (B): what the paper leaves open, and its training."""

    iterations: Annotated[int, Limit(ge=1, description="Iterations (50 epochs of 1,000 pairs in batches of 8).")]
    learning_rate: Annotated[float, Limit(gt=0, description="First learning rate of Adam (0.0001).")]
    decay_every: Annotated[int, Limit(ge=1, description="Iterations after which the rate falls (10 epochs).")]
    decay: Annotated[float, Limit(gt=0, le=1, description="What the rate is multiplied by then (0.7).")]
    classifier_iterations: Annotated[
        int, Limit(ge=0, description="First iterations, which train the classification branch alone.")
    ]
    episodes: Annotated[int, Limit(ge=1, description="Support–query pairs of an iteration (8).")]
    objects: Annotated[int, Limit(ge=1, description="Masked objects of an iteration that are classified.")]
    class_weight: Annotated[float, Limit(ge=0, description="Weight of the classification loss beside segmentation.")]
    unseen: Annotated[
        int,
        Limit(
            ge=1,
            description="Which known sub-set plays unseen: the fold that many after the novel one, cyclically.",
        ),
    ]
    frozen: Annotated[
        int,
        Limit(ge=0, le=4, description="Frozen parts of the encoder: the stem, layer1, layer2, layer3, in this order."),
    ]
    wiring: Annotated[
        Literal["sum", "join"],
        Limit(description="Multi-scale block: a 3×3 and two 1×1 convolutions summed, or 3×3 and 1×1 joined by a 1×1."),
    ]
    deconv_width: Annotated[int, Limit(ge=1, le=1024, description="Channels inside the deconvolution block.")]
    geometry: Annotated[
        Literal["resize", "crop"],
        Limit(description="Images resized to a square, in training and test; or windows, and tests at their own size."),
    ]
    size: Annotated[int, Limit(ge=33, le=1025, description="Side of an image, px (320).")]
    flip: Annotated[float, Limit(ge=0, le=1, description="Chance of mirroring a training image.")]
    fusion: Annotated[
        Literal["scores", "maps"],
        Limit(description="Several supports: mean of their scores, or of the normalised maps that each gives."),
    ]
    prior: Annotated[
        Literal["map", "constant", "shuffled"],
        Limit(description="What the segmentation branch is given: the map, or for an ablation one without places."),
    ]
    threshold: Annotated[
        float, Limit(gt=0, lt=1, description="Of the normalised map, where it is scored without the other branch.")
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Params:
        if self.classifier_iterations > self.iterations:
            raise ValueError(
                f"classifier_iterations is {self.classifier_iterations}; expected at most iterations, {self.iterations}"
            )
        return self

    def plays(self, fold: int, folds: int, held_out: int) -> int:
        """Fold whose classes play unseen while training for a novel fold.

        Raises
        ------
        InputError
            If that is the novel or the held-out fold, or none is left to classify.
        """
        found = (fold + self.unseen) % folds
        known = set(range(folds)) - {fold, found, held_out}
        if found in (fold, held_out) or not known:
            raise InputError(
                f"cam.unseen is {self.unseen}: for fold {fold} of {folds}, fold {found} would play unseen, "
                f"{sorted(known) or 'none'} be classified; expected both, beside the novel and the held-out fold"
            )
        return found
