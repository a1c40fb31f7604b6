"""U-Net: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597.

    pixels (n, 3, h, w) ─► level 0 ─────────────────────────► beside ─► level 0 ─► (n, c, h, w)
                             └halved─► level 1 ─► beside ─► level 1 ─doubled─┘
                                          └─► … deepest … ─┘

Unlike the paper's, convolutions keep their size and are followed by batch norms.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

_WIDTHS: Mapping[str, Sequence[int]] = {
    "unet": (64, 128, 256, 512, 1024),
    "unet_small": (16, 32, 64, 128),
    "unet_tiny": (8, 16, 32),
}
"""Channels by level."""


class _Level(nn.Sequential):
    """Two 3 x 3 convolutions, each with its norm and max(0, x)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for entering in (inputs, outputs):
            convolution = nn.Conv2d(entering, outputs, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class UNet(nn.Module):
    """Takes sides that halve without rest as often as there are levels below the first."""

    head_name = "head"

    def __init__(self, widths: Sequence[int], *, num_classes: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList([_Level(3, widths[0]), *(_Level(narrow, wide) for narrow, wide in pairs)])
        self.doubled = nn.ModuleList(
            nn.ConvTranspose2d(wide, narrow, 2, stride=2) for narrow, wide in reversed(pairs)
        )
        self.up = nn.ModuleList(_Level(2 * narrow, narrow) for narrow, _ in reversed(pairs))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised (n, 3, h, w) to logits (n, c, h, w)."""
        kept, maps = [], pixels
        for depth, level in enumerate(self.down):
            maps = level(functional.max_pool2d(maps, 2) if depth else maps)
            kept.append(maps)
        kept.pop()
        for doubled, level in zip(self.doubled, self.up, strict=True):
            maps = level(torch.cat((kept.pop(), doubled(maps)), 1))
        logits: torch.Tensor = self.head(maps)
        return logits


def build_unet(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """The network with random weights, in eval mode."""
    return UNet(_WIDTHS[name], num_classes=num_classes).eval()
