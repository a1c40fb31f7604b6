"""The state that torch is in while a run trains."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import deterministic


@contextmanager
def reproducible(*, threads: int) -> Iterator[None]:
    """So many threads, and no sums in an order of their own. Everything is as it was afterwards."""
    threads_before = torch.get_num_threads()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_filling = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Else every new tensor costs a pass over its memory.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        deterministic.fill_uninitialized_memory = was_filling  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(was_deterministic)
        torch.set_num_threads(threads_before)
