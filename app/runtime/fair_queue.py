"""Who is next: members wait in a line per caller, and next comes whose caller has had least of the engine.

Start-time fair queuing (Goyal, Vin and Cheng 1996, https://doi.org/10.1145/248157.248171): what a caller has
had is counted in measured seconds of the engine; who comes, or comes back, begins where those are who wait,
so that time not used is not saved up. With one caller it is a plain queue.
"""

from collections import deque
from collections.abc import Sequence, Set
from typing import Generic, Protocol, TypeVar

_REMEMBERED = 256
"""Callers without a waiting member of whom is known what they had."""


class Waiter(Protocol):
    """What the queue must know of a member."""

    caller: str


Item = TypeVar("Item", bound=Waiter)


class FairQueue(Generic[Item]):
    """Not thread-safe: its batcher has a lock."""

    __slots__ = ("_count", "_had_s", "_lines", "_now_s")

    def __init__(self) -> None:
        self._lines: dict[str, deque[Item]] = {}
        """By caller; no line is empty."""
        self._had_s: dict[str, float] = {}
        self._now_s = 0.0
        """What the caller who was served last had had before."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def turns(self, caller: str) -> int:
        """How many members are served until one more of this caller's is, if callers take turns and all have
        as many as it has."""
        line = self._lines.get(caller)
        return len(self._lines) + 1 if line is None else (len(line) + 1) * len(self._lines)

    def callers_with(self, callers: Set[str]) -> int:
        """How many would wait if these did."""
        return len(self._lines.keys() | callers)

    def waiting(self, caller: str) -> int:
        """How many members of one caller wait."""
        line = self._lines.get(caller)
        return 0 if line is None else len(line)

    def append(self, item: Item) -> None:
        """Put a member behind those of its caller."""
        self._line(item.caller).append(item)
        self._count += 1

    def put_back(self, items: Sequence[Item]) -> None:
        """Give back what `pop` gave and was not used, in the same order: it is first again."""
        for item in reversed(items):
            self._line(item.caller).appendleft(item)
            self._count += 1

    def _line(self, caller: str) -> deque[Item]:
        line = self._lines.get(caller)
        if line is None:
            line = self._lines[caller] = deque()
            self._had_s[caller] = max(self._had_s.get(caller, 0.0), self._now_s)
        return line

    def pop(self) -> Item:
        """The next member. Raises IndexError when nobody waits."""
        if len(self._lines) == 1:
            ((caller, line),) = self._lines.items()
        elif self._lines:
            caller = min(self._lines, key=self._had_s.__getitem__)
            line = self._lines[caller]
        else:
            raise IndexError("nobody waits")
        self._now_s = self._had_s[caller]
        item = line.popleft()
        self._count -= 1
        if not line:
            self._close(caller)
        return item

    def charge(self, caller: str, seconds: float) -> None:
        """A caller's member gets so much of the engine."""
        self._had_s[caller] = self._had_s.get(caller, self._now_s) + seconds

    def remove(self, item: Item) -> None:
        """Take a member out. Raises ValueError when it does not wait."""
        line = self._lines.get(item.caller)
        if line is None:
            raise ValueError("it does not wait")
        line.remove(item)
        self._count -= 1
        if not line:
            self._close(item.caller)

    def _close(self, caller: str) -> None:
        del self._lines[caller]
        if not self._lines:  # nobody had to wait for anybody
            self._had_s.clear()
            self._now_s = 0.0
        elif len(self._had_s) > len(self._lines) + _REMEMBERED:
            # Who had no more than those who are served now would begin with them anyway.
            kept = self._lines.keys()
            self._had_s = {
                name: had_s for name, had_s in self._had_s.items() if name in kept or had_s > self._now_s
            }
