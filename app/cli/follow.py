"""Watch a job until it ends: a live bar on a terminal, one line a phase elsewhere."""

import sys
from typing import Any

from app.cli.tables import console
from app.client.client import Client

Json = dict[str, Any]


def follow(client: Client, job: Json) -> Json:
    """The job as it ended, its progress shown on standard error. Raises JobFailed.

    Ctrl-C stops watching, not the job.
    """
    try:
        return _with_bar(client, job) if sys.stderr.isatty() else _with_lines(client, job)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nStopped watching; {job['id']} goes on: GET /v1/jobs/{job['id']}.\n")
        raise


def _with_bar(client: Client, job: Json) -> Json:
    from rich.progress import (  # noqa: PLC0415 - only a terminal needs it
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    title = TextColumn("{task.description}", markup=False)
    columns = (title, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bar = progress.add_task(_title(job), total=1.0)
        return client.wait(
            job["id"],
            lambda now: progress.update(bar, description=_title(now), completed=now["progress"]),
        )


def _with_lines(client: Client, job: Json) -> Json:
    said: list[str] = []

    def say(now: Json) -> None:
        title = _title(now)
        if title not in said[-1:]:
            said.append(title)
            sys.stderr.write(f"{title} ({now['progress']:.0%})\n")
            sys.stderr.flush()

    return client.wait(job["id"], say)


def _title(job: Json) -> str:
    name = job["spec"].get("name") or job["kind"]
    return f"{name}: {job['phase'] if job['status'] == 'running' and job['phase'] else job['status']}"
