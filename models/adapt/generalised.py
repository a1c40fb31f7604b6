"""GLoRA: weight and bias of each layer are scaled and moved.

    W (1 + A) + B, (out, in), elementwise;   b (1 + D) + E + W C, (out,)           (Chavan et al. 2023)

A and B are products of rank r, C (in, 1) is one too, D and E are vectors (out,); all are zero at first. The
paper picks a form for each of them, layer by layer, by evolutionary search; here all layers have these.
"""

from torch import nn

from models.adapt.adapter import Site
from models.adapt.peft_adapter import PeftAdapted, pattern
from models.adapt.targets import choose_targets, convolution, of_own_kind
from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue.adapters import GeneralisedParameters


def build_glora(network: nn.Module, parameters: GeneralisedParameters, site: Site) -> PeftAdapted:
    """Chavan et al. 2023. peft takes plain linear layers alone."""
    declare_torchvision_operators()
    from peft import GloraConfig  # noqa: PLC0415 - after the declaration

    targets = choose_targets(network, site, parameters.targets, refuse=(convolution, of_own_kind))
    config = GloraConfig(
        r=parameters.r,
        config_A_B="lora",
        config_C="lora",
        config_D_E="vector",
        target_modules=pattern(targets),
        modules_to_save=[site.head],
    )
    return PeftAdapted(network, config, site, skipped=targets.skipped)
