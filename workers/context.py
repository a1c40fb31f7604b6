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


class Interrupted(Exception):
    """A kind's answer to `stop_asked()`: it has left off, and a later attempt can go on from its newest
    checkpoint, or from the start if it has none.
    """


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """The newest checkpoint of the attempts before."""

    step: int
    path: Path
    """For reading only: it lies in the object store."""
    metrics: Json


@dataclass(frozen=True, kw_only=True)
class DatasetParcel:
    """A data set version to publish."""

    name: str
    task: str
    pack: Path
    """Inside `work_dir`."""
    source: Json
    report: Json


def _no_checkpoint(step: int, path: Path, metrics: Json) -> None:
    """Nobody keeps checkpoints here."""


def _no_metrics(step: int, values: Mapping[str, float]) -> None:
    """Nobody keeps metrics here."""


def _no_facts(values: Json) -> None:
    """Nobody keeps facts here."""


def _never() -> bool:
    return False


def _no_dataset(parcel: DatasetParcel) -> str:
    raise NotImplementedError("nobody publishes data sets here")


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
    job_id: str = ""
    attempt: int = 1
    """1 for the first run of the job."""
    resume: ResumePoint | None = None
    """Where to go on; None: begin at the beginning."""
    checkpoint: Callable[[int, Path, Json], None] = _no_checkpoint
    """`checkpoint(step, path, metrics)` gives a file of `work_dir` away, and returns when it is stored. Of a
    job's checkpoints the newest three are kept, and the best by its mark, then `valid_loss`; of a kind that
    only goes on from them (`TO_GO_ON_ONLY`) the newest, until the job has ended."""
    metrics: Callable[[int, Mapping[str, float]], None] = _no_metrics
    """`metrics(step, values)`: what was measured at a step. Said again, it takes the place of the first."""
    facts: Callable[[Json], None] = _no_facts
    """Merged into the job's facts."""
    stop_asked: Callable[[], bool] = _never
    """The worker is stopping or the job is to pause: checkpoint, then raise `Interrupted`. A run that does
    not in about five seconds, or thirty to pause, is killed."""
    publish_dataset: Callable[[DatasetParcel], str] = _no_dataset
    """Publish a version and wait for its `name:number`. A job makes one: asked again, also in a later
    attempt, it gets the same."""

    def leave_if_asked(self) -> None:
        """Between two pieces of work: raise Interrupted if the worker has asked to stop."""
        if self.stop_asked():
            raise Interrupted

    def begin(self, phase: str, *, at: float) -> None:
        """A phase begins, with the whole job so far, 0..1; or raises Interrupted, as `leave_if_asked`."""
        self.leave_if_asked()
        self.progress(at, phase)


@dataclass(frozen=True, kw_only=True)
class Publication:
    """A version to publish, in the same transaction that ends the job."""

    name: str
    manifest: Manifest
    certificate: Certificate
    artifacts: Mapping[str, Path]
    """Files by artefact name, inside `work_dir`."""
    checkpoint_step: int | None = None
    """The version is what a training was at that step: `name@ckpt-<step>` will mean it."""


@dataclass(frozen=True, kw_only=True)
class Handout:
    """A file to keep for the job's owner, in the same transaction that ends the job."""

    path: Path
    """Inside `work_dir`."""
    filename: str
    purpose: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a successful run hands back. The worker adds the published version's name to `result`, as `model`,
    and the id of the file, as `file`."""

    result: Json = field(default_factory=dict)
    publish: Publication | None = None
    file: Handout | None = None


Kind = Callable[[JobContext], Outcome]
"""Runs one job in its child process. An AppError it raises becomes the job's error; a fault fails the job."""
