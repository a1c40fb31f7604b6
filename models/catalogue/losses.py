"""What training makes small."""

from dataclasses import dataclass

from pydantic import Field

from models.catalogue.row import Kind, Parameters, Proof, Row
from models.manifest import Task


class Smoothed(Parameters):
    """Targets that leave a little for the other labels."""

    smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share that is spread evenly over all labels."""


class Focal(Parameters):
    """Easy pictures count less."""

    gamma: float = Field(default=2.0, ge=0, le=10)
    """How much less; 0 is cross-entropy."""


class Binary(Smoothed):
    """Each label is a question of its own."""

    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share that is spread evenly over all labels."""


class Poly1(Parameters):
    """Cross-entropy with another first coefficient."""

    epsilon: float = Field(default=1.0, ge=-1, le=100, allow_inf_nan=False)
    """Added to the coefficient of 1 - p."""


class GeneralisedCrossEntropy(Parameters):
    """Between cross-entropy and absolute error: what is far off, as wrong labels are, pulls less."""

    q: float = Field(default=0.7, gt=0, le=1)
    """Near 0 it is cross-entropy; 1 is 1 - p, which wrong labels disturb least and which learns slowest."""


class Overlap(Parameters):
    """How much of a label's area is shared, over all pictures of a batch together; the mean over labels."""

    smoothing: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False)
    """Pixels added to both sides of the fraction: what is nowhere, and is found nowhere, costs nothing."""
    cross_entropy_weight: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)
    """Of the cross-entropy that is added: where nothing overlaps yet, its slope is the steeper one."""


class Tversky(Overlap):
    """The same with weights for the two kinds of mistakes; a half each is Dice."""

    alpha: float = Field(default=0.3, ge=0, le=10, allow_inf_nan=False)
    """Of pixels that are said to be of the label and are not."""
    beta: float = Field(default=0.7, ge=0, le=10, allow_inf_nan=False)
    """Of pixels of the label that are not found."""


class Lovasz(Parameters):
    """Intersection over union itself, between whole answers linearly."""

    cross_entropy_weight: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)
    """Of the cross-entropy that is added: from random weights it learns faster at first."""


class Charbonnier(Parameters):
    """Absolute error, rounded at zero."""

    epsilon: float = Field(default=1e-3, gt=0, le=1)
    """Where it turns from squares to absolute values; white is 1."""


class StructuralSimilarity(Parameters):
    """What windows of two pictures share in brightness, contrast and structure."""

    l1_weight: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)
    """Of the absolute error that is added: it keeps colours in their place."""


@dataclass(frozen=True, kw_only=True)
class Loss(Row):
    """A loss."""

    takes_shares: bool = False
    """Targets can be shares of several labels, as mixing makes them."""


_LABELS = frozenset({Task.CLASSIFICATION})
_MAPS = frozenset({Task.SEGMENTATION})
_PICTURES = frozenset({Task.SUPER_RESOLUTION})
_MODULES = {_MAPS: "map_losses", _PICTURES: "picture_losses"}
_BOTH = _LABELS | _MAPS


def _row(
    method: str,
    name: str,
    parameters: type[Parameters],
    paper: str | None = None,
    *,
    takes_shares: bool = False,
    tasks: frozenset[Task] = _LABELS,
) -> Loss:
    return Loss(
        id=method,
        name=name,
        kind=Kind.LOSS,
        tasks=tasks,
        builder=f"models.train.{_MODULES.get(tasks, 'losses')}:build_{method}",
        parameters=parameters,
        licence="Apache-2.0",
        paper=paper,
        proof=Proof.TRAINS,
        takes_shares=takes_shares,
    )


LOSSES: tuple[Loss, ...] = (
    _row("cross_entropy", "Cross-entropy", Parameters, takes_shares=True, tasks=_BOTH),
    _row(
        "label_smoothing",
        "Label smoothing",
        Smoothed,
        "Szegedy et al. 2015, Rethinking the Inception Architecture for Computer Vision",
        takes_shares=True,
    ),
    _row("focal", "Focal loss", Focal, "Lin et al. 2017, Focal Loss for Dense Object Detection", tasks=_BOTH),
    _row(
        "bce",
        "Binary cross-entropy per label",
        Binary,
        "Beyer et al. 2020, Are we done with ImageNet?",
        tasks=_BOTH,
    ),
    _row(
        "poly1",
        "Poly-1",
        Poly1,
        "Leng et al. 2022, PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions",
    ),
    _row(
        "generalised_cross_entropy",
        "Generalised cross-entropy",
        GeneralisedCrossEntropy,
        "Zhang & Sabuncu 2018, Generalized Cross Entropy Loss for Training Deep Neural Networks "
        "with Noisy Labels",
    ),
    _row(
        "dice",
        "Dice loss",
        Overlap,
        "Milletari et al. 2016, V-Net: Fully Convolutional Neural Networks for Volumetric Medical "
        "Image Segmentation",
        tasks=_MAPS,
    ),
    _row(
        "tversky",
        "Tversky loss",
        Tversky,
        "Salehi et al. 2017, Tversky loss function for image segmentation using 3D fully convolutional "
        "deep networks",
        tasks=_MAPS,
    ),
    _row(
        "lovasz",
        "Lovász soft-max and hinge",
        Lovasz,
        "Berman et al. 2018, The Lovász-Softmax loss: A tractable surrogate for the optimization of the "
        "intersection-over-union measure in neural networks",
        tasks=_MAPS,
    ),
    _row("l1", "Absolute error", Parameters, tasks=_PICTURES),
    _row("mse", "Squared error", Parameters, tasks=_PICTURES),
    _row(
        "charbonnier",
        "Charbonnier loss",
        Charbonnier,
        "Charbonnier et al. 1994, Two deterministic half-quadratic regularization algorithms for computed "
        "imaging; Lai et al. 2017, Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution",
        tasks=_PICTURES,
    ),
    _row(
        "ssim",
        "Structural similarity",
        StructuralSimilarity,
        "Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural Similarity",
        tasks=_PICTURES,
    ),
)
