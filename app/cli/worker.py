"""`athanor worker`: one process, one job at a time. `app` cannot import it: it becomes it."""

import os
import sys

import typer

from app.cli.configuration import load_settings

cli = typer.Typer(add_completion=False)


@cli.command()
def worker() -> None:
    """Run queued jobs until stopped. Start as many as there are cores or devices for, on any machine."""
    load_settings()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workers"])  # noqa: S606 - this Python
