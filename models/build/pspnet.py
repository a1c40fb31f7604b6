"""PSPNet: Zhao et al. 2017, https://arxiv.org/abs/1612.01105, "Pyramid Scene Parsing Network".

    deepest map, 1/8 ─┬─ means over 1, 2 x 2, 3 x 3 and 6 x 6 bins ─ 1 x 1 conv ─ back to 1/8 ─┐
                      └─────────────────────────────────────────────────────────────────┴─ 3 x 3 conv

As in the paper all stages of the encoder are used and the last two are dilated, which costs a multiple of its
time; other libraries take a stage at 1/8 and leave the rest away. The paper's auxiliary loss is left out.
"""

from collections.abc import Sequence

import torch
from torch import nn

from models.build.encoded import ConvNormReLU, Decoder, Maps, build_encoded, resized

_STRIDE = 8
_BINS = (1, 2, 3, 6)
"""A side."""
_WIDTH, _TINY_WIDTH = 512, 16
_DROPPED = 0.1


class PSPDecoder(Decoder):
    """While it trains, a tenth of the features is left out.

    The mean over everything has no norm of its own: of a single picture it is one number per channel, without
    a variance.
    """

    def __init__(self, maps: Maps) -> None:
        super().__init__()
        entering = maps.channels[-1]
        self.channels = _TINY_WIDTH if maps.is_tiny else _WIDTH
        share = entering // len(_BINS)
        self.views = nn.ModuleList(
            ConvNormReLU(entering, share, 1)
            if bins > 1
            else nn.Sequential(nn.Conv2d(entering, share, 1), nn.ReLU(inplace=True))
            for bins in _BINS
        )
        self.fuse = ConvNormReLU(entering + len(_BINS) * share, self.channels)
        self.dropout = nn.Dropout2d(_DROPPED)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Five maps to (n, channels, h / 8, w / 8)."""
        deepest = maps[-1]
        seen = [deepest]
        for bins, view in zip(_BINS, self.views, strict=True):
            seen.append(resized(view(_means(deepest, bins)), deepest))
        features: torch.Tensor = self.dropout(self.fuse(torch.cat(seen, 1)))
        return features


def build_pspnet(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """PSPNet over the encoder that its name says, with random weights, in eval mode."""
    return build_encoded(name, PSPDecoder, num_classes=num_classes, deepest_stride=_STRIDE)


def _means(maps: torch.Tensor, bins: int) -> torch.Tensor:
    """(n, c, h, w) to (n, c, bins, bins): what adaptive average pooling gives, as products of matrices. The
    operator of ONNX takes only sides that are multiples of the bins."""
    rows, columns = (_shares(maps, side, bins) for side in maps.shape[-2:])
    return rows @ maps @ columns.T


def _shares(maps: torch.Tensor, side: int, bins: int) -> torch.Tensor:
    """(bins, side): what part each of `side` numbers has in each bin's mean."""
    at = torch.arange(side, device=maps.device)
    number = torch.arange(bins, device=maps.device)[:, None]
    begins, ends = number * side // bins, ((number + 1) * side + bins - 1) // bins
    is_in = (at >= begins) & (at < ends)
    return (is_in / (ends - begins)).to(maps.dtype)
