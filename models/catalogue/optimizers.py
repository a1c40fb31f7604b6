"""How parameters move along their gradients."""

from pydantic import Field

from models.catalogue.row import Kind, Parameters, Proof, Row
from models.manifest import Task

_TORCH = "BSD-3-Clause"
_TIMM = "Apache-2.0"
_OURS = "Apache-2.0"


class Decaying(Parameters):
    """An optimiser that makes weights small; biases and norms, which have one dimension, are left alone."""

    weight_decay: float = Field(default=0.01, ge=0, lt=1, allow_inf_nan=False)
    """Share of the learning rate by which weights shrink each step; for those without decoupled decay, the
    factor of an L2 penalty's gradient."""


class Adaptive(Decaying):
    """Of Adam's kind: running means of the gradient and of its square."""

    beta1: float = Field(default=0.9, ge=0, lt=1)
    """How slowly the mean of the gradient forgets."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """How slowly the mean of the squared gradient forgets."""
    epsilon: float = Field(default=1e-8, gt=0, lt=1)
    """Added to the root of the squared mean."""


class Coupled(Adaptive):
    """Of Adam's kind, with an L2 penalty in the gradient."""

    weight_decay: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Factor of an L2 penalty's gradient."""


class NAdam(Adaptive):
    """Adam with Nesterov's look ahead."""

    momentum_decay: float = Field(default=0.004, ge=0, lt=1)
    """How fast the momentum rises to `beta1`."""


class Momentum(Decaying):
    """Plain gradient descent."""

    weight_decay: float = Field(default=1e-4, ge=0, lt=1, allow_inf_nan=False)
    """Factor of an L2 penalty's gradient."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the last move that is made again; 0 for plain SGD."""
    nesterov: bool = True
    """Take the gradient where the momentum leads; without effect when `momentum` is 0."""


class Lion(Decaying):
    """Moves every weight by the same amount."""

    weight_decay: float = Field(default=0.1, ge=0, lt=1, allow_inf_nan=False)
    """Share of the learning rate by which weights shrink each step."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Share of the momentum in the direction of a move."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """How slowly the momentum forgets."""


class Lamb(Adaptive):
    """Adam whose move of each tensor is as long as the tensor itself; for large batches."""

    epsilon: float = Field(default=1e-6, gt=0, lt=1)
    """Added to the root of the squared mean."""


class AdaGrad(Decaying):
    """Divides by the root of all squared gradients so far."""

    weight_decay: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Factor of an L2 penalty's gradient."""
    rate_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The rate is divided by 1 + step x this."""
    epsilon: float = Field(default=1e-10, gt=0, lt=1)
    """Added to the root."""


class RmsProp(Decaying):
    """Divides by the root of the mean squared gradient."""

    weight_decay: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Factor of an L2 penalty's gradient."""
    alpha: float = Field(default=0.99, ge=0, lt=1)
    """How slowly the mean of the squared gradient forgets."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Share of the last move that is made again."""
    epsilon: float = Field(default=1e-8, gt=0, lt=1)
    """Added to the root."""


class AdaDelta(Decaying):
    """Needs no rate of its own: a learning rate of 1 is the paper's."""

    weight_decay: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Factor of an L2 penalty's gradient."""
    rho: float = Field(default=0.9, ge=0, lt=1)
    """How slowly both means forget."""
    epsilon: float = Field(default=1e-6, gt=0, lt=1)
    """Added under both roots."""


def _row(
    method: str, name: str, builder: str, parameters: type[Parameters], paper: str, *, licence: str = _TORCH
) -> Row:
    return Row(
        id=method,
        name=name,
        kind=Kind.OPTIMIZER,
        tasks=frozenset(Task),
        builder=f"models.train.optimizers:{builder}",
        parameters=parameters,
        licence=licence,
        paper=paper,
        proof=Proof.TRAINS,
    )


_ADAM = "Kingma & Ba 2014, Adam: A Method for Stochastic Optimization"

OPTIMIZERS: tuple[Row, ...] = (
    _row(
        "adamw",
        "AdamW",
        "build_adamw",
        Adaptive,
        "Loshchilov & Hutter 2017, Decoupled Weight Decay Regularization",
    ),
    _row("adam", "Adam", "build_adam", Coupled, _ADAM),
    _row(
        "amsgrad",
        "AMSGrad",
        "build_amsgrad",
        Coupled,
        "Reddi et al. 2018, On the Convergence of Adam and Beyond",
    ),
    _row("adamax", "Adamax", "build_adamax", Coupled, _ADAM),
    _row("nadam", "NAdam", "build_nadam", NAdam, "Dozat 2016, Incorporating Nesterov Momentum into Adam"),
    _row(
        "radam",
        "RAdam",
        "build_radam",
        Adaptive,
        "Liu et al. 2019, On the Variance of the Adaptive Learning Rate and Beyond",
    ),
    _row(
        "sgd",
        "SGD with momentum",
        "build_sgd",
        Momentum,
        "Sutskever et al. 2013, On the importance of initialization and momentum in deep learning",
    ),
    _row(
        "lion",
        "Lion",
        "build_lion",
        Lion,
        "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms",
        licence=_OURS,
    ),
    _row(
        "lamb",
        "LAMB",
        "build_lamb",
        Lamb,
        "You et al. 2019, Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes",
        licence=_TIMM,
    ),
    _row(
        "adagrad",
        "AdaGrad",
        "build_adagrad",
        AdaGrad,
        "Duchi et al. 2011, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    ),
    _row("rmsprop", "RMSprop", "build_rmsprop", RmsProp, "Tieleman & Hinton 2012, Lecture 6.5: rmsprop"),
    _row(
        "adadelta",
        "AdaDelta",
        "build_adadelta",
        AdaDelta,
        "Zeiler 2012, ADADELTA: An Adaptive Learning Rate Method",
    ),
)
