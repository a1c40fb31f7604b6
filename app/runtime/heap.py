"""Keep the C heap small: glibc by default keeps what large pictures have freed.

Its threshold for giving blocks their own mapping grows to 32 MB as such blocks are freed, after which large
buffers live in per-thread arenas that rarely shrink: a service that decodes one huge picture per thread
stays huge. A fixed threshold and few arenas cost a few page faults per large picture and bound it.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MAPPED_FROM_BYTES = 2**20
_ARENAS = 2


def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def tame_heap() -> None:
    """Fix the thresholds for this process; before threads start. Does nothing without glibc."""
    libc = _libc()
    if libc is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def trim_heap() -> None:
    """Give free pages back to the system; milliseconds, so for idle moments."""
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
