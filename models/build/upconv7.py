"""waifu2x's UpConv-7: nagadomi, https://github.com/nagadomi/waifu2x.

Six 3 x 3 convolutions and a transposed one that doubles the size; none pads, so that what comes out depends
on seven pixels around and on nothing that was made up.

    pixels (n, 3, h, w) in 0..1 ─► (n, 3, 2 (h - 14), 2 (w - 14))
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

SCALE = 2
MARGIN = 7
"""Pixels of the input that the network takes off each side."""
_CHANNELS = (3, 16, 32, 64, 128, 128, 256)
_SLOPE = 0.1


class UpConv7(nn.Module):
    """The network for colours."""

    head_name = "enlarge"

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(inputs, outputs, 3) for inputs, outputs in pairwise(_CHANNELS))
        self.enlarge = nn.ConvTranspose2d(_CHANNELS[-1], 3, 4, stride=SCALE, padding=3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, 2 (h - 14), 2 (w - 14))."""
        maps = pixels
        for layer in self.layers:
            maps = functional.leaky_relu(layer(maps), _SLOPE)
        enlarged: torch.Tensor = self.enlarge(maps)
        return enlarged


def build_upconv7(name: str, *, scale: int) -> nn.Module:
    """The network with random weights, in eval mode; it enlarges twice."""
    return UpConv7().eval()
