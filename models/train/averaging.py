"""An exponential moving average of what is trained.

a ← a + (1 - d) (w - a) after each step, with d = min(decay, (1 + step) / (10 + step)): a young average must
not hold on to the first weights.
"""

from collections.abc import Mapping

import torch
from torch import nn

from models.train.checkpoint import copy_into


class Average:
    """Averages of what a network trains: parameters, and statistics of norms in training mode."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        live = {name: one for name, one in network.named_parameters() if one.requires_grad} | statistics(
            network
        )
        self._live = [tensor.detach() for tensor in live.values()]
        self.tensors = {name: tensor.detach().clone() for name, tensor in live.items()}
        self._averages = list(self.tensors.values())

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._live, 1 - decay)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from a checkpoint's averages."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)

    def swap_into(self, network: nn.Module) -> dict[str, torch.Tensor]:
        """Put the averages into the network. Returns what was there, for `copy_into`."""
        live = {name: tensor.clone() for name, tensor in zip(self.tensors, self._live, strict=True)}
        copy_into(network, self.tensors)
        return live


def statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    """Running means and variances of the norms that are in training mode."""
    return {
        f"{path}.{name}".lstrip("."): buffer
        for path, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for name, buffer in module.named_buffers(recurse=False)
        if buffer.is_floating_point()
    }
