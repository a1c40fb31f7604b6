"""What a kind of job is given in its child process, and what it hands back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.access.principal import Principal
from app.settings import Settings
from models.manifest import Certificate, Manifest

if TYPE_CHECKING:
    from app.storage.objects import ObjectStore

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """The world of one run. Whatever a kind prints or logs goes to the job's log file."""

    spec: Json
    work_dir: Path
    """Empty at start, removed after the run's publication."""
    objects: "ObjectStore"
    principal: Principal
    """Whose files may be read, and who will own what is published."""
    settings: Settings
    progress: Callable[[float, str], None]
    """`progress(fraction, phase)`: how far the whole job is, 0..1, and the name of what it is doing."""
    message: Callable[[str], None]
    """A sentence for the job's history."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A version to publish, in the same transaction that ends the job."""

    name: str
    manifest: Manifest
    certificate: Certificate
    artifacts: Mapping[str, Path]
    """Files by artefact name, inside `work_dir`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a successful run hands back. The worker adds the published version's name to `result`."""

    result: Json = field(default_factory=dict)
    publish: Publication | None = None


Kind = Callable[[JobContext], Outcome]
"""Runs one job in its child process. An AppError it raises becomes the job's error; a fault fails the job."""
