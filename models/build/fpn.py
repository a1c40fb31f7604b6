"""FPN for segmentation: Kirillov et al. 2019, https://arxiv.org/abs/1901.02446, "Panoptic Feature Pyramid
Networks".

    1/4   map ─1 x 1─► + ─► p2 ─────────────── conv ─┐
    1/8   map ─1 x 1─► + ─► p3 ─────── conv, twice ──┤
    1/16  map ─1 x 1─► + ─► p4 ─ (conv, twice) x 2 ──┼─► sum, 1/4
    1/32  map ─1 x 1─────► p5 ─ (conv, twice) x 3 ──┘

"twice" is to twice the sides; each map of the pyramid adds the one below it, its pixels repeated. The
convolutions that detectors have behind each sum are left out: every branch begins with one. Over a ResNet-34
that makes 23.2 million numbers, as in other libraries.
"""

from collections.abc import Sequence

import torch
from torch import nn

from models.build.encoded import Decoder, Maps, build_encoded, repeated, resized

_PYRAMID, _BRANCH, _GROUPS = 256, 128, 32
_TINY = 16
_TINY_GROUPS = 4
_DROPPED = 0.2


class _Step(nn.Sequential):
    """3 x 3 convolution, group norm, max(0, x)."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(groups, outputs),
            nn.ReLU(inplace=True),
        )


class _Branch(nn.Module):
    """As many steps as it takes from a pyramid's map to the largest, each followed by a resizing."""

    def __init__(self, inputs: int, outputs: int, *, groups: int, resizings: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            _Step(outputs if at else inputs, outputs, groups) for at in range(max(1, resizings))
        )

    def forward(self, current: torch.Tensor, larger: Sequence[torch.Tensor]) -> torch.Tensor:
        """To the sides of one larger map after the other; the first keeps its size where there is none."""
        for at, step in enumerate(self.steps):
            current = step(current)
            if larger:
                current = resized(current, larger[at])
        return current


class FPNDecoder(Decoder):
    """While it trains, a fifth of the features is left out."""

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        pyramid, self.channels = (_TINY, _TINY) if maps.is_tiny else (_PYRAMID, _BRANCH)
        groups = _TINY_GROUPS if maps.is_tiny else _GROUPS
        self.sideways = nn.ModuleList(nn.Conv2d(entering, pyramid, 1) for entering in maps.channels[1:])
        self.branches = nn.ModuleList(
            _Branch(pyramid, self.channels, groups=groups, resizings=level)
            for level in range(len(self.sideways))
        )
        self.dropout = nn.Dropout2d(_DROPPED)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Five maps to (n, channels, h / 4, w / 4)."""
        taken = maps[1:]
        pyramid = [sideways(one) for sideways, one in zip(self.sideways, taken, strict=True)]
        for level in range(len(pyramid) - 2, -1, -1):
            pyramid[level] = pyramid[level] + repeated(pyramid[level + 1], pyramid[level])
        summed = self.branches[0](pyramid[0], ())
        for level in range(1, len(pyramid)):
            summed = summed + self.branches[level](pyramid[level], taken[level - 1 :: -1])
        features: torch.Tensor = self.dropout(summed)
        return features


def build_fpn(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """FPN over the encoder that its name says, with random weights, in eval mode."""
    return build_encoded(name, FPNDecoder, num_classes=num_classes)
