"""Networks of timm, and how weights from elsewhere get into them."""

from collections.abc import Mapping

import torch
from torch import nn

from models.build.torchvision_operators import declare_torchvision_operators


class WeightsMismatch(ValueError):
    """A state dict does not fit the network; the message names the first place."""


def build_timm(name: str, *, num_classes: int) -> nn.Module:
    """The named timm network in eval mode, with random weights; nothing is downloaded."""
    declare_torchvision_operators()
    import timm  # noqa: PLC0415 - must come after the declaration, and costs two seconds

    if not timm.is_model(name):
        raise WeightsMismatch(f"timm has no network {name!r}.")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
    return network.eval()


def build_convolutional(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """The named timm network, which takes images of any size."""
    return build_timm(name, num_classes=num_classes)


def build_of_size(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """The named timm network, whose weights hold tables of positions for one size of image."""
    declare_torchvision_operators()
    import timm  # noqa: PLC0415 - as above

    network: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=num_classes, img_size=image_size
    )
    return network.eval()


def load_by_name(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict whose keys are the network's own. Raises WeightsMismatch."""
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise WeightsMismatch(str(error)) from error


def load_by_position(network: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Load a state dict with the same tensors in the same order under other names.

    Every position must agree in the kind of tensor (last part of its name), shape and dtype. That does
    not prove that both compute the same: networks that differ in padding or epsilon agree in all this.
    The comparison with the source's own outputs proves it.

    Returns: the source's name for each of the network's tensors.

    Raises:
        WeightsMismatch: names the first position that disagrees.

    """
    own = network.state_dict()
    if len(own) != len(state):
        raise WeightsMismatch(f"The network has {len(own)} tensors, the file {len(state)}.")
    names: dict[str, str] = {}
    for position, ((name, mine), (theirs, tensor)) in enumerate(zip(own.items(), state.items(), strict=True)):
        same_kind = name.rpartition(".")[2] == theirs.rpartition(".")[2]
        if not same_kind or mine.shape != tensor.shape or mine.dtype != tensor.dtype:
            raise WeightsMismatch(
                f"Tensor {position}: the network has {name} {tuple(mine.shape)} {mine.dtype}, "
                f"the file {theirs} {tuple(tensor.shape)} {tensor.dtype}."
            )
        names[name] = theirs
    load_by_name(network, {name: state[theirs] for name, theirs in names.items()})
    return names
