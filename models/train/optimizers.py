"""Optimisers. Those of torch, fused where it can: on a processor one pass over memory instead of a dozen.

Their state is tensors, and goes on to the same bits from a checkpoint; the rate is set by the loop each step.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue import Parameters
from models.catalogue import optimizers as told
from models.train.parts import ParameterGroup

Groups = Sequence[ParameterGroup]


def build_adamw(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """Decoupled: p ← p (1 - rate x decay) - rate x m̂ / (√v̂ + ε)."""
    assert isinstance(parameters, told.Adaptive)
    return torch.optim.AdamW(
        _groups(groups, learning_rate),
        betas=(parameters.beta1, parameters.beta2),
        eps=parameters.epsilon,
        fused=True,
    )


def build_adam(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """p ← p - rate x m̂ / (√v̂ + ε)."""
    return _adam(groups, parameters, learning_rate, is_amsgrad=False)


def build_amsgrad(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """Adam that divides by the largest v so far."""
    return _adam(groups, parameters, learning_rate, is_amsgrad=True)


def _adam(
    groups: Groups, parameters: Parameters, learning_rate: float, *, is_amsgrad: bool
) -> torch.optim.Optimizer:
    assert isinstance(parameters, told.Adaptive)
    return torch.optim.Adam(
        _groups(groups, learning_rate),
        betas=(parameters.beta1, parameters.beta2),
        eps=parameters.epsilon,
        amsgrad=is_amsgrad,
        fused=True,
    )


def build_adamax(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """Adam that divides by the largest recent |gradient|."""
    assert isinstance(parameters, told.Adaptive)
    return torch.optim.Adamax(
        _groups(groups, learning_rate),
        betas=(parameters.beta1, parameters.beta2),
        eps=parameters.epsilon,
        foreach=True,
    )


def build_nadam(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """Adam with Nesterov's momentum, decay decoupled."""
    assert isinstance(parameters, told.NAdam)
    return torch.optim.NAdam(
        _groups(groups, learning_rate),
        betas=(parameters.beta1, parameters.beta2),
        eps=parameters.epsilon,
        momentum_decay=parameters.momentum_decay,
        decoupled_weight_decay=True,
        foreach=True,
    )


def build_radam(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """Adam that moves by the mean gradient alone while v has seen too little; decay decoupled."""
    assert isinstance(parameters, told.Adaptive)
    return torch.optim.RAdam(
        _groups(groups, learning_rate),
        betas=(parameters.beta1, parameters.beta2),
        eps=parameters.epsilon,
        decoupled_weight_decay=True,
        foreach=True,
    )


def build_sgd(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """b ← μ b + g; p ← p - rate x (g + μ b) with Nesterov, p - rate x b without."""
    assert isinstance(parameters, told.Momentum)
    return torch.optim.SGD(
        _groups(groups, learning_rate),
        momentum=parameters.momentum,
        nesterov=parameters.nesterov and parameters.momentum > 0,
        fused=True,
    )


def build_lion(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """See `Lion`."""
    assert isinstance(parameters, told.Lion)
    return Lion(_groups(groups, learning_rate), beta1=parameters.beta1, beta2=parameters.beta2)


def build_lamb(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """u = m̂ / (√v̂ + ε) + decay x p; p ← p - rate x |p| / |u| x u, the norms of each tensor by itself.

    Where there is no decay (biases, norms), or a norm is 0, the move is rate x u. The loop clips gradients.
    """
    assert isinstance(parameters, told.Lamb)
    declare_torchvision_operators()
    from timm.optim.lamb import Lamb  # noqa: PLC0415 - after the declaration

    lamb: torch.optim.Optimizer = Lamb(
        _groups(groups, learning_rate),
        betas=(parameters.beta1, parameters.beta2),
        eps=parameters.epsilon,
        max_grad_norm=None,
    )
    return lamb


def build_adagrad(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """s ← s + g²; p ← p - rate x g / (√s + ε)."""
    assert isinstance(parameters, told.AdaGrad)
    return torch.optim.Adagrad(
        _groups(groups, learning_rate), lr_decay=parameters.rate_decay, eps=parameters.epsilon, foreach=True
    )


def build_rmsprop(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """v ← a v + (1 - a) g²; p ← p - rate x g / (√v + ε)."""
    assert isinstance(parameters, told.RmsProp)
    return torch.optim.RMSprop(
        _groups(groups, learning_rate),
        alpha=parameters.alpha,
        eps=parameters.epsilon,
        momentum=parameters.momentum,
        foreach=True,
    )


def build_adadelta(groups: Groups, parameters: Parameters, *, learning_rate: float) -> torch.optim.Optimizer:
    """Moves by √(mean squared move) / √(mean squared gradient) x g."""
    assert isinstance(parameters, told.AdaDelta)
    return torch.optim.Adadelta(
        _groups(groups, learning_rate), rho=parameters.rho, eps=parameters.epsilon, foreach=True
    )


def _groups(groups: Groups, learning_rate: float) -> list[dict[str, Any]]:
    return [
        {
            "params": list(group.parameters),
            "lr": learning_rate * group.rate_scale,
            "weight_decay": group.weight_decay,
        }
        for group in groups
    ]


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, https://arxiv.org/abs/2302.06675, algorithm 2.

    u = sign(β1 m + (1 - β1) g);  p ← p (1 - rate x decay) - rate x u;  m ← β2 m + (1 - β2) g
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, beta1: float, beta2: float) -> None:
        super().__init__(groups, {"beta1": beta1, "beta2": beta2})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move all parameters that have a gradient. Takes no closure."""
        if closure is not None:
            raise ValueError("Lion computes no loss of its own")
        for group in self.param_groups:
            moved: list[torch.Tensor] = [one for one in group["params"] if one.grad is not None]
            if not moved:
                continue
            gradients = [one.grad for one in moved if one.grad is not None]
            means = [self._mean(one) for one in moved]
            moves = torch._foreach_lerp(means, gradients, 1 - group["beta1"])
            torch._foreach_sign_(moves)
            torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(moved, moves, alpha=-group["lr"])
            torch._foreach_lerp_(means, gradients, 1 - group["beta2"])

    def _mean(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        mean: torch.Tensor = state["mean"]
        return mean
