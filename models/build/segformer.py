"""SegFormer: Xie et al. 2021, https://arxiv.org/abs/2105.15203, as transformers builds it.

pixels (n, 3, h, w) ─► four stages of attention, 1/4 to 1/32 of the sides ─► linear layers, all at 1/4 ─► head
─resized─► logits (n, c, h, w)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from models.build.encoded import resized
from models.build.torchvision_operators import declare_torchvision_operators


class _Size(NamedTuple):
    """Of one network of the family."""

    widths: tuple[int, int, int, int]
    """Channels by stage."""
    depths: tuple[int, int, int, int]
    """Blocks by stage."""
    decoder_width: int


_WIDE = (64, 128, 320, 512)
_SIZES: Mapping[str, _Size] = {
    "segformer_b0": _Size((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "segformer_b1": _Size(_WIDE, (2, 2, 2, 2), 256),
    "segformer_b2": _Size(_WIDE, (3, 4, 6, 3), 768),
    "segformer_tiny": _Size((8, 16, 40, 64), (1, 1, 1, 1), 32),
}
"""Of the paper; the last is ours, for tests."""


class SegFormer(nn.Module):
    """Takes any size of at least 32 pixels a side."""

    head_name = "network.decode_head.classifier"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised (n, 3, h, w) to logits (n, c, h, w)."""
        told: Any = self.network(pixels)
        return resized(told.logits, pixels)


def build_segformer(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """The network with random weights, in eval mode; nothing is downloaded."""
    declare_torchvision_operators()
    # After the declaration; and it costs seconds.
    from transformers import SegformerConfig, SegformerForSemanticSegmentation  # noqa: PLC0415

    size = _SIZES[name]
    config = SegformerConfig(
        hidden_sizes=list(size.widths), depths=list(size.depths), decoder_hidden_size=size.decoder_width
    )
    config.num_labels = num_classes
    return SegFormer(SegformerForSemanticSegmentation(config)).eval()
