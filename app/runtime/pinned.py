"""Page-locked memory: a GPU reads it by itself, where other memory is copied once more on the way.

The buffers that lanes decode into are registered with CUDA's runtime library (`cudaHostRegister`), so that
pictures are decoded straight into what the GPU reads. Where there is no such library, or it refuses, buffers
stay as they are.
"""

import ctypes
from collections.abc import Callable
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

_LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so")
_PORTABLE = 1
"""cudaHostRegisterPortable: for every context of the process, whichever thread made it."""
_log = structlog.get_logger(__name__)


class CudaRuntime(Protocol):
    """The two functions that are used of the library; 0 is success."""

    def cudaHostRegister(self, address: int, size_bytes: int, flags: int, /) -> int:  # noqa: N802 - its name
        """Lock these pages."""

    def cudaHostUnregister(self, address: int, /) -> int:  # noqa: N802 - as above
        """Let them go."""


class PinnedBuffers:
    """Buffers that were locked, until `release`."""

    def __init__(self, find: Callable[[], CudaRuntime | None] | None = None) -> None:
        self._library = (find or _find)()
        self._locked: list[NDArray[np.uint8]] = []

    def lock(self, buffer: NDArray[np.uint8]) -> bool:
        """Lock one buffer's pages; whether it is locked."""
        if self._library is None or not buffer.nbytes:
            return False
        code = self._library.cudaHostRegister(buffer.ctypes.data, buffer.nbytes, _PORTABLE)
        if code:
            _log.warning("buffer not locked", bytes=buffer.nbytes, cuda_error=code)
            return False
        self._locked.append(buffer)
        return True

    def release(self) -> None:
        """Unlock them all, before their memory goes back. May be called twice."""
        while self._locked:
            assert self._library is not None
            self._library.cudaHostUnregister(self._locked.pop().ctypes.data)


def _find() -> CudaRuntime | None:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.cudaHostRegister.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]
        library.cudaHostUnregister.argtypes = [ctypes.c_void_p]
        return library
    return None
