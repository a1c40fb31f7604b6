"""The first gate: a request becomes the spec of a job, or is refused with the field that makes no sense.

Torch-free and quick. What needs the data or the network is checked by the job itself, in its first phase.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from app.access.principal import Principal
from app.datasets.service import DatasetService
from app.errors import InvalidSpec, NotFound, UnknownModel
from app.files.service import FileService
from app.fine_tuning.bases import Base, find_base, find_encoder
from app.fine_tuning.request import Around, hyperparameters, read_request
from app.jobs.job import Json
from app.registry.reference import NAME_RULE, is_name
from app.registry.service import Registry
from app.registry.snapshot import ModelFacts
from models.catalogue import CATALOGUE, Kind
from models.catalogue.adapters import Adapter, why_not
from models.manifest import Task
from models.train.resolve import default_learning_rate, settled_scale
from models.train.spec import CHOICES, Choice, SpecError, TrainSpec

FINE_TUNE, PREFLIGHT = "fine_tune", "preflight"
KINDS = (FINE_TUNE, PREFLIGHT)
_FILE = ("file_", "file-")
_RECENT_FILES = 100
_SHOWN_METHODS = 8


@dataclass(frozen=True, kw_only=True)
class References:
    """Where the things are that a request speaks of."""

    registry: Registry
    files: FileService
    datasets: DatasetService


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job to make."""

    kind: str
    spec: Json
    priority: int
    time_limit_s: float | None


def plan_fine_tune(principal: Principal, raw: Mapping[str, Any], where: References, *, dry_run: bool) -> Plan:
    """The job that a request asks for.

    Raises:
        InvalidSpec: a field, a name or a combination makes no sense.
        UnknownModel, UnknownVersion, UnknownDataset, NotFound: what it refers to is not there; `param` is
            the field.

    """
    around, spec = read_request(raw)
    base = find_base(principal, spec.model, where.registry)
    if "adapter" not in raw and not base.is_trained:
        spec = spec.model_copy(update={"adapter": Choice(method="full")})
    spec = _with_multiplied_rate(spec, base, hyperparameters(around)["learning_rate_multiplier"])
    _check_task(spec, base, is_given=raw.get("task") is not None)
    _check_base(spec, base)
    encoder = find_encoder(principal, spec, base, where.registry)
    data = _find_data(principal, around, spec, base, where)
    _check_output(principal, around, spec, where.registry)
    train = spec.model_copy(update={"model": base.reference, "encoder": encoder}).model_dump(mode="json")
    return Plan(
        kind=PREFLIGHT if dry_run else FINE_TUNE,
        spec={
            "train": train,
            **data,
            "output_model": around.output_model,
            "suffix": around.suffix,
            "openai": {
                "model": spec.model,
                "encoder": spec.encoder,
                "hyperparameters": _shown_hyperparameters(around, spec),
                "method": None if around.method is None else around.method.model_dump(exclude_unset=True),
                "metadata": around.metadata,
                "seed": spec.seed,
                "integrations": [],
            },
        },
        priority=around.priority,
        time_limit_s=around.time_limit_s,
    )


def _with_multiplied_rate(spec: TrainSpec, base: Base, multiplier: float | str) -> TrainSpec:
    if isinstance(multiplier, str):
        return spec
    rate = default_learning_rate(spec, base.architecture, base.is_trained) * multiplier
    return spec.model_copy(update={"learning_rate": min(rate, 10.0)})


# -- combinations ------------------------------------------------------------------------------------


def _check_task(spec: TrainSpec, base: Base, *, is_given: bool) -> None:
    if spec.task not in base.tasks:
        tasks = " or ".join(sorted(base.tasks))
        what = f"{spec.model} is for {tasks}, not for {spec.task}."
        raise InvalidSpec(what, param="task" if is_given else "model", hint=f"Give the task {tasks}.")
    for param, kind, choice in _choices(spec):
        if spec.task not in choice.row(kind).tasks:
            fitting = [row.id for row in CATALOGUE.find(kind=kind, task=spec.task)]
            near = get_close_matches(choice.method, fitting, n=3, cutoff=0.4)
            known = list(dict.fromkeys([*near, *fitting]))[:_SHOWN_METHODS]
            what = f"{choice.method} is not for {spec.task}."
            hint = f"These are: {', '.join(known)}." if known else f"Leave it out: none is for {spec.task}."
            raise InvalidSpec(what, param=f"{param}.method", hint=hint)


def _choices(spec: TrainSpec) -> list[tuple[str, Kind, Choice]]:
    found: list[tuple[str, Kind, Choice]] = []
    for field, kind in CHOICES.items():
        value = getattr(spec, field)
        if isinstance(value, Choice):
            found.append((field, kind, value))
        else:
            found += [(f"{field}.{at}", kind, choice) for at, choice in enumerate(value or ())]
    return found


def _check_base(spec: TrainSpec, base: Base) -> None:
    row = spec.adapter.row(Kind.ADAPTER)
    assert isinstance(row, Adapter)
    if (refused := why_not(row, base.architecture, is_trained=base.is_trained)) is not None:
        raise InvalidSpec(refused[0], param="adapter.method", hint=refused[1])
    if spec.task is Task.SUPER_RESOLUTION:
        _check_scale(spec, base, ratio=None)
    if spec.image_size is None:
        return
    if (refused := base.architecture.why_not_side(spec.image_size)) is not None:
        raise InvalidSpec(refused[0], param="image_size", hint=refused[1])


