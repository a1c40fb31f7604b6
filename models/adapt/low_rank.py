"""LoRA and its kin: W + s B A, with A (r, in) random and B (out, r) zero at first.

- LoRA: s = alpha / r.
- rsLoRA: s = alpha / sqrt(r).
- DoRA: m (W + s B A) / |W + s B A|, the norm taken row by row, m trained too.

A convolution's product is a convolution with its kernel to r maps, then one of 1 x 1.
"""

from torch import nn

from models.adapt.adapter import Site
from models.adapt.peft_adapter import PeftAdapted, pattern
from models.adapt.targets import Refuse, choose_targets, dilated, grouped, of_own_kind
from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue.adapters import LowRankParameters


def build_lora(network: nn.Module, parameters: LowRankParameters, site: Site) -> PeftAdapted:
    """Hu et al. 2021."""
    return _build(network, parameters, site, refuse=(grouped, dilated))


def build_rslora(network: nn.Module, parameters: LowRankParameters, site: Site) -> PeftAdapted:
    """Kalajdzievski 2023."""
    return _build(network, parameters, site, refuse=(grouped, dilated), is_stable=True)


def build_dora(network: nn.Module, parameters: LowRankParameters, site: Site) -> PeftAdapted:
    """Liu et al. 2024. With dropout peft convolves by itself, so layers that pad otherwise are left alone."""
    adapted = _build(network, parameters, site, refuse=(grouped, dilated, of_own_kind), has_magnitude=True)
    for layer in network.modules():
        if getattr(layer, "lora_magnitude_vector", None):
            layer.register_forward_pre_hook(_lay_out)
    return adapted


def _lay_out(layer: nn.Module, _inputs: object) -> None:
    """Undo channels-last in a layer: peft's DoRA takes the weights of convolutions for plain matrices."""
    for parameter in layer.parameters():
        if not parameter.is_contiguous():
            parameter.data = parameter.data.contiguous()


def _build(
    network: nn.Module,
    parameters: LowRankParameters,
    site: Site,
    *,
    refuse: tuple[Refuse, ...],
    is_stable: bool = False,
    has_magnitude: bool = False,
) -> PeftAdapted:
    declare_torchvision_operators()
    from peft import LoraConfig  # noqa: PLC0415 - after the declaration

    targets = choose_targets(network, site, parameters.targets, refuse=refuse)
    config = LoraConfig(
        r=parameters.r,
        lora_alpha=parameters.alpha or 2 * parameters.r,  # type: ignore[arg-type]
        lora_dropout=parameters.dropout,
        use_rslora=is_stable,
        use_dora=has_magnitude,
        target_modules=pattern(targets),
        modules_to_save=[site.head],
    )
    return PeftAdapted(network, config, site, skipped=targets.skipped)
