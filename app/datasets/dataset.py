"""Values: what services, routes and workers see of a data set."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.jobs.states import JobStatus

Json = dict[str, Any]


class DatasetStatus(StrEnum):
    """What became of the last thing asked of a data set. Versions made before stay as they are."""

    VALIDATING = "validating"
    """A job makes a version of it."""
    READY = "ready"
    FAILED = "failed"
    """Its last files were refused, or their job was cancelled."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """The newest job that was asked for a version."""

    job_id: str
    status: JobStatus
    error: Json | None
    """{code, message, hint}"""
    problems: tuple[Json, ...]
    """All that was wrong with the files: {file, line, message, hint}."""
    created_at: float


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """A named line of versions. Times are UTC, seconds since the epoch."""

    name: str
    task: str
    created_at: float
    numbers: tuple[int, ...]
    """Of its versions, ascending."""
    changed_at: float
    """When its newest version was made; without one, when it was."""
    making: Making | None

    @property
    def status(self) -> DatasetStatus:
        """`failed` is forgotten as soon as a later job has made a version."""
        making = self.making
        if making is None or making.status is JobStatus.SUCCEEDED:
            return DatasetStatus.READY
        if not making.status.has_ended:
            return DatasetStatus.VALIDATING
        is_outlived = bool(self.numbers) and self.changed_at > making.created_at
        return DatasetStatus.READY if is_outlived else DatasetStatus.FAILED


@dataclass(frozen=True, kw_only=True)
class DatasetVersionFacts:
    """An immutable version."""

    name: str
    """Of the data set."""
    number: int
    task: str
    sha256: str
    """Of its pack."""
    size_bytes: int
    """Of its pack."""
    source: Json
    """{files: [{id, filename, sha256}], base, options}"""
    report: Json
    """What validation found; `models.data.validate.DatasetReport`."""
    job_id: str | None
    created_at: float

    @property
    def reference(self) -> str:
        """`name:number`"""
        return f"{self.name}:{self.number}"


@dataclass(frozen=True, kw_only=True)
class PublishedDataset:
    """Where a pack went."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"
