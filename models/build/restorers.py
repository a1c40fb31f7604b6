"""Networks that enlarge pictures, for scales of 2, 3 and 4.

    SRCNN, VDSR      pixels ─cubic─► large ─► convolutions on the large picture
    FSRCNN, ESPCN    pixels ─► convolutions on the small picture ─► enlarged by the last layer
    EDSR             pixels ─► residual blocks on the small picture ─► enlarged ─► one more convolution

Dong et al. 2014, https://arxiv.org/abs/1501.00092; Dong et al. 2016, https://arxiv.org/abs/1608.00367;
Shi et al. 2016, https://arxiv.org/abs/1609.05158; Kim et al. 2016, https://arxiv.org/abs/1511.04587;
Lim et al. 2017, https://arxiv.org/abs/1707.02921. All but the last train on luminance alone; here
networks take and give three colours, (n, 3, h, w) in 0..1 to (n, 3, s h, s w).
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_CUBIC = -0.5
"""Keys's coefficient, as Pillow has it; PyTorch's own is -0.75."""
_CUBIC_REACH = 2
_DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Of the photographs that EDSR was made for; it takes them off, and adds them again."""


class Restorer(nn.Module):
    """A network that enlarges `scale` times."""

    head_name: str
    """Its last layer."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    @property
    @abstractmethod
    def reach(self) -> int:
        """How far away, in pixels of the small picture, a pixel can be that a result depends on."""


class Cubic(nn.Module):
    """Enlarges by cubic interpolation, as Pillow does: each phase of the result is a 5 x 5 filter.

    Beyond the border the border's pixels go on; Pillow leaves out what lies there. And Pillow rounds and cuts
    to 8 bits between lines and columns: its levels differ by one at most, on photographs by up to eight where
    a line overshoots black or white.
    """

    kernels: torch.Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        phases = (np.arange(scale) + 0.5) / scale - 0.5
        taps = np.stack([_cubic(np.arange(-2, 3) - phase) for phase in phases])
        grid = np.einsum("ay,bx->abyx", taps, taps).reshape(scale * scale, 1, 5, 5)
        kernels = torch.from_numpy(np.tile(grid, (3, 1, 1, 1)).astype(np.float32))
        self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, s h, s w)."""
        around = functional.pad(pixels, (2, 2, 2, 2), mode="replicate")
        return functional.pixel_shuffle(functional.conv2d(around, self.kernels, groups=3), self.scale)


def _cubic(distances: np.ndarray) -> np.ndarray:
    """Weights of pixels at these distances."""
    x, a = np.abs(distances), _CUBIC
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    weights: np.ndarray = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    return weights


