"""The worker's end of a child process: start it, hear its lines, be sure that it is gone."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType

from pydantic import ValidationError

from app.observability.logs import get_logger
from workers.protocol import LINE, Line, Order, Word

MAX_LINE_BYTES = 16 * 2**20
LINGER_S = 5.0
"""How long a child may take to exit after its last line, seconds."""

_log = get_logger(__name__)


class Woken(Exception):
    """Somebody called `wake()`."""


class Exited(Exception):
    """The child has closed its stdout: it said its last word, or died."""


class ChildProcess:
    """One run. Use as a context manager: after the block neither it nor anything it started is alive."""

    def __init__(self, order: Order, *, log_path: Path, threads: int) -> None:
        log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        count = str(threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                process_group=0,  # its own, so that what it starts can be ended with it
                env={**os.environ, **dict.fromkeys(names, count), "PYTHONUNBUFFERED": "1"},
            )
        self._heard: SimpleQueue[Line | Woken | None] = SimpleQueue()
        self.tell(order)
        threading.Thread(target=self._listen, name="child-listener", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group's."""
        return self._process.pid

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(within_s=0)

    def next_line(self, *, timeout_s: float | None) -> Line | None:
        """The child's next line; None when the time, if any was given, is over. Raises Exited and Woken."""
        try:
            line = self._heard.get(timeout=timeout_s)
        except Empty:
            return None
        if line is None:
            raise Exited
        if isinstance(line, Woken):
            raise line
        return line

    def wake(self) -> None:
        """Have whoever waits in `next_line` return. Safe in a signal handler."""
        self._heard.put(Woken())

    def tell(self, word: Order | Word) -> None:
        """Say something to it. Nothing happens if it has gone; its exit code says so."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(word.to_line())
                self._process.stdin.flush()

    def let_go(self) -> None:
        """Close the lifeline: the child ends itself."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has already gone
                self._process.stdin.close()

    def end(self, *, within_s: float = LINGER_S) -> int:
        """Wait that long for it to exit, then kill its whole process group. Returns the exit code
        (negative: the signal that ended it).
        """
        self.let_go()
        if self._process.returncode is None:
            deadline_s = time.monotonic() + within_s
            # WNOWAIT leaves the dead child unreaped, so that its group's number cannot be another's yet.
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            while os.waitid(os.P_PID, self.pid, flags) is None and time.monotonic() < deadline_s:
                time.sleep(0.02)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        return self._process.returncode

    def _listen(self) -> None:
        """Turn stdout into lines, until it closes."""
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            while data := stdout.readline(MAX_LINE_BYTES):
                try:
                    self._heard.put(LINE.validate_json(data))
                except ValidationError as error:
                    _log.warning("child_line_unreadable", pid=self.pid, error=str(error), line=data[:200])
        self._heard.put(None)
