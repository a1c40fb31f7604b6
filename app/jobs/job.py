"""Values: what services and workers see of a job, its events and its failure."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from app.access.principal import Principal
from app.errors import AppError
from app.jobs.states import JobStatus

Json = dict[str, Any]


class FailureCode(StrEnum):
    """Why a job failed, where it is not the code of an AppError that its kind raised."""

    INTERNAL = "internal"
    """The kind raised something unforeseen; the trace is in the job's log file."""
    CHILD_DIED = "child_died"
    """The child process was killed, crashed or left without a word, as often as a job may be tried."""
    WORKER_LOST = "worker_lost"
    """The worker fell silent, as often as a job may be tried."""


@dataclass(frozen=True, kw_only=True)
class JobError:
    """What went wrong, in the shape that the API shows."""

    code: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, error: AppError) -> "JobError":
        """The failure that a refused publication or a kind's own error means."""
        return cls(code=error.code, message=error.message, hint=error.hint)

    def to_dict(self) -> Json:
        """As it is stored."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it was at one moment. Times are seconds since the epoch by the database's clock."""

    id: str
    tenant_id: str
    kind: str
    status: JobStatus
    spec: Json
    result: Json | None
    error: Json | None
    progress: float
    """0..1"""
    phase: str | None
    attempts: int
    """How often it was taken up, less the times a stopping worker gave it back."""
    cancel_requested: bool
    created_at: float
    started_at: float | None
    finished_at: float | None


@dataclass(frozen=True, kw_only=True)
class ClaimedJob:
    """The right to run a job, as long as its lease is kept and nobody holds a newer token."""

    id: str
    principal: Principal
    kind: str
    spec: Json
    token: int
    attempt: int
    """1 for the first run."""


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """Something that happened to a job. Ids grow."""

    id: int
    level: str
    """info | warning | error"""
    kind: str
    """state | progress | message"""
    message: str
    data: Json | None
    created_at: float
