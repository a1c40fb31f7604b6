"""The job kind `dataset`: uploaded files become a data set version, or are refused with every reason.

files ─► reading, every image decoded once ─► pack in the work folder ─► published by the worker
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.datasets.reference import check_dataset_name
from app.datasets.service import DatasetService
from app.db.session import Database
from app.errors import InvalidDataset, InvalidRequest
from models.data.mask_pack import make_mask_pack
from models.data.pack import Pack, Split
from models.data.picture_pack import make_picture_pack
from models.data.validate import DataLimits, DataRefused, DatasetOptions, make_pack
from models.manifest import Task
from models.tasks.images import ImageLimits
from workers.context import DatasetParcel, Interrupted, JobContext, Json, Outcome
from workers.kinds.import_sources import Brought, bring_upload

_MAX_PROBLEMS = 1000
"""Kept with the job, which says how many there were."""
_MAX_NAME_BYTES = 200
_MAKE = {Task.SEGMENTATION: make_mask_pack, Task.SUPER_RESOLUTION: make_picture_pack}
"""By task, where it is not classification's."""


class DatasetOrder(BaseModel):
    """The spec of a job of kind `dataset`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    task: Task = Task.CLASSIFICATION
    file_ids: tuple[str, ...] = Field(min_length=1)
    file_splits: tuple[Split | None, ...] | None = None
    """What each file is for, whatever it says itself; null where it may say."""
    base: str | None = None
    """`name:3`: the files are added to it."""
    options: Json = {}
    """Those of `models.data.validate.DatasetOptions` that were given."""

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        if self.file_splits is not None and len(self.file_splits) != len(self.file_ids):
            raise ValueError("file_splits has one entry for each file")
        return self


def run(context: JobContext) -> Outcome:
    """Validate, pack, publish.

    Raises:
        InvalidRequest: the spec makes no sense.
        NotFound, UnknownDataset, UnknownVersion: a file or the base has gone.
        InvalidDataset: what is wrong with the files.

    """
    return Outcome(result={"dataset": make_dataset(context, context.spec, share=1.0)})


def make_dataset(context: JobContext, spec: Mapping[str, Any], *, share: float = 0.02) -> str:
    """Make a data set version; `name:number`. A job makes one, however often it is tried. `share`: of the
    whole job's progress.

    Raises as `run`, and Interrupted when the job has to stop meanwhile.
    """
    order, options = _read(spec)
    brought = [bring_upload(context, file_id) for file_id in order.file_ids]
    pack = context.work_dir / "dataset.pack"

    def progress(fraction: float) -> None:
        if context.stop_asked():
            raise Interrupted
        context.progress(share * fraction, "validating_files")

    progress(0.0)
    previous = None if order.base is None else Pack(_base(context, order.base))
    try:
        report = _MAKE.get(order.task, make_pack)(
            [_named(context.work_dir / "files" / str(at), file) for at, file in enumerate(brought)],
            pack,
            options=options,
            previous=previous,
            progress=progress,
            limits=DataLimits(image=ImageLimits(max_pixels=context.settings.max_image_pixels)),
            file_splits=order.file_splits,
        )
    except DataRefused as error:
        raise _refusal(context, error) from error
    finally:
        if previous is not None:
            previous.close()
    files = [
        {"id": file_id, "filename": file.file_name, "sha256": file.sha256}
        for file_id, file in zip(order.file_ids, brought, strict=True)
    ]
    return context.publish_dataset(
        DatasetParcel(
            name=order.name,
            task=order.task.value,
            pack=pack,
            source={"files": files, "base": order.base, "options": options.model_dump(mode="json")},
            report=report.model_dump(mode="json"),
        )
    )


def _read(spec: Mapping[str, Any]) -> tuple[DatasetOrder, DatasetOptions]:
    try:
        order = DatasetOrder.model_validate(spec)
        options = DatasetOptions.model_validate(order.options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{field}: {first['msg']}.", param=field, hint="Correct the spec.") from error
    check_dataset_name(order.name)
    return order, options


def _base(context: JobContext, reference: str) -> Path:
    database = Database(context.settings.sqlalchemy_url)
    try:
        version = DatasetService(database, context.objects).get_version(
            context.principal, reference, param="base"
        )
    finally:
        database.close()
    return context.objects.fetch(context.principal, version.sha256)


def _named(folder: Path, file: Brought) -> Path:
    """The file under the name that its owner gave it, which messages show and which may name a split."""
    folder.mkdir(parents=True)
    name = file.file_name.encode()[-_MAX_NAME_BYTES:].decode(errors="ignore")
    path = folder / (name if name.strip(".") else "file")
    path.symlink_to(file.path)
    return path


def _refusal(context: JobContext, error: DataRefused) -> InvalidDataset:
    problems = [
        {"file": problem.file, "line": problem.line, "message": problem.message, "hint": problem.hint}
        for problem in error.problems[:_MAX_PROBLEMS]
    ]
    context.facts({"problems": problems, "problem_count": error.count})
    first = error.problems[0]
    where = f"{first.file}, line {first.line}" if first.line is not None else first.file
    more = f" And {error.count - 1} more." if error.count > 1 else ""
    return InvalidDataset(f"{where}: {first.message}{more}", hint=first.hint)
