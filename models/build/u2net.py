"""U²-Net: Qin et al. 2020, https://arxiv.org/abs/2005.09007, "U²-Net: Going Deeper with Nested U-Structure".

A U-Net whose eleven stages are small U-Nets themselves, so that each stage sees much at little cost. The
original's batch norms are folded into its convolutions, as in the file that the weights come from.

    pixels (n, 3, h, w) ─► stages 1-6, each at half the size ─► stages 5-1 back up ─► six maps ─► (n, c, h, w)
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

_NARROW = 16
"""Channels inside a stage of the small network."""
_WIDE = 64
"""Channels between its stages."""
_DEEPEST_DILATION = 8


class _ConvReLU(nn.Module):
    """3 x 3 convolution that keeps the size, then max(0, x)."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, outputs, h, w)."""
        return functional.relu(self.conv(maps))


class _Stage(nn.Module):
    """A residual U-block of some depth: its first layer's maps plus what a U-Net on them gives."""

    def __init__(self, inputs: int, outputs: int, *, narrow: int, depth: int) -> None:
        super().__init__()
        self.enter = _ConvReLU(inputs, outputs)
        self.down = nn.ModuleList(
            _ConvReLU(outputs if level == 0 else narrow, narrow) for level in range(depth - 1)
        )
        self.bottom = _ConvReLU(narrow, narrow, dilation=2)
        self.up = nn.ModuleList(
            _ConvReLU(2 * narrow, outputs if level == depth - 2 else narrow) for level in range(depth - 1)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, outputs, h, w)."""
        entered = self.enter(maps)
        kept, current = [], entered
        for level, down in enumerate(self.down):
            current = down(_halved(current) if level else current)
            kept.append(current)
        current = self.bottom(current)
        for up in self.up:
            beside = kept.pop()
            current = up(torch.cat((_sized_as(current, beside), beside), 1))
        return torch.add(current, entered)


class _DilatedStage(nn.Module):
    """A residual block for maps too small to halve: the layers widen their view instead."""

    def __init__(self, inputs: int, outputs: int, *, narrow: int) -> None:
        super().__init__()
        self.enter = _ConvReLU(inputs, outputs)
        self.down = nn.ModuleList(
            _ConvReLU(outputs if dilation == 1 else narrow, narrow, dilation=dilation)
            for dilation in (1, 2, 4)
        )
        self.bottom = _ConvReLU(narrow, narrow, dilation=_DEEPEST_DILATION)
        self.up = nn.ModuleList(
            _ConvReLU(2 * narrow, outputs if dilation == 1 else narrow, dilation=dilation)
            for dilation in (4, 2, 1)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, outputs, h, w)."""
        entered = self.enter(maps)
        kept, current = [], entered
        for down in self.down:
            current = down(current)
            kept.append(current)
        current = self.bottom(current)
        for up in self.up:
            current = up(torch.cat((current, kept.pop()), 1))
        return torch.add(current, entered)


class MapHead(nn.Module):
    """What gives the maps: one of each decoder stage, and their mixture, the answer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.sides = nn.ModuleList(nn.Conv2d(_WIDE, num_classes, 3, padding=1) for _ in range(6))
        self.mix = nn.Conv2d(6 * num_classes, num_classes, 1)

    def forward(self, decoded: Sequence[torch.Tensor]) -> torch.Tensor:
        """Six maps of features, the largest first, to logits (n, c, h, w) of its size."""
        maps = [side(one) for side, one in zip(self.sides, decoded, strict=True)]
        logits: torch.Tensor = self.mix(torch.cat([_sized_as(one, maps[0]) for one in maps], 1))
        return logits


class U2Net(nn.Module):
    """The small one, U²-Net-p: 16 channels inside its stages, 64 between them."""

    head_name = "head"

    def __init__(self, num_classes: int = 1) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_stages(3, (7, 6, 5, 4, 0, 0)))
        self.decoder = nn.ModuleList(_stages(2 * _WIDE, (0, 4, 5, 6, 7)))
        self.head = MapHead(num_classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised (n, 3, h, w) to logits (n, c, h, w)."""
        kept, current = [], pixels
        for level, stage in enumerate(self.encoder):
            current = stage(_halved(current) if level else current)
            kept.append(current)
        decoded = [kept.pop()]
        for stage in self.decoder:
            beside = kept.pop()
            decoded.append(stage(torch.cat((_sized_as(decoded[-1], beside), beside), 1)))
        logits: torch.Tensor = self.head(decoded[::-1])
        return logits


def build_u2net(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """The network with random weights, in eval mode; it takes any size."""
    return U2Net(num_classes).eval()


def _stages(inputs: int, depths: Sequence[int]) -> list[nn.Module]:
    """Stages of these depths, 0 for a dilated one; an encoder's first takes pixels."""
    stages: list[nn.Module] = []
    for number, depth in enumerate(depths):
        enters = _WIDE if inputs == 3 and number else inputs
        if depth:
            stages.append(_Stage(enters, _WIDE, narrow=_NARROW, depth=depth))
        else:
            stages.append(_DilatedStage(enters, _WIDE, narrow=_NARROW))
    return stages


def _halved(maps: torch.Tensor) -> torch.Tensor:
    return functional.max_pool2d(maps, 2, stride=2, ceil_mode=True)


def _sized_as(maps: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    if maps.shape[-2:] == other.shape[-2:]:
        return maps
    return functional.interpolate(maps, other.shape[-2:], mode="bilinear", align_corners=False)
