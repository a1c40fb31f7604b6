"""A base network made trainable by one method.

    base ─adapt─► Adapted ─ training changes `trainable_names` alone ─► state / save / merge
                     └ disable(): the base again, to the last bit

After `merge` the network is a plain one, which exports like any other.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.catalogue.adapters import Adapter, why_not
from models.catalogue.architecture import Architecture
from models.catalogue.row import Parameters, Row

CONFIG_FILE = "adapter_config.json"
STATE_FILE = "adapter_model.safetensors"


class AdaptError(ValueError):
    """The method cannot change this network so; the message names both, and what would work."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where an adapter is put."""

    adapter: Adapter
    architecture: Architecture
    head: str
    """Name of the linear layer that gives the logits."""
    total_steps: int
    """Of the training to come."""
    seed: int
    """What first values are drawn from."""


class Adapted(ABC):
    """A network under an adapter."""

    def __init__(self, network: nn.Module, site: Site, *, skipped: tuple[str, ...] = ()) -> None:
        self.network = network
        """Takes and gives what the base does; only what is trained requires gradients."""
        self.skipped = skipped
        """Layers that the method left alone, each as `name: reason`."""
        self._site = site

    @property
    def trainable_names(self) -> tuple[str, ...]:
        """Parameters of `network` that are trained, in its order."""
        return tuple(name for name, tensor in self.network.named_parameters() if tensor.requires_grad)

    @property
    def trainable_parameters(self) -> int:
        """Numbers that are trained."""
        return sum(tensor.numel() for tensor in self.network.parameters() if tensor.requires_grad)

    @property
    def head_parameters(self) -> tuple[nn.Parameter, ...]:
        """What is trained of the layer that gives the logits."""
        inside = f".{self._site.head}."  # peft wraps it, so that its name has something before and after
        return tuple(
            tensor
            for name, tensor in self.network.named_parameters()
            if tensor.requires_grad and inside in f".{name}"
        )

    @property
    @abstractmethod
    def total_parameters(self) -> int:
        """Numbers that an answer is computed from, the base's own head excluded."""

    def train_mode(self) -> None:
        """Put the network in training mode.

        Batch normalisation stays in evaluation mode under every adapter but `full`: base and adapter file
        together then give exactly the trained network.
        """
        self.network.train()
        if self._site.adapter.freezes_statistics:
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def add_penalty(self) -> None:  # noqa: B027 - most methods have none
        """Add the gradient of the method's own penalty; called once a step, before gradients are clipped."""

    def after_step(self, step: int) -> None:  # noqa: B027 - most methods do nothing
        """Do what the method does after the optimiser's step number `step`, from 0, gradients still there.

        What it remembers from step to step is in buffers of the network.
        """

    @abstractmethod
    @contextmanager
    def disable(self) -> Iterator[None]:
        """Give the base's outputs, its own head included, while in the context."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Copies of all that base and method do not give again by themselves."""

    @abstractmethod
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take over a state of the same method on the same base. Raises AdaptError when it is of another."""

    @abstractmethod
    def merge(self) -> nn.Module:
        """A plain network in eval mode, a copy with the base's names of tensors, that computes the same."""

    def save(self, folder: Path) -> tuple[Path, ...]:
        """Write configuration and state; plain `peft` loads the folder where the method is peft's."""
        folder.mkdir(parents=True, exist_ok=True)
        config, state = folder / CONFIG_FILE, folder / STATE_FILE
        config.write_text(json.dumps(self._config(), indent=2, sort_keys=True) + "\n")
        save_file(self.state(), state, metadata={"format": "pt"})
        return config, state

    @abstractmethod
    def _config(self) -> dict[str, Any]:
        """What `adapter_config.json` says."""

    def _check_names(self, given: Mapping[str, torch.Tensor]) -> None:
        own = self.state()
        for name, tensor in own.items():
            if name not in given or given[name].shape != tensor.shape:
                raise AdaptError(f"The saved state of {self._site.adapter.id} does not fit: {name}.")
        if more := sorted(set(given) - set(own)):
            raise AdaptError(f"The saved state of {self._site.adapter.id} does not fit: {more[0]}.")


class BuildAdapter(Protocol):
    """Kind `adapter`."""

    def __call__(self, network: nn.Module, parameters: Any, site: Site) -> Adapted:  # noqa: ANN401
        """Change the network in place. `parameters` are of the row's class. Raises AdaptError."""


def adapt(
    network: nn.Module,
    row: Row,
    parameters: Parameters,
    *,
    architecture: Architecture,
    head: str,
    total_steps: int,
    seed: int = 0,
) -> Adapted:
    """Make a base trainable, in place; first values depend on `seed` alone.

    Raises:
        AdaptError: the method can change nothing in this network, or a glob matches no layer.

    """
    if not isinstance(row, Adapter):
        raise AdaptError(f"{row.id} is no adapter.")
    if (refused := why_not(row, architecture)) is not None:
        raise AdaptError(" ".join(refused))
    site = Site(adapter=row, architecture=architecture, head=head, total_steps=total_steps, seed=seed)
    build: BuildAdapter = row.build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(network, parameters, site)


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    """What `Adapted.save` wrote into the folder, for `Adapted.load`."""
    return load_file(folder / STATE_FILE)
