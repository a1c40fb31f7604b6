"""The worker's end of a child process: start it, hear its lines, be sure that it is gone."""

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType

from pydantic import ValidationError

from app.observability.logs import get_logger
from workers.nursery import Nursery
from workers.protocol import LINE, Line, Order, Word

MAX_LINE_BYTES = 16 * 2**20
LINGER_S = 5.0
"""How long a child may take to exit after its last line, seconds."""
_STDIN_BYTES = 2**20
"""The pipe holds an order until there is somebody to read it, so that telling never blocks."""

_log = get_logger(__name__)


class Woken(Exception):
    """Somebody called `wake()`."""


class Exited(Exception):
    """The child has closed its stdout: it said its last word, or died."""


class ChildProcess:
    """One run. Use as a context manager: after the block neither it nor anything it started is alive."""

    def __init__(self, order: Order, *, log_path: Path, nursery: Nursery, imports: Sequence[str]) -> None:
        """`imports`: what the nursery shall have imported before it forks, `module` or `module:function`."""
        self._nursery = nursery
        self._code: int | None = None
        self._heard: SimpleQueue[Line | Woken | None] = SimpleQueue()
        self._pid: int | None = None
        self._is_born = threading.Event()
        self._stdin, stdout, birth = self._ask(imports, log_path)
        self.tell(order)
        threading.Thread(
            target=self._listen, args=(stdout, birth), name="child-listener", daemon=True
        ).start()

    def _ask(self, imports: Sequence[str], log_path: Path) -> tuple[int, int, int]:
        """Have it forked; the worker's ends of stdin, stdout and the pipe that its id comes through."""
        log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        their_stdin, stdin = os.pipe()
        fcntl.fcntl(stdin, fcntl.F_SETPIPE_SZ, _STDIN_BYTES)
        stdout, their_stdout = os.pipe()
        birth, their_birth = os.pipe()
        theirs = (their_stdin, their_stdout, log, their_birth)
        try:
            self._nursery.fork(imports, theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return stdin, stdout, birth

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
        line = memoryview(word.to_line())
        with contextlib.suppress(BrokenPipeError):
            while line and self._stdin >= 0:
                line = line[os.write(self._stdin, line) :]

    def let_go(self) -> None:
        """Close the lifeline: the child ends itself."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def end(self, *, within_s: float = LINGER_S) -> int:
        """Wait that long for it to exit, then kill its whole process group. Returns the exit code
        (negative: the signal that ended it).
        """
        self.let_go()
        if self._code is None:
            deadline_s = time.monotonic() + within_s
            if not self._is_born.wait(within_s):
                self._nursery.end()  # it still imports; what it has forked all the same says so now
                self._is_born.wait()
            self._code = -signal.SIGKILL if self._pid is None else self._bury(deadline_s)
        return self._code

    def _bury(self, deadline_s: float) -> int:
        assert self._pid is not None
        # WNOWAIT leaves the dead child unreaped, so that its group's number cannot be another's yet.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while os.waitid(os.P_PID, self._pid, flags) is None and time.monotonic() < deadline_s:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        with contextlib.suppress(ChildProcessError):  # with its death, what it started became the worker's
            while os.waitpid(-self._pid, os.WNOHANG)[0]:
                pass
        return os.waitstatus_to_exitcode(status)

    def _listen(self, stdout: int, birth: int) -> None:
        """Hear of its birth, then turn stdout into lines, until it closes."""
        with os.fdopen(birth, "rb") as pipe:
            said = pipe.read()
        self._pid = int(said) if said else None
        self._is_born.set()
        with os.fdopen(stdout, "rb") as lines:
            while data := lines.readline(MAX_LINE_BYTES):
                try:
                    self._heard.put(LINE.validate_json(data))
                except ValidationError as error:
                    _log.warning("child_line_unreadable", pid=self._pid, error=str(error), line=data[:200])
        self._heard.put(None)
