"""The child process of one run, with its order on stdin. The nursery forks it.

    worker ──order, words──► stdin     heard by a thread (ear.py); closed means die, at once
    worker ◄──lines───────── stdout    ours alone; whatever libraries print goes to stderr, the job's log file

A crash, a kill or an exhausted memory here ends the run, never the worker.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TextIO, cast

from app.access.principal import Principal
from app.errors import AppError, DiskFull, Internal
from app.observability.logs import bound, configure_logs
from app.settings import Settings
from app.storage.disk import NO_ROOM
from app.storage.objects import ObjectStore
from workers.context import DatasetParcel, Interrupted, JobContext, Json, Kind, Outcome, ResumePoint
from workers.ear import Ear
from workers.protocol import (
    Checkpoint,
    DatasetMade,
    Done,
    Facts,
    Failed,
    KeptFile,
    Left,
    Line,
    Message,
    Metrics,
    Order,
    Parcel,
    Progress,
    ResumeFrom,
)
from workers.waiting import Waiting


def main() -> int:
    """Run the order to its last line."""
    say = _take_stdout()
    ear = Ear()
    order = Order.model_validate_json(ear.order())
    ear.start()
    settings = Settings(_env_file=None, **order.settings)
    configure_logs(settings.model_copy(update={"log_format": "text"}))
    with bound(job_id=order.job_id), Waiting():
        say(_run(order, _context(order, settings, say, ear)))
    return 0


def _context(order: Order, settings: Settings, say: Callable[[Line], None], ear: Ear) -> JobContext:
    def publish_dataset(parcel: DatasetParcel) -> str:
        made = DatasetMade(
            name=parcel.name,
            task=parcel.task,
            pack=parcel.pack,
            source=parcel.source,
            report=parcel.report,
        )
        say(made)
        return ear.wait_for_dataset()

    def checkpoint(step: int, path: Path, metrics: Json) -> None:
        say(Checkpoint(step=step, path=path.resolve(strict=True), metrics=metrics))
        ear.wait_until_kept()

    return JobContext(
        spec=order.spec,
        work_dir=order.work_dir,
        objects=ObjectStore.from_settings(settings),
        principal=Principal(tenant_id=order.tenant_id),
        settings=settings,
        progress=lambda fraction, phase: say(Progress(fraction=min(max(fraction, 0.0), 1.0), phase=phase)),
        message=lambda text: say(Message(text=text)),
        job_id=order.job_id,
        attempt=order.attempt,
        resume=_resume_point(order.resume),
        checkpoint=checkpoint,
        metrics=lambda step, values: say(Metrics(step=step, values=dict(values))),
        facts=lambda values: say(Facts(values=values)),
        stop_asked=ear.stop_asked,
        publish_dataset=publish_dataset,
    )


def _resume_point(resume: ResumeFrom | None) -> ResumePoint | None:
    if resume is None:
        return None
    return ResumePoint(step=resume.step, path=resume.path, metrics=resume.metrics)


def _run(order: Order, context: JobContext) -> Line:
    """Do the job. Every ending is a line."""
    try:
        outcome = _load(order.run)(context)
    except Interrupted:
        return Left()
    except AppError as error:
        traceback.print_exc()
        return Failed.of(error)
    except Exception as error:  # noqa: BLE001 - the border of the process: whatever it was, the job must say so
        traceback.print_exc()
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return Failed.of(DiskFull("The disk was full before the job was done."))
        message = f"The job met something unforeseen ({type(error).__name__})."
        return Failed(
            code=Internal.code, message=message, hint=f"The trace is in jobs/{order.job_id}/log.txt."
        )
    return _done(outcome)


def _done(outcome: Outcome) -> Done:
    publication, handout = outcome.publish, outcome.file
    parcel = file = None
    if publication is not None:
        parcel = Parcel(
            name=publication.name,
            manifest=publication.manifest,
            certificate=publication.certificate,
            artifacts=dict(publication.artifacts),
            checkpoint_step=publication.checkpoint_step,
        )
    if handout is not None:
        file = KeptFile(path=handout.path, filename=handout.filename, purpose=handout.purpose)
    return Done(result=outcome.result, publish=parcel, file=file)


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
