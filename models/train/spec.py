"""What a training job is asked to do, checked without torch: names, parameters, combinations.

    raw JSON ──read_spec──► TrainSpec, some fields None ("choose for me")
                               └─ preflight fills them from the data and a measured step ─► frozen in the run

A choice is written as a name, or as an object with the name and parameters:
`"optimizer": "sgd"`, `"adapter": {"method": "lora", "r": 8}`.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.catalogue import CATALOGUE, Kind, Parameters, Row, UnknownMethod
from models.catalogue.losses import Loss
from models.described import with_docstrings
from models.manifest import Task

_BRANCH = re.compile(r"\S*\[.*\]|(constrained-)?(int|float|str)")
_DEFAULT_LOSSES = {Task.SUPER_RESOLUTION: "l1"}
"""Where it is not cross-entropy."""
_TASK_SYNONYMS = {
    "image-classification": "classification",
    "image-segmentation": "segmentation",
    "image-to-image": "super-resolution",
}


class SpecError(ValueError):
    """The spec makes no sense; `param` is the field, dotted."""

    def __init__(self, message: str, *, param: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint


class Choice(BaseModel):
    """A method of the catalogue and what it is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    parameters: dict[str, Any] = {}
    """Checked against the row; without those that were left to their defaults."""

    def row(self, kind: Kind) -> Row:
        """Its row."""
        return CATALOGUE.get(kind, self.method)

    def told(self, kind: Kind) -> Parameters:
        """All its parameters, defaults included."""
        return self.row(kind).parameters.model_validate(self.parameters)


Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EarlyStopping(BaseModel):
    """End when validation has not improved for a while."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patience_epochs: int = Field(default=5, ge=1, le=1000)
    min_delta: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Improvement of the chosen metric that counts."""


