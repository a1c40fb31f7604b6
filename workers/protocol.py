"""What worker and child say to each other: one order down the child's stdin, JSON lines up its stdout.

The pipe is also the child's lifeline: when its stdin closes, because the worker wants it to stop or has died,
the child ends itself.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from app.settings import Settings
from models.manifest import Certificate, Manifest


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def to_line(self) -> bytes:
        """One line of JSON."""
        return self.model_dump_json().encode() + b"\n"


class Order(_Line):
    """The first and only line that the child reads."""

    job_id: str
    run: str
    """`module:function` of the kind."""
    spec: dict[str, Any]
    tenant_id: str
    work_dir: Path
    settings: dict[str, Any]
    """The worker's own, less its secrets."""

    @staticmethod
    def settings_of(settings: Settings) -> dict[str, Any]:
        """Settings as they cross to the child, which has no use for the bootstrap key."""
        return settings.model_dump(mode="json") | {"api_key": None}


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


class Parcel(_Line):
    """A version to publish."""

    name: str
    manifest: Manifest
    certificate: Certificate
    artifacts: dict[str, Path]


class Done(_Line):
    """The run succeeded. The last line."""

    type: Literal["done"] = "done"
    result: dict[str, Any]
    publish: Parcel | None = None


class Failed(_Line):
    """The run failed for a reason that another try would meet again. The last line."""

    type: Literal["failed"] = "failed"
    code: str
    message: Text
    hint: Text | None = None


Line = Progress | Message | Done | Failed
LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="type")])
"""Parses one line from a child."""
