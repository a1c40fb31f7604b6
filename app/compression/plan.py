"""What a `compress` job is asked, checked before there is one: it then fails only for what it measures."""

from typing import Any

from app.access.principal import Principal
from app.compression.spec import CompressSpec
from app.datasets.service import DatasetService
from app.errors import Conflict, InvalidSpec, UnknownModel
from app.registry.finding import find_version
from app.registry.reference import check_model_name
from app.registry.service import Registry
from app.registry.snapshot import VersionFacts
from models.manifest import Task

KIND = "compress"


def plan_compression(
    principal: Principal, asked: CompressSpec, *, registry: Registry, datasets: DatasetService
) -> dict[str, Any]:
    """The spec of the job: model and data set as `name:number`, whatever their aliases mean later.

    Raises:
        InvalidRequest, UnknownModel, UnknownVersion, UnknownDataset: there is no such model or data set.
        InvalidSpec: the version cannot be compressed, or not with this data set.
        Conflict: the model for the result exists and is for another task.

    """
    name, version = find_version(registry, principal, asked.model)
    _check_compressible(f"{name}:{version.number}", version)
    dataset = datasets.get_version(principal, asked.dataset)
    if dataset.task != version.manifest.task:
        raise InvalidSpec(
            f"{dataset.reference} is for {dataset.task}, {name} for {version.manifest.task}.",
            param="dataset",
            hint="Name a data set for the model's task.",
        )
    if asked.output_model is not None:
        _check_output(registry, principal, asked.output_model, version)
    return asked.model_dump(mode="json") | {
        "model": f"{name}:{version.number}",
        "dataset": dataset.reference,
    }


def _check_compressible(model: str, version: VersionFacts) -> None:
    manifest = version.manifest
    if manifest.task not in (Task.CLASSIFICATION, Task.SEGMENTATION, Task.SUPER_RESOLUTION):
        raise InvalidSpec(
            f"{model} is for {manifest.task}; classifiers, segmenters and enlargers can be compressed yet.",
            param="model",
        )
    if manifest.precision is not None:
        raise InvalidSpec(
            f"{model} is compressed already ({manifest.precision}).",
            param="model",
            hint="Compress the version that it was made from.",
        )


def _check_output(registry: Registry, principal: Principal, name: str, version: VersionFacts) -> None:
    check_model_name(name)
    try:
        task = registry.get_model(principal, name).task
    except UnknownModel:
        return
    if task != version.manifest.task:
        raise Conflict(
            f"{name} is a {task} model; this is for {version.manifest.task}.", param="output_model"
        )
