"""How much memory there is, and how much this process has used."""

import re
from contextlib import suppress
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_STATUS = Path("/proc/self/status")


def total_bytes() -> int:
    """What this process could take if nothing else ran: the machine's memory, or its container's limit."""
    total = int(psutil.virtual_memory().total)
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        total = min(total, int((_CGROUP / "memory.max").read_text()))
    return total


def available_bytes() -> int:
    """What this process may still take: of the machine's memory, and of its container's."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        cached = re.search(r"^inactive_file (\d+)$", (_CGROUP / "memory.stat").read_text(), re.MULTILINE)
        free = min(free, limit - used + (int(cached[1]) if cached else 0))
    return max(0, free)


def resident_bytes() -> int:
    """What this process holds now."""
    return int(psutil.Process().memory_info().rss)


def reset_peak() -> None:
    """Forget the highest use so far. Where the system cannot, peaks are those of the process's whole life."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Highest use since `reset_peak`."""
    with suppress(OSError):
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024
    return resident_bytes()
