"""The child's ear: what the worker says after the order, heard in a thread of its own.

Each word is acted on when it comes, whatever the run is doing: `stop` sets a flag that the run looks at, an
answer wakes the run that waits for it, and the end of the pipe ends the process within about a second.
"""

import os
import signal
import threading
from queue import SimpleQueue

from workers.protocol import WORD, Stop

STOP_GRACE_S = 1.0
"""How long a run may go on after its worker let go, seconds."""


class Ear:
    """Hears descriptor 0: the order first, the rest from a thread."""

    def __init__(self) -> None:
        self._heard = b""
        self._stop = threading.Event()
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

    def wait_for_dataset(self) -> str:
        """The reference that the worker answers with. If it never does, it has let go or died, and this
        process ends."""
        return self._references.get()

    def _listen(self) -> None:
        try:
            while chunk := os.read(0, 65536):
                *lines, self._heard = (self._heard + chunk).split(b"\n")
                for line in lines:
                    self._take(line)
        finally:
            _end_soon()

    def _take(self, line: bytes) -> None:
        word = WORD.validate_json(line)
        if isinstance(word, Stop):
            self._stop.set()
        else:
            self._references.put(word.reference)


def _end_soon() -> None:
    """End this process, and what it started."""
    threading.Event().wait(STOP_GRACE_S)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
