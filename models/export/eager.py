"""The network itself, in PyTorch, on the pixels that the served graph gets: what a graph is held against."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.export.parity import ParityError, SessionRun, tolerance
from models.manifest import Preprocessing

_PIXELS_AT_ONCE = 2**17
"""Of a batch. What a network holds grows with it: for thirty pictures of 320 x 320 at once, in float64, a
segmenter took 22 GB."""


def run_eager(
    network: nn.Module, preprocessing: Preprocessing, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """(n, H, W, 3) uint8 to (n, C) float32; the network must be in eval mode and take NCHW."""
    return _run(network, preprocessing, images, torch.float32).numpy()


def rounding_of(network: nn.Module, preprocessing: Preprocessing, images: NDArray[np.uint8]) -> float:
    """Largest difference that float32 makes: between the network's outputs in it and in float64.

    0 for a network that insists on float32 somewhere: nothing is known of its rounding, and nothing allowed.
    """
    single = _run(network, preprocessing, images, torch.float32)
    try:
        double = _run(copy.deepcopy(network).double(), preprocessing, images, torch.float64)
    except RuntimeError:
        return 0.0
    return float((single - double).abs().max())


def _run(
    network: nn.Module, preprocessing: Preprocessing, images: NDArray[np.uint8], dtype: torch.dtype
) -> torch.Tensor:
    mean = torch.tensor(preprocessing.mean, dtype=dtype).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=dtype).view(1, 3, 1, 1)
    logits: list[torch.Tensor] = []
    with torch.inference_mode():
        for part in _parts(images):
            pixels = torch.from_numpy(part.copy()).permute(0, 3, 1, 2).to(dtype)
            logits.append(network((pixels - mean) / std))
    return torch.cat(logits)


def _parts(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    at_once = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), at_once):
        yield images[start : start + at_once]


def hold_against_eager(
    run: SessionRun, network: nn.Module, preprocessing: Preprocessing, images: NDArray[np.uint8]
) -> float:
    """Largest difference between graph and network. Raises ParityError when it is over the tolerance."""
    expected = run_eager(network, preprocessing, images)
    outputs = np.concatenate([run(part) for part in _parts(images)])
    differences = np.abs(outputs - expected).reshape(len(images), -1).max(axis=1)
    worst, at = float(differences.max()), int(differences.argmax())
    allowed = tolerance(expected)
    if worst > allowed:
        allowed = tolerance(expected, rounding_of(network, preprocessing, images[at : at + 1]))
    if not worst <= allowed:
        raise ParityError(
            f"The graph differs from the PyTorch network by {worst:.3g}, more than {allowed:.3g}.",
            hint="The export changed the network; report it with the architecture's name.",
        )
    return worst
