"""A base, an adapter on it, and twenty steps of training: one for each method and network."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from models.adapt.adapter import Adapted, adapt
from models.build.network import build_network, head_of
from models.catalogue import CATALOGUE, Kind
from models.catalogue.adapters import Adapter
from models.catalogue.architecture import Architecture

SIDE, CLASSES, STEPS = 32, 3, 20


def architecture_row(name: str) -> Architecture:
    return CATALOGUE.get(Kind.ARCHITECTURE, name)


def adapter_row(name: str) -> Adapter:
    return CATALOGUE.get(Kind.ADAPTER, name)


def base_of(architecture: str) -> nn.Module:
    """A base whose features are not all the same, as those of fresh layer scales and norms are."""
    network = build_network(architecture_row(architecture), num_classes=CLASSES, image_size=SIDE, seed=5)
    chance = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return network


def put(
    network: nn.Module, architecture: str, method: str, *, seed: int = 3, **parameters: object
) -> Adapted:
    """The method on the network, in place."""
    row = adapter_row(method)
    return adapt(
        network,
        row,
        row.parameters(**parameters),
        architecture=architecture_row(architecture),
        head=head_of(network),
        total_steps=STEPS,
        seed=seed,
    )


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.randn(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    return pixels, torch.arange(6) % CLASSES


def optimizer_of(adapted: Adapted) -> torch.optim.Optimizer:
    trained = [tensor for tensor in adapted.network.parameters() if tensor.requires_grad]
    return torch.optim.AdamW(trained, lr=5e-3)


def take_steps(adapted: Adapted, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    """Train as the loop does, in its memory layout; the losses."""
    pixels, targets = pictures()
    adapted.network.to(memory_format=torch.channels_last)
    adapted.train_mode()
    losses = []
    for step in steps:
        torch.manual_seed(step)
        loss = functional.cross_entropy(adapted.network(pixels), targets)
        loss.backward()
        adapted.add_penalty()
        optimizer.step()
        adapted.after_step(step)
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    adapted.network.to(memory_format=torch.contiguous_format)
    adapted.network.eval()
    return losses


def features(network: nn.Module, head: str) -> torch.Tensor:
    """What the head is given, (n, f)."""
    seen = []
    handle = network.get_submodule(head).register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0])
    )
    with torch.inference_mode():
        network(pictures()[0])
    handle.remove()
    return seen[0]


def answers(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return network(pictures()[0])


@dataclass(frozen=True)
class World:
    architecture: str
    method: str
    base: nn.Module
    """Never touched."""
    adapted: Adapted
    losses: list[float]

    @property
    def row(self) -> Adapter:
        return adapter_row(self.method)

    def fresh(self) -> Adapted:
        """The same method on another copy of the base, with other first values."""
        return put(copy.deepcopy(self.base), self.architecture, self.method, seed=99)


def trained(architecture: str, method: str) -> World:
    base = base_of(architecture).eval()
    adapted = put(copy.deepcopy(base), architecture, method)
    losses = take_steps(adapted, optimizer_of(adapted), range(STEPS))
    return World(architecture, method, base, adapted, losses)
