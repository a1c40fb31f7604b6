"""No process outlives the one that started it, not even when that one is killed."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, or leave now if it has.

    Linux only; elsewhere a killed supervisor leaves its processes to be stopped by hand.
    """
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent_pid:  # it died before the line above
        sys.exit("the process that started this one has gone")


def adopt_orphans() -> None:
    """Have this process become the parent of those of its descendants whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
