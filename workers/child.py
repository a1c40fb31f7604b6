"""The child process of one run: `python -m workers.child`, with its order on stdin.

    worker ──order──► stdin       watched by a thread: closed means stop, and stop takes about a second
    worker ◄──lines── stdout      ours alone; whatever libraries print goes to stderr, the job's log file

A crash, a kill or an exhausted memory here ends the run, never the worker.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import TextIO, cast

from app.access.principal import Principal
from app.errors import AppError, Internal
from app.observability.logs import bound, configure_logs
from app.settings import Settings
from app.storage.objects import ObjectStore
from workers.context import JobContext, Kind, Outcome
from workers.protocol import Done, Failed, Line, Message, Order, Parcel, Progress

NICENESS = 10
"""Serving comes first."""
STOP_GRACE_S = 1.0
"""How long a run may go on after its worker let go, seconds."""


def main() -> int:
    """Run the order to its last line."""
    say = _take_stdout()
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    order = Order.model_validate_json(_read_order())
    threading.Thread(target=_watch_lifeline, name="lifeline", daemon=True).start()
    settings = Settings(_env_file=None, **order.settings)
    configure_logs(settings.model_copy(update={"log_format": "text"}))
    with bound(job_id=order.job_id):
        say(_run(order, settings, say))
    return 0


def _run(order: Order, settings: Settings, say: Callable[[Line], None]) -> Line:
    """Do the job. Every ending is a line."""
    context = JobContext(
        spec=order.spec,
        work_dir=order.work_dir,
        objects=ObjectStore.from_settings(settings),
        principal=Principal(tenant_id=order.tenant_id),
        settings=settings,
        progress=lambda fraction, phase: say(Progress(fraction=min(max(fraction, 0.0), 1.0), phase=phase)),
        message=lambda text: say(Message(text=text)),
    )
    try:
        outcome = _load(order.run)(context)
    except AppError as error:
        traceback.print_exc()
        return Failed(code=error.code, message=error.message, hint=error.hint)
    except Exception as error:  # noqa: BLE001 - the border of the process: whatever it was, the job must say so
        traceback.print_exc()
        message = f"The job met something unforeseen ({type(error).__name__})."
        return Failed(
            code=Internal.code, message=message, hint=f"The trace is in jobs/{order.job_id}/log.txt."
        )
    return _done(outcome)


def _done(outcome: Outcome) -> Done:
    publication = outcome.publish
    if publication is None:
        return Done(result=outcome.result)
    parcel = Parcel(
        name=publication.name,
        manifest=publication.manifest,
        certificate=publication.certificate,
        artifacts=dict(publication.artifacts),
    )
    return Done(result=outcome.result, publish=parcel)


def _load(reference: str) -> Kind:
    module, _, function = reference.partition(":")
    return cast(Kind, getattr(import_module(module), function))


def _take_stdout() -> Callable[[Line], None]:
    """Keep the real stdout for our lines; give everybody else, C libraries included, stderr in its place."""
    ours = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdout = cast(TextIO, sys.stderr)
    lock = threading.Lock()

    def say(line: Line) -> None:
        with lock:
            ours.write(line.to_line())

    return say


def _read_order() -> bytes:
    """The first line of stdin, unbuffered: the lifeline reads on from there."""
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            sys.exit("no order came")
        line += chunk
    return bytes(line)


def _watch_lifeline() -> None:
    """End this process, and what it started, soon after its stdin closes."""
    while os.read(0, 4096):
        pass
    threading.Event().wait(STOP_GRACE_S)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # no library's exit handler or left thread may hold up a run that has said its last word
