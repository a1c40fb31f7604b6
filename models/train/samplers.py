"""Orders of one epoch: as many indices as there are pictures, whatever the sampler. Torch-free."""

import numpy as np
from numpy.typing import NDArray

from models.catalogue import Parameters
from models.catalogue import samplers as told

Indices = NDArray[np.int64]


def shuffle(parameters: Parameters, labels: Indices, generator: np.random.Generator) -> Indices:
    """Every picture once, in a new order each epoch."""
    return generator.permutation(len(labels)).astype(np.int64, copy=False)


def sequential(parameters: Parameters, labels: Indices, generator: np.random.Generator) -> Indices:
    """Every picture once, always in the data set's order."""
    return np.arange(len(labels), dtype=np.int64)


def balanced(parameters: Parameters, labels: Indices, generator: np.random.Generator) -> Indices:
    """Each label takes an equal part of the epoch: rare ones come several times, common ones not all."""
    return _by_shares(labels, np.bincount(labels) > 0, generator)


def square_root_balanced(parameters: Parameters, labels: Indices, generator: np.random.Generator) -> Indices:
    """Each label's part goes by the square root of its number: half-way between as it is and balanced."""
    return _by_shares(labels, np.sqrt(np.bincount(labels)), generator)


def repeat_factor(parameters: Parameters, labels: Indices, generator: np.random.Generator) -> Indices:
    """A picture comes in proportion to max(1, √(t / f)), f the share of its label, t the share that is rare.

    The paper makes the epoch longer by what is repeated; here common labels give way.
    """
    assert isinstance(parameters, told.RepeatFactor)
    counts = np.bincount(labels)
    shares = np.maximum(counts, 1) / len(labels)
    return _by_shares(labels, counts * np.maximum(1.0, np.sqrt(parameters.rare_share / shares)), generator)


def _by_shares(labels: Indices, shares: NDArray[np.generic], generator: np.random.Generator) -> Indices:
    exact = shares / shares.astype(np.float64).sum() * len(labels)
    counts = np.floor(exact).astype(np.int64)
    # What rounding down left over goes to the largest remainders, ties by label.
    counts[np.argsort(counts - exact, kind="stable")[: len(labels) - counts.sum()]] += 1
    parts = []
    for label, count in enumerate(counts.tolist()):
        own = np.flatnonzero(labels == label)
        # Whole rounds before any picture comes once more.
        for first in range(0, count, max(1, len(own))):
            parts.append(generator.permutation(own)[: count - first])
    order: Indices = np.concatenate(parts)
    return generator.permutation(order)
