"""The child's ear: what the worker says after the order, heard in a thread of its own.

Each word is acted on when it comes, whatever the run is doing: `stop` sets a flag that the run looks at, an
answer wakes the run that waits for it, and the end of the pipe ends the process.
"""

import os
import signal
import threading
from queue import SimpleQueue

from workers.protocol import WORD, Kept, Stop


class Ear:
    """Hears descriptor 0: the order first, the rest from a thread."""

    def __init__(self) -> None:
        self._heard = b""
        self._stop = threading.Event()
        self._kept: SimpleQueue[Kept] = SimpleQueue()
        self._references: SimpleQueue[str] = SimpleQueue()

    def order(self) -> bytes:
        """The first line. Raises EOFError when none comes."""
        while b"\n" not in self._heard:
            chunk = os.read(0, 65536)
            if not chunk:
                raise EOFError("no order came")
            self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def start(self) -> None:
        """Listen, from here on, until the pipe closes."""
        threading.Thread(target=self._listen, name="ear", daemon=True).start()

    def stop_asked(self) -> bool:
        """The worker wants the run to checkpoint and leave."""
        return self._stop.is_set()

    def wait_until_kept(self) -> None:
        """The worker has stored the checkpoint. If it never says so it has let go or died, and this process
        ends; so it is with every answer."""
        self._kept.get()

    def wait_for_dataset(self) -> str:
        """The reference of the data set that was published."""
        return self._references.get()

    def _listen(self) -> None:
        try:
            while chunk := os.read(0, 65536):
                *lines, self._heard = (self._heard + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
        finally:
            _end()

    def _take(self, line: bytes) -> None:
        word = WORD.validate_json(line)
        if isinstance(word, Stop):
            self._stop.set()
        elif isinstance(word, Kept):
            self._kept.put(word)
        else:
            self._references.put(word.reference)


def _end() -> None:
    """End this process, and what it started: whatever it still did, nobody would keep."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
