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


@dataclass(frozen=True, kw_only=True)
class Loss(Row):
    """A loss."""

    takes_shares: bool = False
    """Targets can be shares of several labels, as mixing makes them."""


def _row(
    method: str,
    name: str,
    parameters: type[Parameters],
    paper: str | None = None,
    *,
    takes_shares: bool = False,
) -> Loss:
    return Loss(
        id=method,
        name=name,
        kind=Kind.LOSS,
        tasks=frozenset({Task.CLASSIFICATION}),
        builder=f"models.train.losses:build_{method}",
        parameters=parameters,
        licence="Apache-2.0",
        paper=paper,
        proof=Proof.TRAINS,
        takes_shares=takes_shares,
    )


LOSSES: tuple[Loss, ...] = (
    _row("cross_entropy", "Cross-entropy", Parameters, takes_shares=True),
    _row(
        "label_smoothing",
        "Label smoothing",
        Smoothed,
        "Szegedy et al. 2015, Rethinking the Inception Architecture for Computer Vision",
        takes_shares=True,
    ),
    _row("focal", "Focal loss", Focal, "Lin et al. 2017, Focal Loss for Dense Object Detection"),
    _row("bce", "Binary cross-entropy per label", Binary, "Beyer et al. 2020, Are we done with ImageNet?"),
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
)
