"""Orthogonal fine-tuning: the inputs of each weight are rotated, in blocks, by Cayley transforms.

peft's OFT folds the patches of larger kernels back into an image by adding them up, which is another function
already before training, and takes inputs of four dimensions for images: both kinds of layers are skipped.
Its BOFT has, without its CUDA extension, one butterfly factor, and multiplies by dense matrices that are zero
but for their blocks; here the blocks alone are multiplied, in a tenth of the time.
"""

from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from models.adapt.adapter import Site
from models.adapt.peft_adapter import ADAPTER, PeftAdapted, pattern
from models.adapt.targets import Refuse, choose_targets, dilated, grouped, of_own_kind
from models.build.torchvision_operators import declare_torchvision_operators
from models.catalogue.adapters import ButterflyParameters, RotationParameters

_MOST_DENSE_INPUTS = 2304
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
    adapted = PeftAdapted(network, config, site, skipped=targets.skipped)
    for layer in network.modules():
        if isinstance(layer, boft.BOFTLayer) and not layer.fbd_cuda_available:
            forward = _convolve if isinstance(layer, boft.Conv2d) else _transform
            layer.forward = partial(forward, layer)
    return adapted


def _transform(layer: Any, inputs: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - peft's, untyped
    """peft's linear layer: s * W R x + b, with R of blocks."""
    base: nn.Linear = layer.base_layer
    if layer.disable_adapters:
        return functional.linear(inputs, base.weight, base.bias)
    blocks = _blocks(layer)
    count, size, _ = blocks.shape
    parts = inputs.reshape(*inputs.shape[:-1], count, size)
    turned = torch.einsum("...dh,dhk->...dk", parts, blocks).flatten(-2)
    outputs: torch.Tensor = functional.linear(turned, base.weight) * layer.boft_s[ADAPTER].squeeze(-1)
    return outputs if base.bias is None else outputs + base.bias


def _convolve(layer: Any, inputs: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - peft's, untyped
    """peft's convolution: the kernels, as rows, are rotated and scaled."""
    base: nn.Conv2d = layer.base_layer
    if layer.disable_adapters:
        return functional.conv2d(inputs, base.weight, base.bias, base.stride, base.padding)
    blocks = _blocks(layer)
    count, size, _ = blocks.shape
    rows = base.weight.reshape(len(base.weight), count, size)
    turned = torch.einsum("odh,dkh->odk", rows, blocks).reshape(base.weight.shape)
    weight = turned * layer.boft_s[ADAPTER].view(-1, 1, 1, 1)
    return functional.conv2d(inputs, weight, base.bias, base.stride, base.padding)


def _blocks(layer: Any) -> torch.Tensor:  # noqa: ANN401 - peft's, untyped
    """The rotations, (blocks, size, size)."""
    rotations: torch.Tensor = layer.cayley_batch(layer.boft_R[ADAPTER].squeeze(0))
    return rotations


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