# -- data --------------------------------------------------------------------------------------------


def _check_scale(spec: TrainSpec, base: Base, *, ratio: int | None) -> None:
    try:
        settled_scale(spec, base.architecture, ratio=ratio, own=base.scale)
    except SpecError as error:
        raise InvalidSpec(error.message, param=error.param, hint=error.hint) from error


def _find_data(principal: Principal, around: Around, spec: TrainSpec, base: Base, where: References) -> Json:
    """`training_file`, `validation_file` and `dataset` of the spec: files, or a version of a data set."""
    if around.training_file is not None and around.dataset is not None:
        hint = "A data set is made of the file; name one of them."
        raise InvalidSpec("Both training_file and dataset are given.", param="dataset", hint=hint)
    given = around.training_file or around.dataset
    if given is None:
        hint = "Upload an archive with POST /v1/files and give its id, or name a data set."
        raise InvalidSpec("training_file is missing.", param="training_file", hint=hint)
    param = "training_file" if around.dataset is None else "dataset"
    if param == "training_file" and not _is_dataset(given):
        _check_file(principal, where.files, given, param=param)
        if around.validation_file is not None:
            _check_file(principal, where.files, around.validation_file, param="validation_file")
        return {"training_file": given, "validation_file": around.validation_file, "dataset": None}
    if around.validation_file is not None:
        hint = "A data set has its own validation split; leave validation_file out."
        raise InvalidSpec("validation_file goes with a file.", param="validation_file", hint=hint)
    version = where.datasets.get_version(principal, given, param=param)
    if version.task != spec.task:
        what = f"The data set {version.reference} is for {version.task}, not for {spec.task}."
        raise InvalidSpec(what, param=param, hint=f"Name one that is for {spec.task}.")
    _check_labels(spec, version.report)
    if spec.task is Task.SUPER_RESOLUTION:
        _check_scale(spec, base, ratio=version.report.get("ratio"))
    return {"training_file": None, "validation_file": None, "dataset": version.reference}


def _is_dataset(text: str) -> bool:
    """A name that could be a data set's; files have ids that names cannot be taken for."""
    name, colon, number = text.partition(":")
    is_numbered = bool(colon) and number.isdecimal()
    return not text.startswith(_FILE) and is_name(name) and (is_numbered or not (colon or "." in name))


def _check_file(principal: Principal, files: FileService, file_id: str, *, param: str) -> None:
    try:
        files.get(principal, file_id)
    except NotFound as error:
        recent = files.list(principal, limit=_RECENT_FILES).files
        called = [file for file in recent if file.filename == file_id] or recent[:3]
        near = ", ".join(f"{file.id} ({file.filename})" for file in called[:3])
        hint = f"Did you mean {near}?" if near else "POST /v1/files uploads one."
        raise NotFound(error.message, param=param, hint=hint) from error


def _check_labels(spec: TrainSpec, report: Json) -> None:
    labels = report.get("labels")
    if not isinstance(spec.class_weights, dict) or not isinstance(labels, list):
        return
    for label in spec.class_weights:
        if label not in labels:
            near = get_close_matches(label, labels, n=3) or labels[:5]
            hint = f"Did you mean {' or '.join(map(str, near))}?"
            what = f"The data set has no label {label!r}."
            raise InvalidSpec(what, param=f"class_weights.{label}", hint=hint)


# -- what comes of it --------------------------------------------------------------------------------


def _check_output(principal: Principal, around: Around, spec: TrainSpec, registry: Registry) -> None:
    if around.suffix is not None and around.output_model is not None:
        hint = "`suffix` names a new model, `output_model` one that gets a further version."
        raise InvalidSpec("Both suffix and output_model are given.", param="output_model", hint=hint)
    if around.suffix is not None:
        if not is_name(around.suffix):
            what = f"A model cannot be named {around.suffix!r}."
            raise InvalidSpec(what, param="suffix", hint=NAME_RULE)
        if (known := _model(principal, around.suffix, registry)) is not None:
            hint = f'Give "output_model": "{known.name}" for its next version, or another suffix.'
            raise InvalidSpec(f"There is a model {known.name} already.", param="suffix", hint=hint)
    if around.output_model is not None:
        name = around.output_model
        if (known := _model(principal, name, registry)) is None:
            names = [model.name for model in registry.list_models(principal)]
            near = get_close_matches(name, names, n=3, cutoff=0.5) or names[:3]
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            hint += "`suffix` names a new model."
            raise InvalidSpec(f"There is no model {name!r}.", param="output_model", hint=hint)
        if known.task != spec.task:
            what = f"{name} is a {known.task} model; this is for {spec.task}."
            fitting = [model.name for model in registry.list_models(principal) if model.task == spec.task]
            hint = f"These are: {', '.join(fitting[:5])}." if fitting else "`suffix` names a new model."
            raise InvalidSpec(what, param="output_model", hint=hint)


def _model(principal: Principal, name: str, registry: Registry) -> ModelFacts | None:
    try:
        return registry.get_model(principal, name)
    except UnknownModel:
        return None


def _shown_hyperparameters(around: Around, spec: TrainSpec) -> Json:
    """OpenAI's three, with what was said of them at the root."""
    return {
        **hyperparameters(around),
        **({} if spec.n_epochs is None else {"n_epochs": spec.n_epochs}),
        **({} if spec.batch_size is None else {"batch_size": spec.batch_size}),
    }
