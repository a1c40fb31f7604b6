"""How long a run will still take, by how quickly its progress has grown of late."""

from collections import deque

WINDOW_S = 60.0
"""Progress older than this says nothing about the pace any more, seconds."""
LEAST_S = 2.0
"""A pace is known after this long, seconds."""


class Pace:
    """Of one run. Phases of one job may differ in pace: the window forgets."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def remaining_s(self, fraction: float, now_s: float) -> float | None:
        """Take note of the progress; seconds that are left, or None while that cannot be said."""
        while len(self._seen) > 1 and now_s - self._seen[1][0] > WINDOW_S:
            self._seen.popleft()
        if self._seen and fraction < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now_s, fraction))
        then_s, before = self._seen[0]
        if now_s - then_s < LEAST_S or fraction <= before:
            return None
        return (1.0 - fraction) * (now_s - then_s) / (fraction - before)
