"""What an import job is asked to do, checked at the door: a job then fails only for what is in the file."""

from dataclasses import dataclass
from typing import Any, Literal

from app.access.principal import Principal
from app.errors import Conflict, InvalidPayload, InvalidRequest, NotFound, UnknownModel
from app.files.repository import FileFacts
from app.files.service import FileService
from app.registry.reference import check_model_name
from app.registry.service import Registry
from models.manifest import Task

_IMPORTED = (Task.CLASSIFICATION, Task.SEGMENTATION, Task.SUPER_RESOLUTION)


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """An uploaded ONNX file and how to use it."""

    name: str
    file_id: str
    task: Task
    options: dict[str, Any]
    """`labels`, `mean`, `std`, `size` or `height` and `width`, `fit`, `crop`, `interpolation`, `activation`,
    `layout`, `channels`, `context`, `overlap`."""
    reference_id: str | None


def plan_import(
    principal: Principal, plan: ImportPlan, *, registry: Registry, files: FileService
) -> dict[str, Any]:
    """The spec of the import job.

    Raises:
        InvalidRequest: name, task, size, fit, activation, mean or std make no sense.
        NotFound: a file does not exist.
        Conflict: the model exists and is for another task.

    """
    check_model_name(plan.name)
    check_use(plan.task, fit=plan.options["fit"], activation=plan.options["activation"])
    _check_labels(plan.task, plan.options["labels"])
    options = {key: value for key, value in plan.options.items() if value is not None}
    options.setdefault("fit", default_fit(plan.task))
    options |= _sides(options.pop("size", None), options.get("height"), options.get("width"))
    options["mean"] = _triple("mean", options["mean"])
    options["std"] = _triple("std", options["std"])
    if not all(abs(value) > 1e-12 for value in options["std"]):
        raise InvalidRequest("std must not be zero.", param="std")
    file = _file(principal, files, plan.file_id, param="file")
    if plan.reference_id is not None:
        _file(principal, files, plan.reference_id, param="reference")
    try:
        model = registry.get_model(principal, plan.name)
    except UnknownModel:
        model = None
    if model is not None and model.task != plan.task:
        raise Conflict(f"{plan.name} is a {model.task} model; this is for {plan.task}.", param="name")
    return {
        "source": f"file:{plan.file_id}",
        "sha256": file.sha256,
        "name": plan.name,
        "task": str(plan.task),
        "manifest": options,
        "reference": plan.reference_id,
    }


def _check_labels(task: Task, labels: list[str] | None) -> None:
    if task is Task.SUPER_RESOLUTION and labels:
        raise InvalidRequest("Pictures have no labels.", param="labels", hint="Leave them out.")
    if task is not Task.SUPER_RESOLUTION and not labels:
        raise InvalidPayload(
            "The labels are missing.", param="labels", hint="Give each output a label, in their order."
        )


def default_fit(task: Task) -> Literal["crop", "squash", "tiles"]:
    """How pictures meet a network's size if nobody says it: masks are of the whole picture, and what makes
    pictures larger makes all of them larger."""
    if task is Task.SUPER_RESOLUTION:
        return "tiles"
    return "squash" if task is Task.SEGMENTATION else "crop"


def check_use(task: Task, *, fit: str | None, activation: str | None, within: str = "") -> None:
    """Refuse what no file could make right; `within` is put before the names of fields.

    Raises:
        InvalidRequest: models for the task cannot be imported, or the task has no such thing.

    """
    if task not in _IMPORTED:
        raise InvalidRequest(
            f"Models for {task} cannot be imported yet.", param="task", hint=f"{', '.join(_IMPORTED)} can."
        )
    if task is Task.SUPER_RESOLUTION and fit not in (None, "tiles"):
        raise InvalidRequest(
            "A picture that is to become larger goes through in windows.",
            param=f"{within}fit",
            hint="Leave `fit` out.",
        )
    if task is Task.CLASSIFICATION and fit == "tiles":
        raise InvalidRequest(
            "A classifier sees a picture as a whole.",
            param=f"{within}fit",
            hint="Give `fit` crop, squash or pad.",
        )
    if task is Task.SEGMENTATION and fit == "crop":
        raise InvalidRequest(
            "A segmenter must see the whole picture, for its masks are as large.",
            param=f"{within}fit",
            hint="Give `fit` squash, pad or tiles.",
        )
    if task is not Task.SEGMENTATION and activation is not None:
        raise InvalidRequest(
            "Only a segmenter's maps have an activation.", param=f"{within}activation", hint="Leave it out."
        )


def _sides(size: int | None, height: int | None, width: int | None) -> dict[str, int]:
    if size is not None and height is None and width is None:
        return {"height": size, "width": size}
    if size is None and height is not None and width is not None:
        return {"height": height, "width": width}
    raise InvalidRequest(
        "The input's size is given once: `size`, or `height` and `width`.",
        param="size",
        hint="It is the size that the network was trained on, for example 224.",
    )


def _triple(name: str, value: float | tuple[float, ...] | list[float]) -> list[float]:
    values = [float(value)] * 3 if isinstance(value, int | float) else [float(part) for part in value]
    if not all(-1e6 < part < 1e6 for part in values):  # also false for NaN and infinity
        raise InvalidRequest(f"{name} must be finite, in units of 0..255.", param=name)
    return values


def _file(principal: Principal, files: FileService, file_id: str, *, param: str) -> FileFacts:
    try:
        return files.get(principal, file_id)
    except NotFound as error:
        raise NotFound(error.message, param=param, hint="POST /v1/files uploads one.") from error
