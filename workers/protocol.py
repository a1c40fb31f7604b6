"""What worker and child say to each other, in lines of JSON.

    worker ──Order, then Stop, Kept, DatasetPublished────────────────────────► child's stdin
    worker ◄──Progress, Message, Metrics, Facts, Checkpoint, DatasetMade────── child's stdout
           ◄──one of Done, Failed, Left: the last line─────────────────

The pipe is also the child's lifeline: when its stdin closes, because the worker lets it go or has died, the
child ends itself.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from app.errors import AppError, ObjectDamaged, StorageUnavailable
from app.settings import Settings
from models.manifest import Certificate, Manifest


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def to_line(self) -> bytes:
        """One line of JSON."""
        return self.model_dump_json().encode() + b"\n"


class ResumeFrom(_Line):
    """The newest checkpoint."""

    step: int
    path: Path
    metrics: dict[str, Any]


class Order(_Line):
    """The first line that the child reads."""

    job_id: str
    attempt: int
    run: str
    """`module:function` of the kind."""
    spec: dict[str, Any]
    tenant_id: str
    work_dir: Path
    settings: dict[str, Any]
    """The worker's own, less its secrets."""
    resume: ResumeFrom | None = None

    @staticmethod
    def settings_of(settings: Settings) -> dict[str, Any]:
        """Settings as they cross to the child, which has no use for the bootstrap key."""
        return settings.model_dump(mode="json") | {"api_key": None}


class Stop(_Line):
    """Checkpoint and leave."""

    type: Literal["stop"] = "stop"


class Kept(_Line):
    """The answer to Checkpoint: its object and its row are durable."""

    type: Literal["kept"] = "kept"


class DatasetPublished(_Line):
    """The answer to DatasetMade."""

    type: Literal["dataset"] = "dataset"
    reference: str
    """`name:number`"""


Word = Stop | Kept | DatasetPublished
WORD: TypeAdapter[Word] = TypeAdapter(Annotated[Word, Field(discriminator="type")])
"""Parses what a child hears after its order."""


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


Text = Annotated[str, AfterValidator(_storable)]
"""PostgreSQL takes no NUL, and what kinds say may quote what users sent."""


class Progress(_Line):
    """How far the run is."""

    type: Literal["progress"] = "progress"
    fraction: float
    phase: Text


class Message(_Line):
    """A sentence for the job's history."""

    type: Literal["message"] = "message"
    text: Text


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


class Metrics(_Line):
    """What was measured at a step; JSON has no word for what is not finite: null."""

    type: Literal["metrics"] = "metrics"
    step: int
    values: dict[str, Annotated[float | None, AfterValidator(_finite)]]


class Facts(_Line):
    """What the run found out."""

    type: Literal["facts"] = "facts"
    values: dict[str, Any]


class Checkpoint(_Line):
    """A file that the worker shall keep; the child waits until it has, so that no more than the steps since
    its newest checkpoint can ever be lost."""

    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: Path
    metrics: dict[str, Any]


class DatasetMade(_Line):
    """A data set to publish; the child waits for the answer."""

    type: Literal["dataset"] = "dataset"
    name: str
    task: str
    pack: Path
    source: dict[str, Any]
    report: dict[str, Any]


class Parcel(_Line):
    """A version to publish."""

    name: str
    manifest: Manifest
    certificate: Certificate
    artifacts: dict[str, Path]
    checkpoint_step: int | None = None


class KeptFile(_Line):
    """A file to keep."""

    path: Path
    filename: str
    purpose: str


class Done(_Line):
    """The run succeeded. The last line."""

    type: Literal["done"] = "done"
    result: dict[str, Any]
    publish: Parcel | None = None
    file: KeptFile | None = None


class Failed(_Line):
    """The run failed, for a reason that another try would meet again unless it `may_pass`. The last line."""

    type: Literal["failed"] = "failed"
    code: str
    message: Text
    hint: Text | None = None
    may_pass: bool = False

    @classmethod
    def of(cls, error: AppError) -> "Failed":
        """What a kind raised."""
        away = isinstance(error, StorageUnavailable) and not isinstance(error, ObjectDamaged)
        return cls(code=error.code, message=error.message, hint=error.hint, may_pass=away)


class Left(_Line):
    """The run has left off, as it was asked to. The last line."""

    type: Literal["interrupted"] = "interrupted"


Line = Progress | Message | Metrics | Facts | Checkpoint | DatasetMade | Done | Failed | Left
LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="type")])
"""Parses one line from a child."""
