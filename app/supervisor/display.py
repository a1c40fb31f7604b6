"""What `athanor serve` shows: lines and a progress bar on a terminal, JSON log lines elsewhere."""

import contextlib
import sys
from typing import Protocol

from app.settings import Settings
from app.supervisor.processes import Supervised


class Display(Protocol):
    """What the supervisor has to tell."""

    def starting(self, url: str, data_dir: str) -> None:
        """The address is bound."""

    def adopt(self, process: Supervised) -> None:
        """Arrange where this process's logs go, before it starts (the next time)."""

    def died(self, name: str, code: int) -> None:
        """A process ended by itself; it will be started again."""

    def progress(self, job: str, phase: str, fraction: float) -> None:
        """How far an import is, 0..1."""

    def ended(self, job: str, status: str, error: str | None) -> None:
        """An import ended."""

    def ready(self, url: str, seconds: float) -> None:
        """The service answers."""

    def not_ready(self, reason: str) -> None:
        """It answers, but not for the default model, and nothing that is under way will change that."""

    def stopping(self) -> None:
        """A signal came."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def make_display(settings: Settings) -> Display:
    """The display for where stderr goes."""
    if settings.logs_json(sys.stderr.isatty()):
        return LogDisplay(settings)
    return TerminalDisplay()


class LogDisplay:
    """One log line per event; the processes write their own beside it."""

    def __init__(self, settings: Settings) -> None:
        from app.observability.logs import configure_logs, get_logger  # noqa: PLC0415 - 0.2 s, after the spawn

        configure_logs(settings)
        self._log = get_logger("app.supervisor")
        self._phases: dict[str, str] = {}

    def starting(self, url: str, data_dir: str) -> None:
        self._log.info("starting", url=url, data_dir=data_dir)

    def adopt(self, process: Supervised) -> None:
        pass

    def died(self, name: str, code: int) -> None:
        self._log.error("process_died", process=name, code=code)

    def progress(self, job: str, phase: str, fraction: float) -> None:
        if self._phases.get(job) != phase:
            self._phases[job] = phase
            self._log.info("importing", job=job, phase=phase, progress=round(fraction, 3))

    def ended(self, job: str, status: str, error: str | None) -> None:
        self._log.info("import_ended", job=job, status=status, error=error)

    def ready(self, url: str, seconds: float) -> None:
        self._log.info("ready", url=url, seconds=round(seconds, 2))

    def not_ready(self, reason: str) -> None:
        self._log.warning("not_ready", reason=reason)

    def stopping(self) -> None:
        self._log.info("stopping")

    def close(self) -> None:
        pass


class TerminalDisplay:
    """For people. Logs of the processes pass through here, so that they do not tear the progress bar.

    Writing to a terminal that has been closed is no reason to fail: the signal for it is on its way.
    """

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - after the spawn
        from rich.progress import BarColumn, Progress, TaskID, TextColumn  # noqa: PLC0415 - as above

        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("  importing {task.description}"), BarColumn(bar_width=30))
        self._bar = Progress(
            *columns, TextColumn("{task.percentage:>3.0f} % {task.fields[phase]}"), console=self._console,
            transient=True,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def starting(self, url: str, data_dir: str) -> None:
        self._print(f"[bold]Athanor[/] on [link={url}]{url}[/]  (docs: {url}/docs)")
        self._print(f"[dim]data in {data_dir}; Ctrl-C stops[/]")

    def adopt(self, process: Supervised) -> None:
        process.environment["ATHANOR_LOG_FORMAT"] = "text"
        process.on_log = self._relay

    def died(self, name: str, code: int) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"left with exit code {code}"
        self._print(f"[red]The {name} {how}; starting it again.[/]")

    def progress(self, job: str, phase: str, fraction: float) -> None:
        with contextlib.suppress(OSError):
            if job not in self._tasks:
                self._tasks[job] = self._bar.add_task(job, total=1.0, phase=phase)
                self._bar.start()
            self._bar.update(self._tasks[job], completed=fraction, phase=phase)

    def ended(self, job: str, status: str, error: str | None) -> None:
        with contextlib.suppress(OSError):
            if job in self._tasks:
                self._bar.remove_task(self._tasks.pop(job))
            if not self._tasks:
                self._bar.stop()
        colour = "green" if status == "succeeded" else "red"
        self._print(f"  import of {job}: [{colour}]{status}[/]{f' ({error})' if error else ''}")

    def ready(self, url: str, seconds: float) -> None:
        self._print(f"[green]ready[/] after {seconds:.1f} s: POST an image to {url}/v1/classification")

    def not_ready(self, reason: str) -> None:
        self._print(f"[yellow]not ready[/]: {reason}")

    def stopping(self) -> None:
        self._print("[dim]stopping[/]")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._bar.stop()

    def _relay(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(line, markup=False, style="dim", soft_wrap=True)

    def _print(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(text)
