"""What a data set job is asked, checked at the door: the job then fails only for what is in the files."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.access.principal import Principal
from app.datasets.dataset import Json
from app.datasets.reference import check_dataset_name
from app.datasets.service import DatasetService
from app.errors import InvalidRequest, NotFound
from app.files.service import FileService
from models.manifest import Task

MAX_FILES = 256
"""Of one data set version; an archive holds any number of images."""
_TASKS = (Task.CLASSIFICATION, Task.SEGMENTATION, Task.SUPER_RESOLUTION)


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """Uploaded files and what to make of them."""

    name: str | None
    """None: the base's."""
    task: Task
    file_ids: Sequence[str]
    base: str | None
    """`name:3`, or `name` for its newest version: the files are added to it."""
    options: Json
    """`validation_share`, `test_share`, `seed`, `skip_broken`; those that were given."""


def plan_dataset(
    principal: Principal, plan: DatasetPlan, *, datasets: DatasetService, files: FileService
) -> Json:
    """The spec of the job of kind `dataset`.

    Raises:
        InvalidRequest: the name, the task, the base or the number of files make no sense.
        NotFound: a file does not exist.
        UnknownDataset, UnknownVersion: the base does not exist.
        Conflict: the data set exists and is for another task.

    """
    if plan.task not in _TASKS:
        hint = f"{', '.join(_TASKS)} can."
        raise InvalidRequest(f"Data sets for {plan.task} cannot be made yet.", param="task", hint=hint)
    _check_files(principal, plan.file_ids, files)
    base = None
    if plan.base is not None:
        base = datasets.get_version(principal, plan.base, param="base")
        if base.task != plan.task:
            what = f"The data set {base.reference} is for {base.task}, not for {plan.task}."
            raise InvalidRequest(what, param="base", hint=f"Name one that is for {plan.task}.")
    name = plan.name or (base.name if base is not None else "")
    check_dataset_name(name)
    datasets.check_task(principal, name, plan.task.value)
    return {
        "name": name,
        "task": plan.task.value,
        "file_ids": list(plan.file_ids),
        "base": base.reference if base is not None else None,
        "options": plan.options,
    }


def _check_files(principal: Principal, file_ids: Sequence[str], files: FileService) -> None:
    if not 0 < len(file_ids) <= MAX_FILES:
        raise InvalidRequest(f"A data set is made of 1 to {MAX_FILES} files.", param="file_ids")
    for at, file_id in enumerate(file_ids):
        if file_id in file_ids[:at]:
            raise InvalidRequest(f"{file_id} is named twice.", param=f"file_ids.{at}")
        try:
            files.get(principal, file_id)
        except NotFound as error:
            hint = "POST /v1/files uploads one."
            raise NotFound(error.message, param=f"file_ids.{at}", hint=hint) from error
