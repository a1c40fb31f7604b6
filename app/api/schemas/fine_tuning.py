"""Bodies of `/v1/fine_tuning/jobs`: OpenAI's objects, with more keys at the root."""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.fine_tuning.plan import PREFLIGHT
from app.fine_tuning.request import Around, Json
from app.fine_tuning.view import estimated_finish, fine_tuned_model, planned_name, report_urls, resolved_spec
from app.jobs.history import Moment
from app.jobs.job import Job, JobCheckpoint
from app.jobs.states import JobStatus
from models.train.spec import CHOICES, TrainSpec

Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
_LEVELS: dict[str, Literal["info", "warn", "error"]] = {"info": "info", "warning": "warn", "error": "error"}


class HyperparametersObject(BaseModel):
    """What was asked for; `spec` says what was chosen."""

    n_epochs: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"


class JobFailureObject(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None
    hint: str | None = None


class ReportUrls(BaseModel):
    """Where the report of a job that has succeeded is, relative to this server."""

    html: str
    json_: str = Field(alias="json")


class FineTuningJob(BaseModel):
    """OpenAI's job object and, from `task` on, what it has no place for."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int = Field(description="UTC, seconds since the epoch.")
    finished_at: int | None
    estimated_finish: int | None = Field(description="While it runs and its pace is known.")
    status: Status
    model: str = Field(description="What training starts from, as it was asked for.")
    fine_tuned_model: str | None = Field(description="What can be asked for once it has succeeded.")
    training_file: str = Field(description="The file, or the data set where one was named.")
    validation_file: str | None
    hyperparameters: HyperparametersObject
    method: dict[str, Any]
    seed: int
    metadata: dict[str, str] | None
    integrations: list[Any] = []
    organization_id: str = Field(description="The tenant it belongs to.")
    result_files: list[str] = Field(default=[], description="Always empty; `report` has the results.")
    trained_tokens: None = None
    error: JobFailureObject | None
    task: str
    dataset: str | None = Field(description="`name:number`, once it is made.")
    suffix: str | None
    output_model: str | None
    planned_model: str = Field(description="The name that its version will have.")
    dry_run: bool
    priority: int
    time_limit_s: float | None
    phase: str | None = Field(description="What it is doing.")
    progress: float = Field(ge=0, le=1)
    attempts: int = Field(ge=0, description="How often it was taken up.")
    resumed_from_step: int | None = Field(description="Where the newest attempt went on.")
    total_parameters: int | None = Field(description="Of the network that is trained.")
    trainable_parameters: int | None = Field(description="Those of them that training changes.")
    estimate: dict[str, Any] | None = Field(description="What a measured step says of time and memory.")
    spec: dict[str, Any] = Field(description="Everything about the training; `null` is still to be chosen.")
    report: ReportUrls | None
    rerun_of: str | None
    model_config = ConfigDict(
        serialize_by_alias=True,
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_extra={
            "example": {
                "id": "job_06d4rkbb8zyq5xq2m8c7t5nn",
                "object": "fine_tuning.job",
                "created_at": 1767225600,
                "status": "running",
                "model": "efficientnet-lite0",
                "training_file": "file_06d4rkbb8zyq5xq2m8c7t5nn",
                "hyperparameters": {
                    "n_epochs": 3,
                    "batch_size": "auto",
                    "learning_rate_multiplier": "auto",
                },
                "task": "classification",
                "phase": "training",
                "progress": 0.41,
                "trainable_parameters": 262144,
            }
        },
    )

    @classmethod
    def of(cls, job: Job) -> "FineTuningJob":
        """The job as the API shows it."""
        spec, facts = job.spec, job.facts
        openai: Json = spec.get("openai") or {}
        validates = job.status is JobStatus.RUNNING and job.phase in (None, "validating_files")
        return cls(
            id=job.id,
            created_at=int(job.created_at),
            finished_at=None if job.finished_at is None else int(job.finished_at),
            estimated_finish=estimated_finish(job),
            status="validating_files" if validates else job.status.value,
            model=openai.get("model") or spec["train"]["model"],
            fine_tuned_model=fine_tuned_model(job),
            training_file=spec.get("training_file") or spec.get("dataset") or "",
            validation_file=spec.get("validation_file"),
            hyperparameters=HyperparametersObject(**(openai.get("hyperparameters") or {})),
            method=_method(openai),
            seed=spec["train"]["seed"],
            metadata=openai.get("metadata"),
            organization_id=job.tenant_id,
            error=None if job.error is None else JobFailureObject(**job.error),
            task=spec["train"]["task"],
            dataset=facts.get("dataset") or spec.get("dataset"),
            suffix=spec.get("suffix"),
            output_model=spec.get("output_model"),
            planned_model=planned_name(job),
            dry_run=job.kind == PREFLIGHT,
            priority=job.priority,
            time_limit_s=job.time_limit_s,
            phase=job.phase,
            progress=job.progress,
            attempts=job.attempts,
            resumed_from_step=facts.get("resumed_from_step"),
            total_parameters=facts.get("total_parameters"),
            trainable_parameters=facts.get("trainable_parameters"),
            estimate=facts.get("estimate") or (job.result or {}).get("estimate"),
            spec=resolved_spec(job),
            report=report_urls(job),
            rerun_of=job.rerun_of,
        )


def _method(openai: Json) -> Json:
    given = openai.get("method")
    return given or {
        "type": "supervised",
        "supervised": {"hyperparameters": openai.get("hyperparameters") or {}},
    }


class FineTuningJobList(BaseModel):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


class FineTuningEvent(BaseModel):
    """Something that happened to a job, or what was measured at a step."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int = Field(description="UTC, seconds since the epoch.")
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None = Field(description="Of metrics: `step` and the values by name.")

    @classmethod
    def of(cls, moment: Moment) -> "FineTuningEvent":
        """The moment as the API shows it."""
        return cls(
            id=f"{EVENT_PREFIX}{moment.place}",
            created_at=int(moment.created_at),
            level=_LEVELS.get(moment.level, "info"),
            message=moment.message,
            type="metrics" if moment.is_metrics else "message",
            data=moment.data,
        )


EVENT_PREFIX = "ftevent-"


class FineTuningEventList(BaseModel):
    """A page of events."""

    object: Literal["list"] = "list"
    data: list[FineTuningEvent]
    has_more: bool


class FineTuningCheckpoint(BaseModel):
    """A state of the network that a job keeps."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int = Field(description="UTC, seconds since the epoch.")
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str = Field(
        description="`name@ckpt-STEP`, which answers once it is published."
    )
    step_number: int
    metrics: dict[str, Any]
    bytes: int = Field(description="Size of its file.")

    @classmethod
    def of(cls, job: Job, checkpoint: JobCheckpoint) -> "FineTuningCheckpoint":
        """The checkpoint as the API shows it."""
        return cls(
            id=checkpoint.id,
            created_at=int(checkpoint.created_at),
            fine_tuning_job_id=job.id,
            fine_tuned_model_checkpoint=f"{planned_name(job)}@ckpt-{checkpoint.step}",
            step_number=checkpoint.step,
            metrics={"step": checkpoint.step, **checkpoint.metrics},
            bytes=checkpoint.size_bytes,
        )


class FineTuningCheckpointList(BaseModel):
    """A page of checkpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningCheckpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


# -- the request -------------------------------------------------------------------------------------
# Its fields are documented with their types and take anything: what makes no sense is told by the gate,
# which names the nearest that would.


@dataclass(frozen=True)
class _ShownAs:
    """A field shown as another model has it, which is looked up when the document is made."""

    owner: type[BaseModel]
    name: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return _shown(self.owner)[self.name]


def _fields_of(owner: type[BaseModel]) -> dict[str, Any]:
    return {name: (Annotated[Any, _ShownAs(owner, name)], None) for name in owner.model_fields}


@cache
def _shown(owner: type[BaseModel]) -> dict[str, Json]:
    whole = owner.model_json_schema()
    definitions = whole.get("$defs", {})
    fields: dict[str, Any] = {}
    for name, schema in whole["properties"].items():
        fields[name] = _inlined(schema, definitions)
        if name in CHOICES:
            fields[name] = {**_CHOICE, "description": f"A row of `GET /v1/catalog?kind={CHOICES[name]}`."}
            if name == "augmentation":
                fields[name] = {"anyOf": [_CHOICE, {"type": "array", "items": _CHOICE}, {"type": "null"}]}
    return fields


def _inlined(schema: Any, definitions: Json) -> Any:  # noqa: ANN401 - whatever JSON schema holds
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        besides = {key: value for key, value in schema.items() if key != "$ref"}
        return _inlined({**definitions[name], **besides}, definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


_CHOICE: Json = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"method": {"type": "string"}}, "required": ["method"]},
        {"type": "null"},
    ]
}

FineTuningRequest = create_model(
    "FineTuningRequest",
    __config__=ConfigDict(
        extra="allow",
        protected_namespaces=(),
        json_schema_extra={
            "required": ["model"],
            "example": {
                "model": "efficientnet-lite0",
                "training_file": "file_06d4rkbb8zyq5xq2m8c7t5nn",
                "task": "classification",
                "adapter": {"method": "lora", "r": 8},
                "suffix": "digits",
            },
        },
    ),
    __doc__="A training to queue: OpenAI's fields and ours, side by side.",
    **_fields_of(Around),
    **_fields_of(TrainSpec),
)
