"""Section ``cam`` of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Limit
from pydantic import model_validator

from novelseg.core.errors import InputError
from stages.params.optimisation import ScheduleParams


class Params(ScheduleParams):
    """The two-branch network of the CAM prior (B): its training, and the choices that the paper leaves open."""

    iterations: Annotated[
        int,
        Limit(
            ge=1,
            description="Iterations, including the `classifier_iterations`. The paper gives no number; here, 3,000 "
            "of the classifier, and of both branches 50 epochs with 1,000 pairs each.",
        ),
    ]
    learning_rate: Annotated[float, Limit(gt=0, description="Initial learning rate of Adam (0.0001).")]
    decay_every: Annotated[
        int,
        Limit(
            ge=1,
            description="Iterations between two steps of the learning rate (10 epochs), counted after the "
            "`classifier_iterations`.",
        ),
    ]
    decay: Annotated[
        float, Limit(gt=0, le=1, description="Factor by which each step multiplies the learning rate (0.7).")
    ]
    classifier_iterations: Annotated[
        int,
        Limit(
            ge=0,
            description="First iterations, at the initial rate, which minimise only the classification loss and leave "
            "the encoder as it is: its features are computed once.",
        ),
    ]
    classifier_accuracy: Annotated[
        float,
        Limit(
            ge=0,
            lt=1,
            description="Share of its training objects that the classifier must classify correctly after the "
            "`classifier_iterations`; below it, training stops. 0: not checked.",
        ),
    ]
    detach: Annotated[
        int,
        Limit(
            ge=0,
            description="Iterations after the `classifier_iterations` in which the segmentation loss changes neither "
            "D′ nor S.",
        ),
    ]
    episodes: Annotated[int, Limit(ge=1, description="Support–query pairs per iteration.")]
    objects: Annotated[int, Limit(ge=1, description="Masked objects to classify per iteration.")]
    class_weight: Annotated[
        float, Limit(ge=0, description="Weight of the classification loss relative to the segmentation loss.")
    ]
    unseen: Annotated[
        int,
        Limit(
            ge=1,
            description="Which known fold acts as unseen, counted cyclically from the novel one (1: the next).",
        ),
    ]
    frozen: Annotated[
        int,
        Limit(
            ge=0,
            le=5,
            description="Number of frozen parts of the encoder, in the order stem, layer1, …, layer3, and layer4 if it "
            "is the last.",
        ),
    ]
    features: Annotated[
        Literal["layer3", "layer4"],
        Limit(
            description="Last layer of a residual network, at stride 8. layer4 (the paper) needs a weight file that "
            "keeps it: `novelseg fetch --what resnet50-layer4`."
        ),
    ]
    relu: Annotated[
        bool,
        Limit(description="Whether features pass the last block's ReLU, as in an unchanged ResNet (the paper)."),
    ]
    pooling: Annotated[
        Literal["image", "object"],
        Limit(
            description="Cells over which S is averaged: all those of the image, which is black outside the object, or "
            "those of the object alone."
        ),
    ]
    wiring: Annotated[
        Literal["sum", "join"],
        Limit(
            description="Multi-scale block. sum: a 3×3 and two 1×1 convolutions are summed; join: a 3×3 and a 1×1 "
            "convolution are concatenated, and a 1×1 convolution joins them."
        ),
    ]
    weighting: Annotated[
        Literal["scores", "sigmoid", "softmax"],
        Limit(
            description="Weights of the known classes' maps: the support's scores as in Eq. 2 of paper B, or their "
            "sigmoid or softmax, normalised over the classes."
        ),
    ]
    deconv_width: Annotated[int, Limit(ge=1, le=1024, description="Channels inside the deconvolution block.")]
    geometry: Annotated[
        Literal["resize", "crop"],
        Limit(
            description="resize: images are resized to a square, at test time too; crop: training uses random windows, "
            "and test images keep their size."
        ),
    ]
    size: Annotated[int, Limit(ge=33, le=1025, description="Side of a training image, px (320).")]
    flip: Annotated[float, Limit(ge=0, le=1, description="Probability of mirroring a training image.")]
    prior: Annotated[
        Literal["map", "constant", "shuffled", "other"],
        Limit(
            description="Input of the segmentation branch: the prior's map, or for an ablation ones everywhere "
            "(constant), the map with shuffled cells, or the map of another episode's support (other)."
        ),
    ]

    @model_validator(mode="after")
    def _ordered(self) -> Params:
        if self.classifier_iterations >= self.iterations:
            raise ValueError(
                f"classifier_iterations is {self.classifier_iterations}; expected fewer than iterations, "
                f"{self.iterations}: the segmentation branch is trained in the rest"
            )
        return self

    @property
    def steady(self) -> int:
        """Number of first iterations at the initial rate."""
        return self.classifier_iterations

    def unseen_fold(self, fold: int, folds: int, held_out: int) -> int:
        """Return the fold whose classes act as unseen while training for a novel fold.

        Raises
        ------
        InputError
            If there are fewer than two known folds, or ``unseen`` exceeds their number.
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
