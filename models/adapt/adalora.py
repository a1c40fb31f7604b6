"""AdaLoRA: W + s P diag(E) Q, and a budget of entries of E that falls while training.

After each step the importance of each triplet (a column of P, an entry of E, a row of Q) is estimated from
|weight x gradient|, smoothed, times its smoothed uncertainty; the least important entries of E become zero
(Zhang et al. 2023, equations 7 to 12, as peft computes them). The budget falls by a cube from `warm_up` to
`final`. The smoothed values and what was kept are buffers of the network, so that checkpoints hold them.
"""

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from models.adapt.adapter import Site
from models.adapt.peft_adapter import ADAPTER, PeftAdapted, pattern
from models.adapt.targets import choose_targets, grouped, of_own_kind
from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue.adapters import AdaptiveRankParameters

if TYPE_CHECKING:
    from peft import AdaLoraConfig

_MEMORY = "adalora_memory"
"""Name of the submodule with the buffers."""
_FACTOR = re.compile(rf"\.lora_[AEB]\.{ADAPTER}$")


def build_adalora(network: nn.Module, parameters: AdaptiveRankParameters, site: Site) -> PeftAdapted:
    """Adapt linear layers and ungrouped convolutions."""
    declare_torchvision_operators()
    from peft import AdaLoraConfig  # noqa: PLC0415 - after the declaration

    targets = choose_targets(network, site, parameters.targets, refuse=(grouped, of_own_kind))
    total = max(2, site.total_steps)
    config = AdaLoraConfig(
        target_r=parameters.r,
        init_r=parameters.init_r,
        lora_alpha=parameters.alpha or 2 * parameters.init_r,  # type: ignore[arg-type]
        lora_dropout=parameters.dropout,
        orth_reg_weight=parameters.orthogonality,
        tinit=int(parameters.warm_up * total),
        tfinal=max(1, int(parameters.final * total)),
        deltaT=max(1, total // 100),
        total_step=total,
        target_modules=pattern(targets),
        modules_to_save=[site.head],
    )
    return _AdaLoraAdapted(network, config, site, skipped=targets.skipped)


class _AdaLoraAdapted(PeftAdapted):
    def __init__(
        self, network: nn.Module, config: "AdaLoraConfig", site: Site, *, skipped: tuple[str, ...]
    ) -> None:
        super().__init__(network, config, site, skipped=skipped)
        self._ranks: Any = config
        self._allocator: Any = self._peft.base_model.rankallocator
        self._factors = {
            name: tensor for name, tensor in network.named_parameters() if _FACTOR.search(name) is not None
        }
        self._sizes = [tensor.numel() for tensor in self._factors.values()]
        self._memory: Any = nn.Module()
        for kind in ("importance", "uncertainty"):
            self._memory.register_buffer(kind, torch.zeros(sum(self._sizes)))
        self._memory.register_buffer("kept", torch.ones(sum(len(one) for one in self._entries())))
        network.add_module(_MEMORY, self._memory)

    def add_penalty(self) -> None:
        """As Adapted's: the mean over all layers of |P'P - I| and |QQ' - I|."""
        distances = []
        for name, factor in self._factors.items():
            if ".lora_E." not in name:
                wide = factor if ".lora_A." in name else factor.T
                distances.append(torch.linalg.norm(wide @ wide.T - torch.eye(len(wide))))
        penalty = self._ranks.orth_reg_weight * torch.stack(distances).mean()
        penalty.backward()

    def after_step(self, step: int) -> None:
        """As Adapted's: estimate importance, and cut down to the budget."""
        settled = self._ranks.total_step - self._ranks.tfinal
        self._recall()
        if step < settled:
            self._allocator.update_ipt(self.network)
            self._remember()
        if step <= settled:
            budget, is_due = self._allocator.budget_schedule(step)
            if is_due or step == settled:
                self._allocator.mask_to_budget(self.network, budget)
        with torch.no_grad():
            if step == settled:
                self._memory.kept.copy_(torch.cat([(one != 0).flatten() for one in self._entries()]))
            elif step > settled:
                entries = self._entries()
                kept = self._memory.kept.split([len(one) for one in entries])
                for one, keep in zip(entries, kept, strict=True):
                    one.mul_(keep.view_as(one))

    def merge(self) -> nn.Module:
        """As Adapted's."""
        merged = super().merge()
        delattr(merged, _MEMORY)
        return merged

    def _entries(self) -> list[nn.Parameter]:
        """The diagonals, (rank, 1) each."""
        return [tensor for name, tensor in self._factors.items() if ".lora_E." in name]

    def _recall(self) -> None:
        """The buffers to the allocator's tables."""
        for table, buffer in self._tables():
            for (name, tensor), values in zip(
                self._factors.items(), torch.split(buffer, self._sizes), strict=True
            ):
                table[name] = values.view_as(tensor)
        self._allocator.ipt = dict.fromkeys(self._factors)  # its names say which tables are there

    def _remember(self) -> None:
        """The allocator's tables to the buffers."""
        for table, buffer in self._tables():
            buffer.copy_(torch.cat([table[name].flatten() for name in self._factors]))

    def _tables(self) -> tuple[tuple[dict[str, torch.Tensor], torch.Tensor], ...]:
        allocator, memory = self._allocator, self._memory
        return (allocator.exp_avg_ipt, memory.importance), (allocator.exp_avg_unc, memory.uncertainty)
