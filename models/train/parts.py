"""What the builders of the catalogue's training methods are called with and give back.

A builder is a plain function named by its row; these are its types. Parts keep no state of their own that a
checkpoint would miss: what they need of the past is in the step number, the seed or the optimiser's state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.catalogue import Parameters


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters with their weight decay and share of the learning rate."""

    parameters: Sequence[nn.Parameter]
    weight_decay: float
    rate_scale: float = 1.0


class BuildOptimizer(Protocol):
    """Kind `optimizer`."""

    def __call__(
        self, groups: Sequence[ParameterGroup], parameters: Parameters, *, learning_rate: float
    ) -> torch.optim.Optimizer:
        """An optimiser whose `state` and `param_groups` hold all it needs to go on to the same bits, as
        tensors and numbers: checkpoints keep nothing else of it."""


class BuildSchedule(Protocol):
    """Kind `schedule`."""

    def __call__(self, parameters: Parameters, *, total_steps: int) -> Callable[[int], float]:
        """Step (0 .. total_steps - 1) to the share of the highest rate, 0..1."""


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits (n, c) float32 and targets, (n,) int64 or (n, c) float32 shares, to the mean loss, a scalar. Of
segmentation: (n, c, h, w) and (n, h, w) int64, 255 for pixels that count nothing. Of super-resolution:
pictures (n, 3, h, w) in 0..1, about, and those wanted, in 0..1, which may have a border more."""


class BuildLoss(Protocol):
    """Kind `loss`."""

    def __call__(self, parameters: Parameters, *, class_weights: torch.Tensor | None) -> Loss:
        """`class_weights`: (c,) float32."""


class Sample(Protocol):
    """Kind `sampler`."""

    def __call__(
        self, parameters: Parameters, labels: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Indices of one epoch, in order; the generator is seeded by job seed and epoch alone."""


Augment = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]
"""One picture (H, W, 3), or its mask (H, W), to one of the same shape; the generator is seeded by seed, epoch
and index alone."""


class BuildAugment(Protocol):
    """Kind `augmentation`. It is called in threads: NumPy and Pillow, no torch."""

    def __call__(self, parameters: Parameters) -> Augment:
        """What is done to each picture."""


Mix = Callable[[torch.Tensor, torch.Tensor, np.random.Generator], tuple[torch.Tensor, torch.Tensor]]
"""Normalised pictures (n, 3, h, w) and target shares (n, c) to mixed ones; seeded by seed and step alone."""


class BuildMix(Protocol):
    """Kind `mixing`."""

    def __call__(self, parameters: Parameters) -> Mix:
        """What is done to each batch."""


class BuildNetwork(Protocol):
    """Kind `architecture`."""

    def __call__(self, name: str, *, num_classes: int, image_size: int) -> nn.Module:
        """Takes normalised (n, 3, h, w) float32, gives logits (n, num_classes), of segmentation
        (n, num_classes, h, w); eval mode, random weights."""


class BuildRestorer(Protocol):
    """Kind `architecture`, of super-resolution."""

    def __call__(self, name: str, *, scale: int) -> nn.Module:
        """Takes (n, 3, h, w) in 0..1, gives (n, 3, scale (h - 2 m), scale (w - 2 m)), m the pixels of each
        border that it makes no result for; eval mode, random weights."""