class Degradation(BaseModel):
    """What is done to small pictures after they were made smaller, drawn anew for each patch."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=with_docstrings)

    noise: float = Field(default=0.0, ge=0, le=64, allow_inf_nan=False)
    """Largest standard deviation of normal noise, of 255 levels; each patch has one from 0 on."""
    jpeg_quality: int | None = Field(default=None, ge=10, le=100)
    """Lowest quality that a patch is stored as JPEG in, the highest being 95; null: it is not."""


class TrainSpec(BaseModel):
    """One training run. `None` means: chosen from family, data and a measured step."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=with_docstrings)

    task: Task = Task.CLASSIFICATION
    model: str = Field(min_length=1, max_length=128)
    """A model of the registry (training starts from its weights), or an architecture, from scratch."""
    encoder: str | None = Field(default=None, min_length=1, max_length=128)
    """Of segmentation from scratch: a classifier of the registry with whose weights the encoder begins."""
    adapter: Choice = Choice(method="lora")
    optimizer: Choice = Choice(method="adamw")
    schedule: Choice = Choice(method="cosine")
    loss: Choice = Choice(method="cross_entropy")
    sampler: Choice = Choice(method="shuffle")
    augmentation: tuple[Choice, ...] | None = None
    """In this order; empty for none."""
    mixing: Choice | None = None
    learning_rate: float | None = Field(default=None, gt=0, le=10, allow_inf_nan=False)
    """Highest rate of the schedule."""
    head_rate_scale: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)
    """Share of the learning rate that the head, the layer that gives the logits, is trained with."""
    n_epochs: int | None = Field(default=None, ge=1, le=10_000)
    max_steps: int | None = Field(default=None, ge=1, le=100_000_000)
    """Ends the run before its epochs do."""
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    accumulate_steps: int = Field(default=1, ge=1, le=1024)
    """Batches whose gradients make one step."""
    image_size: int | None = Field(default=None, ge=16, le=1024)
    """Side of the square input, pixels; of super-resolution, of the large patches that are learnt from, with
    `fit` = `tiles` of the patches of pictures with masks."""
    fit: Literal["squash", "tiles"] | None = None
    """Of segmentation: `squash`, which null means but for a base that takes windows: pictures are learnt from
    and answered at `image_size`, whatever their sides; `tiles`: both at their own size, in patches of
    `image_size` and in windows."""
    scale: int | None = Field(default=None, ge=2, le=4)
    """Of super-resolution: how many times larger pictures become; null: as base or pairs say, or 2."""
    degradation: Degradation | None = None
    """Of super-resolution from large pictures alone: what small ones suffer besides being small."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast; weights, optimiser state and the exported graph stay fp32."""
    clip_norm: float | None = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Largest norm of all gradients together; null for no clipping."""
    ema_decay: float | None = Field(default=0.98, gt=0, lt=1)
    """Evaluate and publish an exponential moving average of the weights; null for the weights themselves."""
    class_weights: Literal["balanced"] | dict[str, Weight] | None = None
    """Of the loss, by label; `balanced`: inverse to the labels' counts, in masks to their shares of pixels. A
    lone label of masks weighs so much against the rest."""
    early_stopping: EarlyStopping | None = None
    checkpoint_every_steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    threads: int | None = Field(default=None, ge=1, le=256)
    """Processor threads; part of the run's identity, as other numbers give other last bits."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.task is not Task.SUPER_RESOLUTION:
            for name in ("scale", "degradation"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: only super-resolution has one")
        elif self.class_weights is not None:
            raise ValueError("class_weights: super-resolution has no classes")
        if self.fit is not None and self.task is not Task.SEGMENTATION:
            raise ValueError("fit: only segmentation has one")
        if self.encoder is not None and self.task is not Task.SEGMENTATION:
            raise ValueError("encoder: only networks of segmentation have one")
        loss = self.loss.row(Kind.LOSS)
        told = self.loss.told(Kind.LOSS)
        if self.class_weights is not None and getattr(told, "cross_entropy_weight", None) == 0:
            raise ValueError(
                f"class_weights: to {loss.id} labels count alike; cross_entropy_weight adds what they weigh"
            )
        if self.mixing is not None and not (isinstance(loss, Loss) and loss.takes_shares):
            raise ValueError(f"mixing: makes soft targets, which the loss {loss.id!r} does not take")
        return self


CHOICES: Mapping[str, Kind] = {
    "adapter": Kind.ADAPTER,
    "optimizer": Kind.OPTIMIZER,
    "schedule": Kind.SCHEDULE,
    "loss": Kind.LOSS,
    "sampler": Kind.SAMPLER,
    "mixing": Kind.MIXING,
    "augmentation": Kind.AUGMENTATION,
}
"""Fields of a spec that name a method."""


def read_spec(raw: Mapping[str, Any]) -> TrainSpec:
    """Check a spec as a caller wrote it.

    Raises:
        SpecError: names the field that makes no sense and the nearest that would.

    """
    plain = dict(raw)
    for field in plain:
        if field not in TrainSpec.model_fields:
            near = get_close_matches(field, TrainSpec.model_fields, n=3)
            raise SpecError(f"There is no field {field!r}.", param=field, hint=_did_you_mean(near))
    task = plain.get("task")
    if isinstance(task, str):
        plain["task"] = _TASK_SYNONYMS.get(task, task)
        if plain.get("loss") is None and plain["task"] in _DEFAULT_LOSSES:
            plain["loss"] = _DEFAULT_LOSSES[plain["task"]]
    for field, kind in CHOICES.items():
        if plain.get(field) is None:
            continue
        if field == "augmentation":
            given = plain[field] if isinstance(plain[field], list | tuple) else [plain[field]]
            plain[field] = [read_choice(kind, one, param=f"{field}.{at}") for at, one in enumerate(given)]
        else:
            plain[field] = read_choice(kind, plain[field], param=field)
    try:
        return TrainSpec.model_validate(plain)
    except ValidationError as error:
        raise _spec_error(error, within="") from error


def read_choice(kind: Kind, given: object, *, param: str) -> Choice:
    """A method and its parameters, checked against its row. Raises SpecError."""
    if isinstance(given, Choice):
        given = {"method": given.method, **given.parameters}
    if isinstance(given, str):
        given = {"method": given}
    if not isinstance(given, Mapping):
        raise SpecError(f"{param} must be a name, or an object with a method.", param=param)
    method = given.get("method", given.get("name"))
    if not isinstance(method, str):
        raise SpecError(f"{param} names no method.", param=f"{param}.method", hint=_known(kind))
    parameters = {key: value for key, value in given.items() if key not in {"method", "name"}}
    if set(parameters) == {"parameters"} and isinstance(parameters["parameters"], Mapping):  # as we store it
        parameters = dict(parameters["parameters"])
    try:
        row = CATALOGUE.get(kind, method)
    except UnknownMethod as error:
        raise SpecError(str(error), param=f"{param}.method", hint=_did_you_mean(error.nearest)) from error
    for name in parameters:
        if name not in row.parameters.model_fields:
            near = get_close_matches(name, row.parameters.model_fields, n=3)
            takes = ", ".join(row.parameters.model_fields) or "nothing"
            hint = _did_you_mean(near) or f"{method} takes: {takes}."
            raise SpecError(f"{method} has no parameter {name!r}.", param=f"{param}.{name}", hint=hint)
    try:
        told = row.parameters.model_validate(parameters)
    except ValidationError as error:
        raise _spec_error(error, within=f"{param}.") from error
    return Choice(method=row.id, parameters=told.model_dump(mode="json", exclude_unset=True))


def complaint(error: ValidationError) -> tuple[tuple[int | str, ...], str]:
    """The first field that pydantic refuses, and why. Of a union each branch has its say: the last one's is
    taken, for which a wrong value was likeliest meant."""
    told = [(_fields(each["loc"]), str(each["msg"])) for each in error.errors(include_url=False)]
    first = told[0][0]
    return [each for each in told if each[0][: len(first)] == first][-1]


def _fields(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Without pydantic's own names for the branches of unions."""
    return tuple(part for part in location if not (isinstance(part, str) and _BRANCH.fullmatch(part)))


def _spec_error(error: ValidationError, *, within: str) -> SpecError:
    path, message = complaint(error)
    param = (within + ".".join(map(str, path))).rstrip(".") or "body"
    message = message.removeprefix("Value error, ")
    if not path and ": " in message:
        param, _, message = message.partition(": ")
    return SpecError(f"{param}: {message.rstrip('.')}.", param=param, hint=_SEE)


_SEE = "GET /v1/catalog lists what there is."


def _known(kind: Kind) -> str:
    return f"Known: {', '.join(row.id for row in CATALOGUE.find(kind=kind))}."


def _did_you_mean(near: list[str]) -> str | None:
    return f"Did you mean {' or '.join(near)}?" if near else None
