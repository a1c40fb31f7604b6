"""Networks by their catalogue row, with the weights of a base in them.

row, classes, size ─build_network─► random weights ─load_base─► a base's; the head new where it must be
                                                   ─load_encoder─► a classifier's, in a segmenter's encoder
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from models.build.restorers import Restorer
from models.build.timm_ import WeightsMismatch
from models.build.torchvision_operators import declare_torchvision_operators
from models.build.u2net import MapHead
from models.build.upconv7 import MARGIN
from models.catalogue.architecture import Architecture
from models.manifest import TileFacts

_HEAD_DEVIATION = 0.01
_WINDOW_SIDE = 128


class CannotBuild(ValueError):
    """The network does not exist in this size."""


def build_network(
    architecture: Architecture, *, num_classes: int, image_size: int | None = None, seed: int = 0
) -> nn.Module:
    """The network in eval mode, with weights drawn from `seed` alone; nothing is downloaded.

    For a network of super-resolution see `build_restorer`.

    Raises:
        CannotBuild: its input cannot have that side; the message names the nearest that it can have.

    """
    side = architecture.image_size if image_size is None else image_size
    if (refused := architecture.why_not_side(side)) is not None:
        raise CannotBuild(" ".join(refused))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = architecture.build()(architecture.timm, num_classes=num_classes, image_size=side)
    return network


def build_restorer(architecture: Architecture, *, scale: int, seed: int = 0) -> nn.Module:
    """The same of a network that makes pictures `scale` times as large.

    Raises:
        CannotBuild: it cannot; the message names the scales that it can have.

    """
    if scale not in architecture.scales:
        known = " or ".join(map(str, architecture.scales))
        raise CannotBuild(f"{architecture.id} enlarges {known} times, not {scale} times.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = architecture.build()(architecture.timm, scale=scale)
    return network


def tiles_of(network: nn.Module, scale: int) -> TileFacts:
    """How pictures go through a network of `build_restorer`: each window with so much around it that its
    results are those of the whole picture."""
    if isinstance(network, Restorer):
        return TileFacts(scale=scale, side=_WINDOW_SIDE, context=network.reach)
    return TileFacts(scale=scale, side=_WINDOW_SIDE, margin=MARGIN)


def head_of(network: nn.Module) -> str:
    """Name of the linear layer that gives the logits, or of the part that gives the maps or pictures.

    Raises WeightsMismatch when there is not just one.
    """
    facts = getattr(network, "pretrained_cfg", None) or {}
    name = getattr(network, "head_name", None) or facts.get("classifier")
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, MapHead)
    if not isinstance(name, str) or not isinstance(network.get_submodule(name), kinds):
        raise WeightsMismatch(f"{type(network).__name__} has no single head.")
    return name


def load_base(
    network: nn.Module, state: Mapping[str, torch.Tensor], *, keeps_head: bool | None = None
) -> bool:
    """Load a base's tensors by name; position tables of another image size are interpolated.

    The head is new, drawn from the seed of `build_network` and made small, when the base's has another number
    of classes, or `keeps_head` is False: classes of the same number may be others.

    Returns: whether the base's head was kept.

    Raises:
        WeightsMismatch: a tensor other than the head's is missing, too much, or of another shape; or
            `keeps_head` is True and the head does not fit.

    """
    head = f"{head_of(network)}."
    own = network.state_dict()
    fitted = _fitted(network, state)
    fits = all(
        name in fitted and fitted[name].shape == tensor.shape
        for name, tensor in own.items()
        if name.startswith(head)
    )
    if keeps_head is None:
        keeps_head = fits
    if not keeps_head:
        new = {name: _small(tensor) for name, tensor in own.items() if name.startswith(head)}
        fitted = {name: tensor for name, tensor in fitted.items() if not name.startswith(head)} | new
    try:
        network.load_state_dict(fitted, strict=True)
    except RuntimeError as error:
        raise WeightsMismatch(str(error)[:500]) from error
    return keeps_head


def load_encoder(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load the tensors that the encoder of a segmenter has in common with a classifier, which has more.

    Raises:
        WeightsMismatch: one is missing or of another shape.

    """
    encoder = network.get_submodule("encoder")
    wanted = encoder.state_dict()
    for name, tensor in wanted.items():
        found = state.get(name)
        if found is None or found.shape != tensor.shape:
            has = "no such tensor" if found is None else f"one of {list(found.shape)}"
            raise WeightsMismatch(f"The encoder's {name} is {list(tensor.shape)}; the classifier has {has}.")
    encoder.load_state_dict({name: state[name] for name in wanted})


def _small(drawn: torch.Tensor) -> torch.Tensor:
    """Weights of standard deviation 0.01, biases of 0: on features that mean something already, a new head
    begins by favouring no class. As timm draws it, some networks begin with a loss of 19 for 10 classes."""
    if drawn.ndim == 1:
        return torch.zeros_like(drawn)
    return drawn * (_HEAD_DEVIATION / drawn.std().clamp_min(1e-12))


def save_weights(network: nn.Module, path: Path) -> None:
    """Write all tensors by name: what `load_base` takes, after `models.build.state_file.read_state`."""
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)


def _fitted(network: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with its position tables in the network's size, as timm interpolates them."""
    declare_torchvision_operators()
    from timm.models import swin_transformer, vision_transformer  # noqa: PLC0415 - after the declaration

    for module, kind in (
        (vision_transformer, vision_transformer.VisionTransformer),
        (swin_transformer, swin_transformer.SwinTransformer),
    ):
        if isinstance(network, kind):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch's, about how timm indexes
                fitted: dict[str, torch.Tensor] = module.checkpoint_filter_fn(dict(state), network)
            return fitted
    return dict(state)
