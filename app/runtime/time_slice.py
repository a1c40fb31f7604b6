"""Longer time slices for lanes, so that the event loop's bursts do not cut every run into pieces.

A lane computes for tens of milliseconds, the event loop for a fraction of one. With equal slices the
scheduler changes between them about once per request, and each change costs the lane its caches. From
Linux 6.12 on a thread may say how long a slice it wants (`sched_setattr(2)`, `sched_runtime`): long slices
come later but whole. Shares of the processor stay equal. Measured: docs/costs.md.
"""

import ctypes
import os
import platform
import struct
import sys

_SLICE_NS = 50_000_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SIZE = 56


def ask_for_long_slices() -> bool:
    """Ask for the calling thread. False where the system has no such call; older kernels ignore it."""
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = struct.pack(
        "=IIQiIQQQII", _SIZE, os.SCHED_OTHER, 0, nice, 0, _SLICE_NS, 0, 0, 0, 0
    )  # size, policy, flags, nice, priority, runtime, deadline, period, utilisation bounds
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
