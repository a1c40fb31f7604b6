"""Methods that train a few vectors.

- IA3: outputs of each layer are scaled; of a block's second linear layer, the inputs.
- VeRA: W + b * B (d * A), with A and B random, frozen and shared by all layers; vectors b and d are trained.
- LN tuning: weight and bias of each normalisation. On convolutional networks this is batch normalisation, its
  running statistics frozen.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.adapt.adapter import Site
from models.adapt.peft_adapter import PeftAdapted, pattern
from models.adapt.targets import Targets, choose_targets, convolution
from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue.adapters import TargetParameters, VectorParameters

_NORMALISATIONS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm)


def build_ia3(network: nn.Module, parameters: TargetParameters, site: Site) -> PeftAdapted:
    """Liu et al. 2022. Convolutions in groups are adapted too."""
    declare_torchvision_operators()
    from peft import IA3Config  # noqa: PLC0415 - after the declaration

    targets = choose_targets(network, site, parameters.targets)
    second = tuple(name for name in targets.names if name.endswith(".fc2"))
    config = IA3Config(
        target_modules=pattern(targets),
        feedforward_modules=pattern(Targets(names=second, skipped=())) if second else [],
        modules_to_save=[site.head],
    )
    return PeftAdapted(network, config, site)


def build_vera(network: nn.Module, parameters: VectorParameters, site: Site) -> PeftAdapted:
    """Kopiczko et al. 2023. The frozen matrices are saved too: no seed gives them again everywhere."""
    declare_torchvision_operators()
    from peft import VeraConfig  # noqa: PLC0415 - after the declaration

    targets = choose_targets(network, site, parameters.targets, refuse=(convolution,))
    config = VeraConfig(
        r=parameters.r,
        d_initial=parameters.d_initial,
        vera_dropout=parameters.dropout,
        projection_prng_key=site.seed,
        save_projection=True,
        target_modules=pattern(targets),
        modules_to_save=[site.head],
    )
    return PeftAdapted(network, config, site, skipped=targets.skipped)


def build_ln_tuning(network: nn.Module, parameters: TargetParameters, site: Site) -> PeftAdapted:
    """Zhao et al. 2023."""
    declare_torchvision_operators()
    from peft import LNTuningConfig  # noqa: PLC0415 - after the declaration

    targets = choose_targets(network, site, parameters.targets, kinds=_NORMALISATIONS)
    config = LNTuningConfig(target_modules=pattern(targets), modules_to_save=[site.head])
    return PeftAdapted(network, config, site, skipped=targets.skipped)
