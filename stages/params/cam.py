"""Section ``cam``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit
from pydantic import model_validator

from novelseg.core.errors import InputError
from stages.params.optimisation import ScheduleParams


class Params(ScheduleParams):
    """The two-branch network of the CAM prior (B): what the paper leaves open, and its training."""

    iterations: Annotated[
        int,
        Limit(
            ge=1,
            description="Iterations, those of the classifier included. The paper does not say how many: by default 10 "
            "epochs of the classifier and 50 of both, an epoch being 1,000 pairs.",
        ),
    ]
    learning_rate: Annotated[float, Limit(gt=0, description="First learning rate of Adam (0.0001).")]
    decay_every: Annotated[int, Limit(ge=1, description="Iterations after which the rate falls (10 epochs).")]
    decay: Annotated[float, Limit(gt=0, le=1, description="What the rate is multiplied by then (0.7).")]
    classifier_iterations: Annotated[
        int, Limit(ge=0, description="First iterations, in which the classification loss alone is learned from.")
    ]
    episodes: Annotated[int, Limit(ge=1, description="Support–query pairs of an iteration.")]
    objects: Annotated[int, Limit(ge=1, description="Masked objects of an iteration that are classified.")]
    class_weight: Annotated[float, Limit(ge=0, description="Weight of the classification loss beside the other.")]
    unseen: Annotated[
        int,
        Limit(
            ge=1,
            description="Which known fold plays unseen, counted cyclically from the novel one (1: the next).",
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
    weighting: Annotated[
        Literal["scores", "sigmoid", "softmax"],
        Limit(description="What weighs the known classes' maps: the support's scores as they are, or their likeness."),
    ]
    deconv_width: Annotated[int, Limit(ge=1, le=1024, description="Channels inside the deconvolution block.")]
    geometry: Annotated[
        Literal["resize", "crop"],
        Limit(description="Images resized to a square, in tests too; or windows, and tests at their own size."),
    ]
    size: Annotated[int, Limit(ge=33, le=1025, description="Side of an image, px (320).")]
    flip: Annotated[float, Limit(ge=0, le=1, description="Chance of mirroring a training image.")]
    prior: Annotated[
        Literal["map", "constant", "shuffled"],
        Limit(description="What the segmentation branch is given: the map, or for an ablation one without places."),
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Params:
        if self.classifier_iterations >= self.iterations:
            raise ValueError(
                f"classifier_iterations is {self.classifier_iterations}; expected fewer than iterations, "
                f"{self.iterations}: the segmentation branch is trained in the rest"
            )
        return self

    def unseen_fold(self, fold: int, folds: int, held_out: int) -> int:
        """Fold whose classes play unseen while training for a novel fold.

        Raises
        ------
        InputError
            If fewer than two known folds are there, or ``unseen`` counts beyond them.
        """
        known = [(fold + step) % folds for step in range(1, folds) if (fold + step) % folds != held_out]
        if len(known) < 2:
            raise InputError(
                f"the CAM prior needs two known folds beside the novel one; fold {fold} of {folds} has {len(known)}: "
                "set plan.cam to false, or raise index.folds"
            )
        if self.unseen > len(known):
            raise InputError(
                f"cam.unseen is {self.unseen}; expected at most {len(known)}, the known folds of fold {fold}"
            )
        return known[self.unseen - 1]
