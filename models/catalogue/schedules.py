"""How the learning rate goes with the steps."""

from pydantic import Field

from models.catalogue.row import Kind, Parameters, Proof, Row
from models.manifest import Task


class Warmed(Parameters):
    """Rises linearly to the highest rate first."""

    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Of all steps."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Instead of the share."""


class Falling(Warmed):
    """Falls after the warm-up."""

    floor_share: float = Field(default=0.0, ge=0, le=1)
    """Of the highest rate; where the fall ends."""


class Polynomial(Falling):
    """Falls like a power of what is left."""

    power: float = Field(default=2.0, gt=0, le=10)
    """1 is a straight line."""


class Restarting(Falling):
    """Falls several times, each time from the highest rate."""

    cycles: int = Field(default=3, ge=1, le=100)
    """Number of falls."""
    growth: int = Field(default=2, ge=1, le=10)
    """Length of each fall to that of the one before."""


class Stepwise(Warmed):
    """Falls at once, at fixed places."""

    at_shares: tuple[float, ...] = Field(default=(0.5, 0.75), max_length=100)
    """Where it falls, as shares of the steps after the warm-up."""
    factor: float = Field(default=0.1, gt=0, le=1)
    """What is left of the rate after each fall."""


class Exponential(Warmed):
    """Falls by the same factor every step."""

    final_share: float = Field(default=0.01, gt=0, le=1)
    """Of the highest rate; where the fall ends."""


class OneCycle(Warmed):
    """Up and down once, both ways like half a cosine."""

    warmup_share: float = Field(default=0.3, ge=0, lt=1)
    """Of all steps: the way up."""
    start_share: float = Field(default=0.04, ge=0, le=1)
    """Of the highest rate; where the way up begins."""
    final_share: float = Field(default=4e-6, ge=0, le=1)
    """Of the highest rate; where the way down ends."""


def _row(method: str, name: str, parameters: type[Parameters], paper: str | None = None) -> Row:
    return Row(
        id=method,
        name=name,
        kind=Kind.SCHEDULE,
        tasks=frozenset(Task),
        builder=f"models.train.schedules:build_{method}",
        parameters=parameters,
        licence="Apache-2.0",
        paper=paper,
        proof=Proof.TRAINS,
    )


SCHEDULES: tuple[Row, ...] = (
    _row("constant", "Constant", Warmed),
    _row("linear", "Linear fall", Falling),
    _row(
        "cosine",
        "Cosine fall",
        Falling,
        "Loshchilov & Hutter 2016, SGDR: Stochastic Gradient Descent with Warm Restarts",
    ),
    _row(
        "cosine_restarts",
        "Cosine falls with warm restarts",
        Restarting,
        "Loshchilov & Hutter 2016, SGDR: Stochastic Gradient Descent with Warm Restarts",
    ),
    _row("step", "Falls at fixed steps", Stepwise),
    _row("exponential", "Exponential fall", Exponential),
    _row(
        "one_cycle",
        "One cycle",
        OneCycle,
        "Smith & Topin 2017, Super-Convergence: Very Fast Training of Neural Networks",
    ),
    _row("polynomial", "Polynomial fall", Polynomial),
)
