"""Orthogonal fine-tuning: the inputs of each weight are rotated, in blocks, by Cayley transforms.

peft's OFT folds the patches of larger kernels back into an image by adding them up, which is another function
already before training, and takes inputs of four dimensions for images: both kinds of layers are skipped.
Its BOFT makes a dense matrix of all inputs of a layer, and, without its CUDA extension, one butterfly factor.
"""

from fnmatch import fnmatchcase

import torch
from torch import nn

from models.adapt.adapter import Site
from models.adapt.peft_adapter import PeftAdapted, pattern
from models.adapt.targets import Refuse, choose_targets, dilated, grouped, of_own_kind
from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue.adapters import ButterflyParameters, RotationParameters

_MOST_DENSE_INPUTS = 1152
_ON_MAPS = {"convnext": "*", "swin": "*.reduction"}
"""Linear layers, by family, that get whole maps: (n, h, w, c)."""


def build_oft(network: nn.Module, parameters: RotationParameters, site: Site) -> PeftAdapted:
    """Qiu et al. 2023."""
    declare_torchvision_operators()
    from peft import OFTConfig  # noqa: PLC0415 - after the declaration

    on_maps = _ON_MAPS.get(site.architecture.family, "")

    def unfit(name: str, layer: nn.Module) -> str | None:
        if isinstance(layer, nn.Conv2d):
            return None if layer.kernel_size == (1, 1) else f"a kernel of {layer.kernel_size}"
        return "a linear layer on maps" if fnmatchcase(name, on_maps) else None

    refuse = (grouped, unfit, _indivisible(parameters.block_size))
    targets = choose_targets(network, site, parameters.targets, refuse=refuse)
    config = OFTConfig(
        oft_block_size=parameters.block_size,
        target_modules=pattern(targets),
        modules_to_save=[site.head],
    )
    return PeftAdapted(network, config, site, skipped=targets.skipped)


def build_boft(network: nn.Module, parameters: ButterflyParameters, site: Site) -> PeftAdapted:
    """Liu et al. 2023."""
    declare_torchvision_operators()
    import peft.tuners.boft.layer as boft  # noqa: PLC0415 - after the declaration
    from peft import BOFTConfig  # noqa: PLC0415 - see above

    if not torch.cuda.is_available():
        boft._FBD_CUDA = False  # type: ignore[assignment]  # else it tries to compile, once a layer
    refuse = (grouped, dilated, of_own_kind, _oblong, _too_dense, _indivisible(parameters.block_size))
    targets = choose_targets(network, site, parameters.targets, refuse=refuse)
    config = BOFTConfig(
        boft_block_size=parameters.block_size,
        target_modules=pattern(targets),
        modules_to_save=[site.head],
    )
    return PeftAdapted(network, config, site, skipped=targets.skipped)


def _inputs(layer: nn.Module) -> int:
    """Numbers that one output is computed from."""
    weight = layer.get_parameter("weight")
    return weight[0].numel()


def _indivisible(block_size: int) -> Refuse:
    def check(_name: str, layer: nn.Module) -> str | None:
        inputs = _inputs(layer)
        return f"{inputs} inputs are no multiple of block_size {block_size}" if inputs % block_size else None

    return check


def _too_dense(_name: str, layer: nn.Module) -> str | None:
    inputs = _inputs(layer)
    return f"{inputs} inputs would need a dense matrix" if inputs > _MOST_DENSE_INPUTS else None


def _oblong(_name: str, layer: nn.Module) -> str | None:
    if not isinstance(layer, nn.Conv2d):
        return None
    pairs = (layer.kernel_size, layer.stride, layer.padding)
    is_square = all(not isinstance(pair, str) and pair[0] == pair[1] for pair in pairs)
    return None if is_square else "a convolution that is not square"
