"""Products of low rank that are not thin: W + s (B1 A1 * B2 A2) (LoHa), W + s C (x) (B A) (LoKr)."""

from typing import TYPE_CHECKING

from torch import nn

from models.adapt.adapter import Site
from models.adapt.peft_adapter import PeftAdapted, pattern
from models.adapt.targets import choose_targets, grouped, of_own_kind
from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue.adapters import KroneckerParameters

if TYPE_CHECKING:
    from peft import LoHaConfig, LoKrConfig

_REFUSE = (grouped, of_own_kind)


def build_loha(network: nn.Module, parameters: KroneckerParameters, site: Site) -> PeftAdapted:
    """Hyeon-Woo et al. 2021; Hadamard's product of two products of rank r reaches rank r^2."""
    declare_torchvision_operators()
    from peft import LoHaConfig  # noqa: PLC0415 - after the declaration

    return _build(LoHaConfig, network, parameters, site)


def build_lokr(network: nn.Module, parameters: KroneckerParameters, site: Site) -> PeftAdapted:
    """Yeh et al. 2023; weights are cut into near-square blocks."""
    declare_torchvision_operators()
    from peft import LoKrConfig  # noqa: PLC0415 - after the declaration

    return _build(LoKrConfig, network, parameters, site)


def _build(
    config_of: "type[LoHaConfig | LoKrConfig]",
    network: nn.Module,
    parameters: KroneckerParameters,
    site: Site,
) -> PeftAdapted:
    targets = choose_targets(network, site, parameters.targets, refuse=_REFUSE)
    config = config_of(
        r=parameters.r,
        alpha=parameters.alpha or 2 * parameters.r,  # type: ignore[arg-type]
        rank_dropout=parameters.rank_dropout,
        target_modules=pattern(targets),
        modules_to_save=[site.head],
    )
    return PeftAdapted(network, config, site, skipped=targets.skipped)
