"""PiSSA: the principal part of each weight is trained, the rest is frozen.

    W = U S V';  B0 = U_r sqrt(S_r / s),  A0 = sqrt(S_r / s) V_r', of the r greatest singular values;
    y = (W - s B0 A0) x + s B A x,  where B = B0 and A = A0 at first                (Meng et al. 2024)

The base's weight is not touched: -s B0 A0 is a second, frozen LoRA beside the trained one.
Saved is one LoRA of twice the rank, [B, -B0] and [A; A0], which plain peft puts on the plain base.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from models.adapt.adapter import AdaptError, Site
from models.adapt.peft_adapter import ADAPTER, PeftAdapted, pattern
from models.adapt.targets import choose_targets, convolution
from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue.adapters import LowRankParameters

if TYPE_CHECKING:
    from peft import LoraConfig

_FIRST = "first"
"""peft's name of the frozen LoRA."""


def build_pissa(network: nn.Module, parameters: LowRankParameters, site: Site) -> PeftAdapted:
    """Adapt the linear layers that have the rank."""
    declare_torchvision_operators()
    from peft import LoraConfig  # noqa: PLC0415 - after the declaration

    def too_thin(_name: str, layer: nn.Module) -> str | None:
        thin = min(layer.get_parameter("weight").shape)
        return f"its rank is {thin}, below r" if thin < parameters.r else None

    targets = choose_targets(network, site, parameters.targets, refuse=(convolution, too_thin))
    config = LoraConfig(
        r=parameters.r,
        lora_alpha=parameters.alpha or 2 * parameters.r,  # type: ignore[arg-type]
        lora_dropout=parameters.dropout,
        target_modules=pattern(targets),
        modules_to_save=[site.head],
    )
    return _PissaAdapted(network, config, site, skipped=targets.skipped)


class _PissaAdapted(PeftAdapted):
    def __init__(
        self, network: nn.Module, config: "LoraConfig", site: Site, *, skipped: tuple[str, ...]
    ) -> None:
        super().__init__(network, config, site, skipped=skipped)
        frozen = copy.deepcopy(config)
        frozen.modules_to_save = None
        # What is left out of both must be the same, or the base would be missing a part.
        frozen.lora_dropout = 0.0
        self._peft.add_adapter(_FIRST, frozen)
        for _, layer in self._layers():
            first_b, first_a = _principal(layer.weight.detach(), config.r, layer.scaling[ADAPTER])
            with torch.no_grad():
                layer.lora_A[ADAPTER].weight.copy_(first_a)
                layer.lora_B[ADAPTER].weight.copy_(first_b)
                layer.lora_A[_FIRST].weight.copy_(first_a)
                layer.lora_B[_FIRST].weight.copy_(-first_b)
            layer.frozen_peft_weight_names = {_FIRST: ("lora_A", "lora_B")}
            layer.set_adapter([ADAPTER, _FIRST])

    def state(self) -> dict[str, torch.Tensor]:
        """As Adapted's: each LoRA and its frozen twin as one."""
        state = super().state()
        for name, layer in self._layers():
            for part, axis in (("lora_A", 0), ("lora_B", 1)):
                both = getattr(layer, part)
                pair = (both[ADAPTER].weight.detach(), both[_FIRST].weight.detach())
                state[f"base_model.model.{name}.{part}.weight"] = torch.cat(pair, axis)
        return state

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """As Adapted's."""
        self._check_names(state)
        single = dict(state)
        for name, layer in self._layers():
            for part, axis in (("lora_A", 0), ("lora_B", 1)):
                key = f"base_model.model.{name}.{part}.weight"
                trained, first = state[key].chunk(2, axis)
                single[key] = trained.contiguous()
                with torch.no_grad():
                    getattr(layer, part)[_FIRST].weight.copy_(first)
        self._place(single)

    def _layers(self) -> Iterator[tuple[str, Any]]:
        from peft.tuners.lora import LoraLayer  # noqa: PLC0415 - see above

        for name, module in self.network.named_modules():
            if isinstance(module, LoraLayer):
                yield name, module

    def _config(self) -> dict[str, Any]:
        config = super()._config()
        return config | {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"]}


def _principal(weight: torch.Tensor, rank: int, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """B0 (out, rank) and A0 (rank, in), whose product times the scaling is nearest to the weight."""
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    if not torch.isfinite(values).all():
        raise AdaptError("pissa needs a base whose weights are finite.")
    roots = torch.sqrt(values[:rank] / scaling)
    return left[:, :rank] * roots, roots[:, None] * right[:rank]
