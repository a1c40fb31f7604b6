"""Commands of `athanor` without the second that each would spend on imports.

`python -m tests.app.cli.forked` imports what they import and forks for every line on its stdin. Each is a
process of its own all the same, with its own environment, folder, output and exit code. That the imports work
is shown by those that start afresh: `Desk.start`, and the commands of the documentation.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from app.cli import VERBS, run
from tests.forked import settle

PATIENCE_S = 120
IMPORTED_LATER = (
    "app.cli.configuration",
    "app.cli.follow",
    "app.cli.job_text",
    "app.cli.job_watch",
    "app.cli.request",
    "app.client.client",
    "app.client.sending",
    "app.db.migrate",
    "app.doctor",
    "app.registry.tuning",
    "app.registry.verification",
    "app.settings",
    "models.evaluate.quantities",
    "models.evaluate.report",
    "rich.progress",
    "rich.table",
)
"""What commands import when they run."""


@dataclass(frozen=True)
class Said:
    """What one command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


class Forge:
    """The process that forks, as those who need a command see it. Starts with the first one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(self, arguments: list[str], *, folder: Path, environment: dict[str, str], output: Path) -> Said:
        """One command to its end; what it says goes through two files beside `output`."""
        out, err = output.with_suffix(".out"), output.with_suffix(".err")
        for path in (out, err):
            path.unlink(missing_ok=True)
        order = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "out": str(out),
            "err": str(err),
        }
        with self._lock:
            process = self._process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
        return Said(code, out.read_text(), err.read_text())

    def end(self) -> None:
        """It ends with its stdin."""
        if self._process is not None:
            self._process.communicate()

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.app.cli.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def serve() -> None:
    """Fork for every line; answer with the exit code, negative for the signal that ended it."""
    for module in (*(f"app.cli.{verb}" for verb in VERBS.values()), *IMPORTED_LATER):
        import_module(module)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            become(json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def become(order: dict[str, object]) -> NoReturn:
    """Be one command, from its first instruction to its exit."""
    signal.alarm(PATIENCE_S)
    os.chdir(str(order["folder"]))
    environment = order["environment"]
    assert isinstance(environment, dict)
    settle(environment, out=Path(str(order["out"])), err=Path(str(order["err"])))
    arguments = order["arguments"]
    assert isinstance(arguments, list)
    code = 1
    try:
        code = run(arguments)
    except Exception:  # noqa: BLE001 - the border of the process, as the interpreter itself is one
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