class SRCNN(Restorer):
    """Three convolutions, 9-1-5, on what cubic interpolation makes."""

    head_name = "rebuild"

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.cubic = Cubic(scale)
        self.extract = nn.Conv2d(3, 64, 9, padding=4)
        self.map = nn.Conv2d(64, 32, 1)
        self.rebuild = nn.Conv2d(32, 3, 5, padding=2)

    @property
    def reach(self) -> int:
        """As Restorer's."""
        return ceil((4 + 2) / self.scale) + _CUBIC_REACH

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, s h, s w)."""
        maps = functional.relu(self.extract(self.cubic(pixels)))
        large: torch.Tensor = self.rebuild(functional.relu(self.map(maps)))
        return large


class FSRCNN(Restorer):
    """Features, made few, mapped, made many again, and enlarged by a transposed convolution."""

    head_name = "enlarge"

    def __init__(self, scale: int, *, features: int, few: int, mappings: int) -> None:
        super().__init__(scale)
        layers: list[nn.Module] = [nn.Conv2d(3, features, 5, padding=2), nn.PReLU(features)]
        layers += [nn.Conv2d(features, few, 1), nn.PReLU(few)]
        for _ in range(mappings):
            layers += [nn.Conv2d(few, few, 3, padding=1), nn.PReLU(few)]
        layers += [nn.Conv2d(few, features, 1), nn.PReLU(features)]
        self.layers = nn.Sequential(*layers)
        self.enlarge = nn.ConvTranspose2d(features, 3, 9, stride=scale, padding=4, output_padding=scale - 1)
        self._mappings = mappings

    @property
    def reach(self) -> int:
        """As Restorer's."""
        return 2 + self._mappings + 2

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, s h, s w)."""
        large: torch.Tensor = self.enlarge(self.layers(pixels))
        return large


class ESPCN(Restorer):
    """Three convolutions on the small picture; the last makes a map for each phase of the large one."""

    head_name = "phases"

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.extract = nn.Conv2d(3, 64, 5, padding=2)
        self.map = nn.Conv2d(64, 32, 3, padding=1)
        self.phases = nn.Conv2d(32, 3 * scale**2, 3, padding=1)

    @property
    def reach(self) -> int:
        """As Restorer's."""
        return 2 + 1 + 1

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, s h, s w)."""
        maps = torch.tanh(self.map(torch.tanh(self.extract(pixels))))
        return functional.pixel_shuffle(self.phases(maps), self.scale)


class ResidualESPCN(Restorer):
    """Four convolutions on the small picture make what is added to cubic interpolation, phase by phase:
    ESPCN's way to enlarge, VDSR's to learn."""

    head_name = "phases"

    def __init__(self, scale: int, *, channels: int = 32) -> None:
        super().__init__(scale)
        self.cubic = Cubic(scale)
        layers: list[nn.Module] = []
        for entering in (3, channels, channels):
            layers += [nn.Conv2d(entering, channels, 3, padding=1), nn.PReLU(channels)]
        self.layers = nn.Sequential(*layers)
        self.phases = nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
        nn.init.zeros_(self.phases.weight)  # it begins as cubic interpolation
        nn.init.zeros_(self.phases.bias)  # type: ignore[arg-type]

    @property
    def reach(self) -> int:
        """As Restorer's."""
        return 4

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, s h, s w)."""
        added = functional.pixel_shuffle(self.phases(self.layers(pixels)), self.scale)
        return torch.add(self.cubic(pixels), added)


class VDSR(Restorer):
    """Many convolutions on what cubic interpolation makes; they find what is to be added to it."""

    head_name = "difference"

    def __init__(self, scale: int, *, depth: int, channels: int) -> None:
        super().__init__(scale)
        self.cubic = Cubic(scale)
        layers: list[nn.Module] = []
        for entering in (3, *[channels] * (depth - 2)):
            convolution = nn.Conv2d(entering, channels, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.difference = nn.Conv2d(channels, 3, 3, padding=1)
        nn.init.zeros_(self.difference.weight)  # it begins as cubic interpolation
        nn.init.zeros_(self.difference.bias)  # type: ignore[arg-type]
        self._depth = depth

    @property
    def reach(self) -> int:
        """As Restorer's."""
        return ceil(self._depth / self.scale) + _CUBIC_REACH

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, s h, s w)."""
        large = self.cubic(pixels)
        return torch.add(large, self.difference(self.layers(large)))


class _Block(nn.Module):
    """Two convolutions whose result is added; no norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to the same shape."""
        return torch.add(maps, self.second(functional.relu(self.first(maps))))


class EDSR(Restorer):
    """Residual blocks on the small picture; 4 times is twice 2 times."""

    head_name = "rebuild"
    mean: torch.Tensor

    def __init__(self, scale: int, *, blocks: int, channels: int) -> None:
        super().__init__(scale)
        self.register_buffer("mean", torch.tensor(_DIV2K_MEAN).view(1, 3, 1, 1), persistent=False)
        self.extract = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
        self.join = nn.Conv2d(channels, channels, 3, padding=1)
        steps = (2, 2) if scale == 4 else (scale,)
        self.enlarge = nn.Sequential(
            *(
                layer
                for step in steps
                for layer in (nn.Conv2d(channels, channels * step**2, 3, padding=1), nn.PixelShuffle(step))
            )
        )
        self.rebuild = nn.Conv2d(channels, 3, 3, padding=1)
        self._around_blocks = 2 + 2 * blocks + len(steps) + 1

    @property
    def reach(self) -> int:
        """As Restorer's."""
        return self._around_blocks

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, s h, s w)."""
        entered = self.extract(pixels - self.mean)
        large = self.enlarge(torch.add(entered, self.join(self.blocks(entered))))
        return torch.add(self.rebuild(large), self.mean)


@dataclass(frozen=True, kw_only=True)
class _Fast:
    features: int
    few: int
    mappings: int


_FAST: Mapping[str, _Fast] = {
    "fsrcnn": _Fast(features=56, few=12, mappings=4),
    "fsrcnn_small": _Fast(features=32, few=5, mappings=1),
}
_DEEP: Mapping[str, tuple[int, int]] = {"vdsr": (20, 64), "vdsr_small": (8, 32)}
"""Convolutions and channels."""
_RESIDUAL: Mapping[str, tuple[int, int]] = {"edsr": (16, 64), "edsr_small": (8, 32), "edsr_tiny": (2, 16)}
"""Blocks and channels."""


def build_srcnn(name: str, *, scale: int) -> nn.Module:
    """The network with random weights, in eval mode."""
    return SRCNN(scale).eval()


def build_fsrcnn(name: str, *, scale: int) -> nn.Module:
    """The same."""
    size = _FAST[name]
    return FSRCNN(scale, features=size.features, few=size.few, mappings=size.mappings).eval()


def build_espcn(name: str, *, scale: int) -> nn.Module:
    """The same."""
    return (ResidualESPCN if name == "espcn_residual" else ESPCN)(scale).eval()


def build_vdsr(name: str, *, scale: int) -> nn.Module:
    """The same."""
    depth, channels = _DEEP[name]
    return VDSR(scale, depth=depth, channels=channels).eval()


def build_edsr(name: str, *, scale: int) -> nn.Module:
    """The same."""
    blocks, channels = _RESIDUAL[name]
    return EDSR(scale, blocks=blocks, channels=channels).eval()
