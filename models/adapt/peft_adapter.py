"""What all methods of `peft` have in common."""

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from models.adapt.adapter import Adapted, AdaptError, Site
from models.adapt.targets import Targets
from models.build.torchvision_operators import declare_torchvision_operators

if TYPE_CHECKING:
    from peft import PeftConfig

ADAPTER = "default"
"""peft's name of the adapter that is trained."""


def pattern(targets: Targets) -> str:
    """The names as one regular expression for peft; a list would match them as endings of other names."""
    return "|".join(re.escape(name) for name in targets.names)


class PeftAdapted(Adapted):
    """A network that peft has put an adapter into."""

    def __init__(
        self, network: nn.Module, config: "PeftConfig", site: Site, *, skipped: tuple[str, ...] = ()
    ) -> None:
        declare_torchvision_operators()
        from peft import get_peft_model  # noqa: PLC0415 - after the declaration, and takes seconds

        super().__init__(network, site, skipped=skipped)
        self._plain_parameters = {name: tensor.numel() for name, tensor in network.named_parameters()}
        with warnings.catch_warnings():
            # Its list of layers' kinds lacks normalisation, which LN tuning is about.
            warnings.filterwarnings("ignore", message="Unsupported layer type")
            self._peft: Any = get_peft_model(network, config)

    @property
    def total_parameters(self) -> int:
        """Those of the base and those that peft has put beside them, copies of layers not counted twice."""
        added = sum(
            tensor.numel()
            for name, tensor in self.network.named_parameters()
            if ".original_module." not in name
            and ".ln_tuning_layers." not in name
            and ".modules_to_save." not in name
            and name.replace(".base_layer.", ".") not in self._plain_parameters
        )
        return sum(self._plain_parameters.values()) + added

    @contextmanager
    def disable(self) -> Iterator[None]:
        """As Adapted's."""
        self._peft.base_model.disable_adapter_layers()
        try:
            yield
        finally:
            self._peft.base_model.enable_adapter_layers()

    def state(self) -> dict[str, torch.Tensor]:
        """As Adapted's, by peft's names."""
        from peft import get_peft_model_state_dict  # noqa: PLC0415 - see above

        return {
            name: tensor.detach().clone().contiguous()
            for name, tensor in get_peft_model_state_dict(self._peft, save_embedding_layers=False).items()
        }

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """As Adapted's."""
        self._check_names(state)
        self._place(state)

    def _place(self, state: Mapping[str, torch.Tensor]) -> None:
        from peft import set_peft_model_state_dict  # noqa: PLC0415 - see above

        result: Any = set_peft_model_state_dict(self._peft, dict(state))
        if result.unexpected_keys:
            raise AdaptError(f"peft cannot place {result.unexpected_keys[0]} of {self._site.adapter.id}.")

    def merge(self) -> nn.Module:
        """As Adapted's."""
        from peft.utils.other import ModulesToSaveWrapper  # noqa: PLC0415 - see above

        twin = copy.deepcopy(self._peft).to(memory_format=torch.contiguous_format)
        merged: nn.Module = twin.base_model.merge_and_unload(safe_merge=True)
        for name, module in list(merged.named_modules()):
            if isinstance(module, ModulesToSaveWrapper):  # LN tuning leaves it in place
                merged.set_submodule(name, module.modules_to_save[ADAPTER])
        return merged.eval()

    def _config(self) -> dict[str, Any]:
        config = copy.deepcopy(self._peft.peft_config[ADAPTER])
        config.inference_mode = True
        plain: dict[str, Any] = config.to_dict()
        return {name: sorted(value) if isinstance(value, set) else value for name, value in plain.items()}
