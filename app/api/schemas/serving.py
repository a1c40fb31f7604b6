"""Bodies of `/v1/models/{name}/serving`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.registry.snapshot import ServingOptions
from app.runtime.engine import Engine
from app.runtime.footprint import Footprint
from app.runtime.plan import Plan

MOST_INSTANCES = 64
MOST_INPUTS = 256


class ServingRequest(BaseModel):
    """How a model shall be served from now on; what is left out or null goes back to its default."""

    pinned: bool | None = Field(
        default=None,
        description="What the bare name means stays loaded. Null: only if it is the default classifier.",
    )
    instances: int | None = Field(
        default=None, ge=1, le=MOST_INSTANCES, description="Runs at once. Null: as measured."
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads of a run, at most as many as cores serve. Null: as measured."
    )
    max_batch: int | None = Field(
        default=None, ge=1, le=MOST_INPUTS, description="Most inputs per run. Null: as measured."
    )
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"pinned": True, "threads": 1}})

    @property
    def options(self) -> ServingOptions:
        """The same as the registry keeps it."""
        return ServingOptions(**self.model_dump())


class ServedVersion(BaseModel):
    """How one version is served by the process that answers, and what was measured."""

    version: int
    loaded: bool
    instances: int = Field(description="Runs at once.")
    threads: int = Field(description="Threads of a run.")
    max_batch: int = Field(description="Most inputs per run; of windows, most of full size.")
    lone_threads: int = Field(
        description="Threads of a run that has the machine to itself; 0: it has no session of its own."
    )
    images_per_s: float | None = Field(
        description="Inputs a second without decoding, as measured, or reckoned from that."
    )
    memory_bytes: int | None = Field(description="What it holds while all instances run, as weighed.")
    provider: str | None = Field(description="What its runs really use; null while it is not loaded.")
    requests: int = Field(description="Requests that hold it now.")

    @classmethod
    def of(
        cls, number: int, plan: Plan, footprint: Footprint | None, engine: Engine | None
    ) -> "ServedVersion":
        """The version as the API shows it."""
        return cls(
            version=number,
            loaded=engine is not None,
            instances=plan.lanes,
            threads=plan.threads,
            max_batch=plan.batch,
            lone_threads=plan.lone_threads,
            images_per_s=round(plan.images_per_s, 1) or None,
            memory_bytes=footprint.held_bytes if footprint else None,
            provider=engine.session.provider if engine else None,
            requests=engine.requests if engine else 0,
        )


class ServingObject(BaseModel):
    """How a model shall be served, and how it is."""

    object: Literal["model.serving"] = "model.serving"
    model: str
    pinned: bool | None = Field(description="As set; null: by default.")
    stays_loaded: bool = Field(description="No other model's coming unloads what its bare name means.")
    instances: int | None = Field(description="As set; null: as measured.")
    threads: int | None = Field(description="As set; null: as measured.")
    max_batch: int | None = Field(description="As set; null: as measured.")
    versions: list[ServedVersion] = Field(
        description="Those that are loaded, and what the bare name means if it ever was."
    )
    memory_held_bytes: int = Field(description="What all loaded models hold together.")
    memory_limit_bytes: int = Field(description="What they may: `ATHANOR_MODEL_MEMORY_BYTES`.")
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "model.serving",
                "model": "efficientnet-lite0",
                "pinned": None,
                "stays_loaded": True,
                "instances": None,
                "threads": None,
                "max_batch": None,
                "versions": [
                    {
                        "version": 1,
                        "loaded": True,
                        "instances": 2,
                        "threads": 1,
                        "max_batch": 8,
                        "lone_threads": 2,
                        "images_per_s": 131.5,
                        "memory_bytes": 118_000_000,
                        "provider": "CPUExecutionProvider",
                        "requests": 0,
                    }
                ],
                "memory_held_bytes": 118_000_000,
                "memory_limit_bytes": 12_884_901_888,
            }
        }
    )
