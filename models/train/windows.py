"""A network over one whole picture: window by window, blended, as it is served."""

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.manifest import TileFacts
from models.tasks.tiles import TileGrid, blended
from models.train.predict import Stopped


class Whole(Protocol):
    """Whole pictures, and how they go through a network."""

    tiles: TileFacts
    channels: int
    """Of what the network makes."""

    def normalised(self, windows: NDArray[np.uint8]) -> torch.Tensor:
        """(n, h, w, 3) to what the network takes, (n, 3, h, w)."""

    def finished(self, made: torch.Tensor) -> torch.Tensor:
        """(n, channels, h', w'), what the network makes, to what is blended."""


def in_windows(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    whole: Whole,
    *,
    precision: str = "fp32",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[NDArray[np.float32]]:
    """Rows of the result, (k, width, channels), from top to bottom, of one picture (h, w, 3): all at once
    would be larger than many a memory. Leaves the network in eval mode.

    Raises Stopped when `should_stop`, asked before every window, says so; ValueError for what is not finite.
    """
    network.eval()
    device = next(network.parameters()).device

    def run(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Not inference mode: what a network keeps from it could not be used in training afterwards.
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            made = network(whole.normalised(windows).to(device)).float()
        if not bool(torch.isfinite(made).all()):
            raise ValueError("what the network makes is not finite")
        piece: NDArray[np.float32] = whole.finished(made).cpu().numpy()
        return piece

    def ask() -> None:
        if should_stop():
            raise Stopped

    grid = TileGrid(pixels.shape[0], pixels.shape[1], whole.tiles)
    return blended(pixels, grid, run, channels=whole.channels, before_each=ask)
