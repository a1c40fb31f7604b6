"""RRDBNet, the generator of ESRGAN and Real-ESRGAN.

Wang et al. 2018, https://arxiv.org/abs/1809.00219, and Wang et al. 2021, https://arxiv.org/abs/2107.10833:
blocks of densely connected convolutions whose results are scaled down before they are added, then two
doublings of the size by repeating pixels.

    pixels (n, 3, h, w) in 0..1 ─► (n, 3, 4h, 4w)
"""

import torch
from torch import nn
from torch.nn import functional

SCALE = 4
_CHANNELS = 64
_GROWTH = 32
_LAYERS = 5
_BLOCKS = 23
_RESIDUAL = 0.2
_SLOPE = 0.2


class _DenseBlock(nn.Module):
    """Five convolutions, each of which sees all results before it; a fifth of the last is added to the
    input."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(
                _CHANNELS + index * _GROWTH, _CHANNELS if index == _LAYERS - 1 else _GROWTH, 3, padding=1
            )
            for index in range(_LAYERS)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, 64, h, w) to the same shape."""
        seen = [maps]
        for layer in self.layers[:-1]:
            seen.append(functional.leaky_relu(layer(torch.cat(seen, 1)), _SLOPE))
        last: torch.Tensor = self.layers[-1](torch.cat(seen, 1))
        return last * _RESIDUAL + maps


class _Block(nn.Module):
    """Three dense blocks; a fifth of what they give is added to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_DenseBlock() for _ in range(3)))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, 64, h, w) to the same shape."""
        given: torch.Tensor = self.blocks(maps)
        return given * _RESIDUAL + maps


class RRDBNet(nn.Module):
    """The network of Real-ESRGAN x4plus; with fewer blocks, of its smaller kin."""

    def __init__(self, blocks: int = _BLOCKS) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, _CHANNELS, 3, padding=1)
        self.trunk = nn.Sequential(*(_Block() for _ in range(blocks)))
        self.trunk_end = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
        self.doublings = nn.ModuleList(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1) for _ in range(2))
        self.refine = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
        self.leave = nn.Conv2d(_CHANNELS, 3, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, 4h, 4w)."""
        entered = self.enter(pixels)
        maps = entered + self.trunk_end(self.trunk(entered))
        for doubling in self.doublings:
            larger = functional.interpolate(maps, scale_factor=2.0, mode="nearest")
            maps = functional.leaky_relu(doubling(larger), _SLOPE)
        restored: torch.Tensor = self.leave(functional.leaky_relu(self.refine(maps), _SLOPE))
        return restored
