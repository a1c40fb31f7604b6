"""Watches a job: a live bar with its loss on a terminal, a line for each event elsewhere."""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from app.cli.job_text import log_line
from app.cli.tables import console
from app.client.errors import JobFailed

if TYPE_CHECKING:
    from app.client.client import Client

Json = dict[str, Any]
_SHOWN = ("train_loss", "loss", "valid_loss", "valid_accuracy", "valid_miou", "valid_psnr")
"""Metrics beside the bar, in this order."""


def watch_job(client: "Client", job_id: str) -> Json:
    """The job as it ended, shown on standard error as it went. Raises JobFailed."""
    job = client.job(job_id)
    (_with_bar if sys.stderr.isatty() else _with_lines)(job, _told(client, job_id))
    job = client.job(job_id)
    if job["status"] != "succeeded":
        raise JobFailed(job)
    return client.fine_tuning_job(job_id) if job["kind"] in ("fine_tune", "preflight") else job


def _told(client: "Client", job_id: str) -> Iterator[tuple[str, Json]]:
    for event in client.stream_job(job_id):
        if event is not None:
            yield event.name, orjson.loads(event.data)


def _with_lines(_: Json, told: Iterator[tuple[str, Json]]) -> None:
    for name, facts in told:
        if name != "status":
            sys.stderr.write(f"{log_line(facts)}\n")
            sys.stderr.flush()


def _with_bar(job: Json, told: Iterator[tuple[str, Json]]) -> None:
    from rich.progress import (  # noqa: PLC0415 - only a terminal needs it
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}", markup=False),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bar = progress.add_task(job["status"], total=1.0, completed=job["progress"], metrics="")
        show(told, lambda **changes: progress.update(bar, **changes), progress.console.print)


def show(told: Iterator[tuple[str, Json]], update: Callable[..., None], say: Callable[[str], None]) -> None:
    """Move a bar as the events tell; messages and moves are said above it."""
    seen: Json = {}
    for name, facts in told:
        if name == "status":
            title = facts["phase"] if facts["status"] == "running" and facts["phase"] else facts["status"]
            update(description=title, completed=facts["progress"])
        elif name == "metrics":
            seen |= facts["data"]
            update(metrics=metrics_text(seen))
        elif name != "progress":
            say(log_line(facts))


def metrics_text(values: Json) -> str:
    """`step 120 · train_loss 0.41 · valid_accuracy 0.98`"""
    shown = [f"step {values['step']}"] if "step" in values else []
    shown += [f"{name} {values[name]:.4g}" for name in _SHOWN if isinstance(values.get(name), int | float)]
    return " · ".join(shown)
