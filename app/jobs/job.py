"""Values: what services and workers see of a job, its events and its failure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
    TIME_LIMIT = "time_limit"
    """It ran, over all attempts, for as long as it was given."""


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
    pause_requested: bool
    priority: int
    time_limit_s: float | None
    ran_s: float
    """Seconds of running in all attempts, as of the last heartbeat."""
    rerun_of: str | None
    """The job that this one repeats, perhaps with fields changed."""
    facts: Json
    """What its runs found out: parameters, estimate, `resumed_from_step`, `estimated_finish`, …"""
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
    ran_s: float = 0.0
    """Seconds of running in the attempts before."""
    time_limit_s: float | None = None
    """Of running, over all attempts."""


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """Something that happened to a job. Ids grow."""

    id: int
    level: str
    """info | warning | error"""
    kind: str
    """state | progress | message | checkpoint"""
    message: str
    data: Json | None
    created_at: float


class Asked(StrEnum):
    """What somebody wants of a running job."""

    CANCEL = "cancel"
    PAUSE = "pause"


@dataclass(frozen=True, kw_only=True)
class Note:
    """What a run has to write down at one moment."""

    progress: float | None = None
    phase: str | None = None
    messages: tuple[str, ...] = ()
    metrics: Mapping[int, Json] = field(default_factory=dict)
    """Values by step."""
    facts: Json = field(default_factory=dict)
    """Merged into those that are known."""
    remaining_s: float | None = None
    """By the pace of its progress."""


@dataclass(frozen=True, kw_only=True)
class JobCheckpoint:
    """A state from which a run can go on; its bytes are in the object store."""

    id: str
    job_id: str
    step: int
    sha256: str
    size_bytes: int
    metrics: Json
    created_at: float


@dataclass(frozen=True, kw_only=True)
class JobMetrics:
    """What was measured at one step."""

    step: int
    values: Json
    """Null where a value was not finite."""
    created_at: float
