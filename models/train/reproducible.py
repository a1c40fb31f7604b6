"""The state that torch is in while a run trains."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils import deterministic


@contextmanager
def reproducible(network: nn.Module, *, threads: int) -> Iterator[None]:
    """So many threads, no sums in an order of their own, and weights laid out for convolutions.

    Everything is as it was afterwards; the network's tensors are contiguous.
    """
    threads_before = torch.get_num_threads()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_filling = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Else every new tensor costs a pass over its memory.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield
    finally:
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        deterministic.fill_uninitialized_memory = was_filling  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(was_deterministic)
        torch.set_num_threads(threads_before)
