"""Segmenters of three parts: an encoder of timm, a decoder of ours, a head.

    pixels (n, 3, h, w) ─encoder─► five maps, 1/2 to 1/32 of the sides ─decoder─► features, some share of the
    sides ─head─► a map per label ─resized─► logits (n, c, h, w)

A row calls such a network METHOD_ENCODER, as `fpn_resnet34`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from models.build.timm_ import WeightsMismatch
from models.build.torchvision_operators import declare_torchvision_operators

TINY_ENCODER = "test_resnet"
"""Decoders are narrow on this one, for tests."""


class Maps(NamedTuple):
    """What an encoder gives, told before it does."""

    channels: tuple[int, ...]
    """Of the five maps, the largest first."""
    is_tiny: bool


class Decoder(nn.Module):
    """Takes an encoder's five maps, the largest first."""

    channels: int
    """Of the features that it makes of them."""


class Encoded(nn.Module):
    """Takes any size of at least 32 pixels a side: maps are resized to the sizes of those they meet."""

    head_name = "head"

    def __init__(self, encoder: nn.Module, decoder: Decoder, *, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = nn.Conv2d(decoder.channels, num_classes, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised (n, 3, h, w) to logits (n, c, h, w)."""
        return resized(self.head(self.decoder(self.encoder(pixels))), pixels)


class ConvNormReLU(nn.Sequential):
    """A convolution that keeps the size, batch norm, max(0, x)."""

    def __init__(self, inputs: int, outputs: int, size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


def build_encoded(
    name: str, decode: Callable[[Maps], Decoder], *, num_classes: int, deepest_stride: int = 32
) -> nn.Module:
    """The network of this name with random weights, in eval mode; `decode` makes its decoder.

    Where `deepest_stride` is less, the encoder's later stages do not halve, and are dilated instead.
    """
    encoder_name = name.partition("_")[2]  # the `encoder` of its row
    declare_torchvision_operators()
    import timm  # noqa: PLC0415 - must come after the declaration, and costs two seconds

    if not timm.is_model(encoder_name):
        raise WeightsMismatch(f"timm has no network {encoder_name!r}.")
    encoder: Any = timm.create_model(
        encoder_name, pretrained=False, features_only=True, output_stride=deepest_stride
    )
    maps = Maps(channels=tuple(encoder.feature_info.channels()), is_tiny=encoder_name == TINY_ENCODER)
    return Encoded(encoder, decode(maps), num_classes=num_classes).eval()


def resized(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Maps at the sides of others, between pixels straight lines."""
    return functional.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)


def repeated(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Maps at the sides of others, pixels repeated."""
    return functional.interpolate(maps, like.shape[-2:], mode="nearest")
