"""A process that has imported what runs need, and forks for each: `python -m workers.nursery SOCKET SECONDS`.

    worker ──what to import, three descriptors and a pipe──► nursery ──fork, fork──► a run (child.py)
           ◄──────────────its process id────────────────────────┘

Importing torch, timm and peft would take seconds of every run; a fork takes milliseconds. A run is the
worker's own child all the same: between the two forks its parent ends, and the worker, a subreaper, adopts it
(prctl(2)).

The nursery does nothing but import, so that it has one thread and holds no lock when it forks. It ends with
its worker, which holds the other end of its socket, and when nothing has run for a while, for what it has
imported takes memory.
"""

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from app.supervisor.lifeline import adopt_orphans
from workers.child import main

REST_S = 300.0
"""A nursery that nobody has asked for anything this long ends, seconds."""
NICENESS = 10
"""Of runs: serving comes first."""
_COLLECT_ALL_EVERY = 100
"""Middle collections between two of everything; 10 by default. Importing torch, timm and peft makes a million
objects that stay, and an eighth of that time went into looking through all of them seven times."""
_MAX_MESSAGE_BYTES = 65536
_DESCRIPTORS = 4


class Nursery:
    """The worker's end. Starts the process when a run is wanted and there is none."""

    def __init__(self, *, threads: int, rest_s: float = REST_S) -> None:
        """`threads`: of every run's numeric libraries. `rest_s`: how long it waits to be asked, seconds."""
        self._rest_s = rest_s
        count = str(threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
        self._environment = {**dict.fromkeys(names, count), "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def fork(self, imports: Sequence[str], descriptors: Sequence[int]) -> None:
        """Ask for a run whose stdin, stdout and stderr are the first three descriptors; its process id comes
        out of the fourth, or nothing, when the nursery died before it had forked. Returns at once.
        """
        message = [json.dumps(list(imports)).encode()]
        with self._lock:
            if self._socket is None:
                self._start()
            assert self._socket is not None
            try:
                socket.send_fds(self._socket, message, list(descriptors))
            except OSError:  # it rests, or was killed
                self._end()
                self._start()
                socket.send_fds(self._socket, message, list(descriptors))

    def end(self) -> None:
        """Kill the process. What it has forked goes on; what was only asked for never begins."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        adopt_orphans()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this Python, our module
                [sys.executable, "-P", "-m", "workers.nursery", str(theirs.fileno()), str(self._rest_s)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # a Ctrl-C on the terminal is the worker's to hear
                env={**os.environ, **self._environment},
            )

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def serve(asked: socket.socket, *, rest_s: float) -> None:
    """Fork for every message, until there will be none."""
    asked.settimeout(rest_s)
    done: set[str] = set()
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(asked, _MAX_MESSAGE_BYTES, _DESCRIPTORS)
        except TimeoutError:
            asked.shutdown(socket.SHUT_RD)  # from here on the worker starts another one
            asked.settimeout(0)
            continue
        except BlockingIOError:
            return
        if not message:
            return
        for reference in json.loads(message):
            if reference not in done:
                _bring(reference)
                done.add(reference)
        _fork(asked, descriptors)


def _bring(reference: str) -> None:
    """Import a module, or call what imports several: `module` or `module:function`."""
    module, _, function = reference.partition(":")
    try:
        imported = import_module(module)
        if function:
            getattr(imported, function)()
    except Exception:  # noqa: BLE001 - the run imports it as well, and says in its own log what is wrong
        traceback.print_exc()


def _fork(asked: socket.socket, descriptors: Sequence[int]) -> None:
    gc.freeze()  # what is here stays: looking through it would copy its pages into every run
    between = os.fork()
    if between == 0:
        born = os.fork()
        if born == 0:
            asked.close()
            _run(descriptors)
        _lead_group(born)
        os.write(descriptors[3], str(born).encode())
        os._exit(0)
    os.waitpid(between, 0)
    for descriptor in descriptors:
        os.close(descriptor)


def _run(descriptors: Sequence[int]) -> NoReturn:
    """Be a run, from its first instruction to its exit."""
    code = 1
    try:
        _lead_group(0)
        for number, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        _rename("workers.child")
        code = main()
    except BaseException:  # noqa: BLE001 - the border of the process
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)  # no library's exit handler or left thread may hold up a run that has said its last word


def _lead_group(process: int) -> None:
    """Its own group, so that what it starts can be ended with it. Parent and child both see to it: whoever is
    first, it has one before anybody knows it."""
    with suppress(OSError):  # it has gone already
        os.setpgid(process, process)


def _rename(module: str) -> None:
    """Have `ps` show a run as what it is, in the memory of this process's command line (proc(5))."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    words = ctypes.string_at(start, end - start).split(b"\0")
    words[words.index(b"workers.nursery") :] = [module.encode(), b""]
    ctypes.memmove(start, b"\0".join(words).ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(*gc.get_threshold()[:2], _COLLECT_ALL_EVERY)
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    with socket.socket(fileno=int(sys.argv[1])) as end:
        serve(end, rest_s=float(sys.argv[2]))
