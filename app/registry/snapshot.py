"""What the registry knows, as immutable values: handed out by the service, kept in memory by gateways."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.access.principal import Principal
from models.manifest import Artifact, Certificate, Manifest, Task


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """One immutable version."""

    id: str
    number: int
    manifest: Manifest
    certificate: Certificate
    artifacts: tuple[Artifact, ...]
    job_id: str | None
    """The job that published it."""
    created_at: float
    """UTC, seconds since the epoch."""

    def artifact(self, name: str) -> Artifact | None:
        """The stored file of that name."""
        return next((artifact for artifact in self.artifacts if artifact.name == name), None)


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """How a model shall be served; None leaves it to what is the default, or was measured."""

    pinned: bool | None = None
    """What the bare name means stays loaded; None: only if it is the default classifier."""
    instances: int | None = None
    """Runs at once."""
    threads: int | None = None
    """Threads of a run."""
    max_batch: int | None = None
    """Most inputs per run."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A named line of versions and what points at them."""

    name: str
    task: Task
    aliases: Mapping[str, int]
    """Alias -> version number."""
    versions: Mapping[int, VersionFacts]
    """In ascending order of number."""
    created_at: float
    """UTC, seconds since the epoch."""
    serving: ServingOptions = field(default_factory=ServingOptions)


@dataclass(frozen=True, kw_only=True)
class SnapshotData:
    """Everything a gateway needs to route requests, of all tenants, at one moment."""

    revision: int
    models: Mapping[tuple[str, str], ModelFacts]
    """(tenant id, name) -> model."""
    keys: Mapping[str, Principal]
    """SHA-256 of a key that is in force -> whose it is."""

    @classmethod
    def empty(cls) -> "SnapshotData":
        """What a gateway knows before it has read anything."""
        return cls(revision=-1, models={}, keys={})
