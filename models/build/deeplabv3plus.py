"""DeepLabv3+: Chen et al. 2018, https://arxiv.org/abs/1802.02611, "Encoder-Decoder with Atrous Separable
Convolution for Semantic Image Segmentation".

    deepest map, 1/16 ─┬─ 1 x 1 ────────────────────────────┐
                       ├─ 3 x 3, dilated by 6, 12 and 18 ───┼─ 1 x 1 ─ to 1/4 ─┬─ 3 x 3 ─ 3 x 3, 1/4
                       └─ the mean over everything ─ 1 x 1 ─┘                  │
    map at 1/4 ─ 1 x 1, 48 channels ───────────────────────────────────────────┘

All 3 x 3 convolutions are separable. Both of the decoder stand behind the joint, as in the paper; other
libraries put one before it, and dilate twice as far, which the paper does at 1/8.
"""

from collections.abc import Sequence

import torch
from torch import nn

from models.build.encoded import ConvNormReLU, Decoder, Maps, build_encoded, resized

_STRIDE = 16
_DILATIONS = (6, 12, 18)
_WIDTH, _FINE = 256, 48
_TINY_WIDTH, _TINY_FINE = 16, 8
_DROPPED = 0.1


class _Separable(nn.Sequential):
    """A 3 x 3 convolution of each channel alone, one of 1 x 1 of all, norm, max(0, x)."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class DeepLabDecoder(Decoder):
    """While it trains, a tenth of the coarse features is left out.

    The mean over everything has no norm of its own: of a single picture it is one number per channel, without
    a variance.
    """

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        width, fine = (_TINY_WIDTH, _TINY_FINE) if maps.is_tiny else (_WIDTH, _FINE)
        entering, self.channels = maps.channels[-1], width
        self.views = nn.ModuleList(
            [
                ConvNormReLU(entering, width, 1),
                *(_Separable(entering, width, dilation=dilation) for dilation in _DILATIONS),
            ]
        )
        self.whole = nn.Sequential(nn.Conv2d(entering, width, 1), nn.ReLU(inplace=True))
        self.fuse = ConvNormReLU((len(self.views) + 1) * width, width, 1)
        self.dropout = nn.Dropout(_DROPPED)
        self.fine = ConvNormReLU(maps.channels[1], fine, 1)
        self.refine = nn.Sequential(_Separable(width + fine, width), _Separable(width, width))

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Five maps to (n, channels, h / 4, w / 4)."""
        deepest, fine = maps[-1], self.fine(maps[1])
        seen = [view(deepest) for view in self.views]
        whole = self.whole(deepest.mean((2, 3), keepdim=True))
        coarse = self.dropout(self.fuse(torch.cat((*seen, whole.expand_as(seen[0])), 1)))
        features: torch.Tensor = self.refine(torch.cat((resized(coarse, fine), fine), 1))
        return features


def build_deeplabv3plus(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """DeepLabv3+ over the encoder that its name says, with random weights, in eval mode."""
    return build_encoded(name, DeepLabDecoder, num_classes=num_classes, deepest_stride=_STRIDE)
