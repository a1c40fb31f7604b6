"""U-Net and UNet++ over an encoder.

Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597, and Zhou et al. 2018, https://arxiv.org/abs/1807.10165.

    U-Net: beside every map of the encoder one of the decoder. UNet++: between the two as many nodes as fit.

    1/2   x00 ─────────────► up     x00 ─► x01 ─► x02 ─► x03
    1/4   x10 ─────────► up ─┘      x10 ─► x11 ─► x12 ─┘      node (i, j): all nodes (i, k < j) of its level,
    1/8   x20 ─────► up ─┘          x20 ─► x21 ─┘             and node (i + 1, j - 1) at twice the sides
    1/16  x30 ─► up ─┘              x30 ─┘

Both go on to the picture's own size with one more level, which has nothing beside it.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from models.build.encoded import ConvNormReLU, Decoder, Maps, build_encoded, repeated

_WIDTHS = (16, 32, 64, 128, 256)
"""Channels of nodes by level; the first is the picture's size, the second half of it."""
_TINY_WIDTHS = (16, 16, 16, 16, 16)
"""With 8 in the first, one seed in three had no feature left for one of three labels."""


class _Node(nn.Sequential):
    """Two convolutions over maps that lie beside each other."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(ConvNormReLU(inputs, outputs), ConvNormReLU(outputs, outputs))


class UNetDecoder(Decoder):
    """24.4 million numbers over a ResNet-34, as in other libraries."""

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        widths = _widths(maps)
        self.channels = widths[0]
        below = (*widths[2:], maps.channels[-1])
        self.nodes = nn.ModuleList(
            _Node(beside + under, width)
            for beside, under, width in zip(maps.channels, below, widths[1:], strict=False)
        )
        self.last = _Node(widths[1], widths[0])

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Five maps to (n, channels, h, w)."""
        current = maps[-1]
        for beside, node in zip(maps[-2::-1], self.nodes[::-1], strict=True):
            current = node(torch.cat((beside, repeated(current, beside)), 1))
        return _to_full_size(self.last, current)


class UNetPlusPlusDecoder(Decoder):
    """Without the paper's deep supervision: the answer is the last node's of the first level. All nodes of a
    level have one width, as in the paper; elsewhere they have their encoder map's."""

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        widths = _widths(maps)
        self.channels = widths[0]
        self.nodes = nn.ModuleDict()
        depth = len(maps.channels) - 1
        for level in range(depth):
            width = widths[level + 1]
            for before in range(depth - level):
                is_map_under = before == 0 or level + 1 == depth
                under = maps.channels[level + 1] if is_map_under else widths[level + 2]
                inputs = maps.channels[level] + before * width + under
                self.nodes[f"{level}-{before + 1}"] = _Node(inputs, width)
        self.last = _Node(widths[1], widths[0])

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Five maps to (n, channels, h, w)."""
        rows = [[one] for one in maps]
        for column in range(1, len(maps)):
            for level in range(len(maps) - column):
                row, under = rows[level], rows[level + 1][column - 1]
                node = self.nodes[f"{level}-{column}"]
                row.append(node(torch.cat((*row, repeated(under, row[0])), 1)))
        return _to_full_size(self.last, rows[0][-1])


def build_encoded_unet(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """U-Net over the encoder that its name says, with random weights, in eval mode."""
    return build_encoded(name, UNetDecoder, num_classes=num_classes)


def build_unetplusplus(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """UNet++ over the encoder that its name says, with random weights, in eval mode."""
    return build_encoded(name, UNetPlusPlusDecoder, num_classes=num_classes)


def _widths(maps: Maps) -> tuple[int, ...]:
    return _TINY_WIDTHS if maps.is_tiny else _WIDTHS


def _to_full_size(node: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """Doubled once more, with no map beside it. Where the picture's sides are odd this is a pixel too many,
    which resizing the logits takes away."""
    made: torch.Tensor = node(functional.interpolate(maps, scale_factor=2.0, mode="nearest"))
    return made
