"""Gateways without the seconds that each would spend on imports.

`python -m tests.forked_gateway` imports what they import, but for ONNX Runtime, which starts threads, and
forks for every line on its stdin. Each is a process of its own all the same, with its own environment and
log. That the imports work is shown by those of `athanor serve`, which start afresh.
"""

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import psutil

import app
from tests.forked import settle


class GatewayForge:
    """The process that forks, as those who need a gateway see it. Starts with the first one, and ends with
    its stdin, which is its starter's to close."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def start(self, environment: dict[str, str], *, log: Path) -> psutil.Process:
        """A gateway that has just been born; all it says goes to `log`."""
        with self._lock:
            process = self._process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"environment": environment, "log": str(log)}) + "\n")
            process.stdin.flush()
            return psutil.Process(int(process.stdout.readline()))

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.forked_gateway"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )


class _Absent:
    """Finds nothing where a module would start threads, which do not outlive a fork."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "onnxruntime":
            raise ImportError(name)
        return None


def serve() -> None:
    """Fork for every line; answer with the process id."""
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    for module in pkgutil.walk_packages(app.__path__, "app.", onerror=lambda name: None):
        with suppress(ImportError):  # it needs ONNX Runtime: then what it imports before is here at least
            importlib.import_module(module.name)
    sys.meta_path.remove(absent)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: none becomes a zombie
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            become(json.loads(line))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def become(order: dict[str, object]) -> NoReturn:
    """Be a gateway, from its first instruction to its exit."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    environment = order["environment"]
    assert isinstance(environment, dict)
    log = Path(str(order["log"]))
    settle(environment, out=log, err=log)
    sys.argv = ["app.gateway"]
    code = 1
    try:
        code = importlib.import_module("app.gateway").main()
    except BaseException:  # noqa: BLE001 - the border of the process
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
