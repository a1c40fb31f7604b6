"""Methods that train tensors of the base itself: its biases (BitFit), nothing (head), everything (full)."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from models.adapt.adapter import Adapted, Site
from models.catalogue.row import Parameters


class InPlaceAdapted(Adapted):
    """A network some of whose own tensors are trained. Holds a copy of their first values."""

    def __init__(
        self, network: nn.Module, site: Site, *, is_trained: Callable[[str], bool], has_buffers: bool = False
    ) -> None:
        super().__init__(network, site)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(is_trained(name) or name.startswith(f"{site.head}."))
        self._names = tuple(network.state_dict()) if has_buffers else self.trainable_names
        self._base = self.state()

    @property
    def total_parameters(self) -> int:
        """Those of the base."""
        return sum(tensor.numel() for tensor in self.network.parameters())

    @contextmanager
    def disable(self) -> Iterator[None]:
        """As Adapted's."""
        trained = self.state()
        self._write(self._base)
        try:
            yield
        finally:
            self._write(trained)

    def state(self) -> dict[str, torch.Tensor]:
        """As Adapted's, by the base's names; under `full` with the statistics of batch normalisation."""
        own = self.network.state_dict()
        return {name: own[name].detach().clone().contiguous() for name in self._names}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """As Adapted's."""
        self._check_names(state)
        self._write(state)

    def merge(self) -> nn.Module:
        """As Adapted's."""
        return copy.deepcopy(self.network).eval()

    def _config(self) -> dict[str, Any]:
        site = self._site
        return {"method": site.adapter.id, "architecture": site.architecture.id, "head": site.head}

    def _write(self, state: Mapping[str, torch.Tensor]) -> None:
        own = self.network.state_dict()  # tensors of it share memory with the network's
        with torch.no_grad():
            for name in self._names:
                own[name].copy_(state[name])


def build_bitfit(network: nn.Module, parameters: Parameters, site: Site) -> Adapted:
    """Ben Zaken et al. 2021: every bias, those of normalisations included."""
    return InPlaceAdapted(network, site, is_trained=lambda name: name.rpartition(".")[2] == "bias")


def build_head(network: nn.Module, parameters: Parameters, site: Site) -> Adapted:
    """The head alone: a linear model on the base's features."""
    return InPlaceAdapted(network, site, is_trained=lambda _name: False)


def build_full(network: nn.Module, parameters: Parameters, site: Site) -> Adapted:
    """Everything, the statistics of batch normalisation included."""
    return InPlaceAdapted(network, site, is_trained=lambda _name: True, has_buffers=True)
