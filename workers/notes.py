"""What a child says, on its way to the job's row: the newest progress, each new phase, every message, metric
and fact.
"""

import time
from collections.abc import Mapping
from typing import Any

from app.errors import StorageUnavailable
from app.jobs.job import ClaimedJob, Json, Note
from app.jobs.records import RunRecords
from app.observability.logs import get_logger
from workers.pace import Pace
from workers.protocol import Facts, Line, Message, Metrics, Progress

RECORD_EVERY_S = 0.5
"""What a run says within a phase is written down this often at most, seconds."""

_log = get_logger(__name__)


class Notes:
    """The notes of one run."""

    def __init__(self, records: RunRecords, job: ClaimedJob) -> None:
        self._records = records
        self._job = job
        self._pace = Pace()
        self._progress: Json = {}
        self._messages: list[str] = []
        self._metrics: dict[int, Json] = {}
        self._facts: Json = {}
        self._phase: str | None = None
        self._next_s = 0.0

    @property
    def due_in_s(self) -> float | None:
        """Seconds until something has to be written; None when nothing waits."""
        if not (self._progress or self._messages or self._metrics or self._facts):
            return None
        return max(0.0, self._next_s - time.monotonic())

    def take(self, line: Line) -> None:
        """Keep what the line says; a message or a new phase is due at once."""
        if isinstance(line, Progress):
            remaining_s = self._pace.remaining_s(line.fraction, time.monotonic())
            self._progress = {"progress": line.fraction, "phase": line.phase, "remaining_s": remaining_s}
            if line.phase != self._phase:
                self._phase, self._next_s = line.phase, 0.0
        elif isinstance(line, Message):
            self._messages.append(line.text)
            self._next_s = 0.0
        elif isinstance(line, Metrics):
            self._metrics[line.step] = dict(line.values)
        elif isinstance(line, Facts):
            self.add_facts(line.values)
        self.write_due()

    def add_facts(self, facts: Mapping[str, Any]) -> None:
        """The worker's own."""
        self._facts |= facts

    def collect(self) -> Note:
        """All that waits, for whoever writes it down together with something else."""
        note = Note(
            messages=tuple(self._messages), metrics=self._metrics, facts=self._facts, **self._progress
        )
        self._progress, self._messages, self._metrics, self._facts = {}, [], {}, {}
        return note

    def write_due(self) -> None:
        """Write if it is time. What the database cannot take now is written later. Raises LeaseLost."""
        if self.due_in_s == 0.0:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        self._next_s = time.monotonic() + RECORD_EVERY_S
        note = self.collect()
        try:
            self._records.write(self._job.id, self._job.token, note)
        except StorageUnavailable as error:
            self._put_back(note)
            _log.warning("notes_not_written", error=repr(error.__cause__))

    def _put_back(self, note: Note) -> None:
        """Nothing was said meanwhile: this is the thread that hears."""
        self._messages = list(note.messages)
        self._metrics = dict(note.metrics)
        self._facts = dict(note.facts)
