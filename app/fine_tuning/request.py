"""What a caller writes to ask for a training: OpenAI's fields, ours around the training, and the training's.

    body ──split──► Around (checked here) + fields of models.train.spec.TrainSpec (checked there)

All three stand side by side at the root of the body, because OpenAI's client merges `extra_body` there.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.errors import InvalidSpec
from models.described import with_docstrings
from models.train.spec import SpecError, TrainSpec, complaint, read_spec

Json = dict[str, Any]

MAX_BODY_BYTES = 2**20
_Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]
_MAX_METADATA = 16
_KEPT = ("priority", "time_limit_s")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=with_docstrings)


class Hyperparameters(_Part):
    """OpenAI's three; `auto` leaves the choice to Athanor."""

    n_epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=10_000)] = "auto"
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"
    learning_rate_multiplier: (
        Literal["auto"] | Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
    ) = "auto"
    """Of the rate that would be chosen otherwise; 1 and `auto` are the same."""


class Supervised(_Part):
    """The one method there is."""

    hyperparameters: Hyperparameters | None = None


class Method(_Part):
    """OpenAI's way to say how to train. How Athanor trains is said by `adapter`, `optimizer`, `loss`, …"""

    type: Literal["supervised"] = "supervised"
    supervised: Supervised | None = None


class Around(_Part):
    """What a request says besides how to train."""

    training_file: _Id | None = None
    """Id of an uploaded file, of which a data set is made on the way; or a data set, `name` or `name:3`."""
    validation_file: _Id | None = None
    """Id of an uploaded file to validate with; without it, a share of the training file is kept for that."""
    dataset: _Id | None = None
    """A data set, `name` or `name:3`, instead of `training_file`."""
    suffix: _Id | None = None
    """Name of the new model; `{base}-{end of the job's id}` without it."""
    output_model: _Id | None = None
    """A model that gets a further version, instead of a new one."""
    metadata: Annotated[dict[_Key, _Value], Field(max_length=_MAX_METADATA)] | None = None
    """Up to 16 strings to find the job by."""
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    """OpenAI's older place for what `method` says."""
    integrations: Annotated[list[Json], Field(max_length=0)] | None = None
    """None is supported: metrics are among the events."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Higher is taken up first."""
    time_limit_s: float | None = Field(default=None, gt=0, le=30 * 24 * 3600, allow_inf_nan=False)
    """Seconds of running, over all attempts, after which the job fails."""


FIELDS = (*TrainSpec.model_fields, *Around.model_fields)
"""Everything that a request can say."""


def read_request(raw: Mapping[str, Any]) -> tuple[Around, TrainSpec]:
    """Check a request's fields, names and combinations; what it refers to is not looked for.

    Raises:
        InvalidSpec: names the field that makes no sense and the nearest that would.

    """
    check_storable(raw)
    for field in raw:
        if field not in FIELDS:
            raise InvalidSpec(f"There is no field {field!r}.", param=field, hint=_nearest(field, FIELDS))
    around = _read_around({field: value for field, value in raw.items() if field in Around.model_fields})
    training = {
        field: value
        for field, value in raw.items()
        if field in TrainSpec.model_fields and (value is not None or _takes_null(field))
    }
    training |= _from_hyperparameters(around, training)
    try:
        return around, read_spec(training)
    except SpecError as error:
        refusal = InvalidSpec(error.message, param=error.param, hint=error.hint)
        raise _unknown_key(error.__cause__, TrainSpec) or refusal from error


def hyperparameters(around: Around) -> dict[str, int | float | str]:
    """OpenAI's three as asked for, wherever that was said."""
    given = around.hyperparameters or Hyperparameters()
    if around.method is not None and around.method.supervised is not None:
        given = around.method.supervised.hyperparameters or given
    return given.model_dump()


def _read_around(given: Json) -> Around:
    try:
        return Around.model_validate(given)
    except ValidationError as error:
        path, message = complaint(error)
        param = _dotted(path)
        if param == "integrations":
            message = "No integration is supported; metrics are among the job's events"
        refusal = InvalidSpec(f"{param}: {message}.", param=param)
        raise _unknown_key(error, Around) or refusal from error


def _from_hyperparameters(around: Around, training: Json) -> Json:
    """Fields of the spec that are said in OpenAI's places."""
    _check_said_once(around)
    said: Json = {}
    for name, value in hyperparameters(around).items():
        if value == "auto":
            continue
        if name == "learning_rate_multiplier":
            if "learning_rate" in training:
                hint = (
                    "The multiplier is of the rate that is chosen when none is given: leave one of them out."
                )
                raise InvalidSpec("Two learning rates are given.", param="learning_rate", hint=hint)
        elif training.get(name, value) != value:
            hint = f"It is {training[name]} at the root and {value} among the hyperparameters: say it once."
            raise InvalidSpec(f"{name} is given twice.", param=name, hint=hint)
        else:
            said[name] = value
    return said


def _check_said_once(around: Around) -> None:
    newer = around.method.supervised if around.method is not None else None
    said = [part for part in (around.hyperparameters, newer and newer.hyperparameters) if part is not None]
    if len(said) == 2 and said[0] != said[1]:
        hint = "Keep those of `method`."
        raise InvalidSpec("The hyperparameters are given twice.", param="hyperparameters", hint=hint)


def check_storable(raw: Mapping[str, Any]) -> None:
    """What is stored must be JSON and Unicode: Python reads NaN and half characters, databases do not."""
    try:
        size = len(orjson.dumps(dict(raw)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSpec("The body holds what cannot be stored.", param="body", hint=str(error)) from error
    if size > MAX_BODY_BYTES:
        raise InvalidSpec(f"The body is longer than {MAX_BODY_BYTES} bytes.", param="body")
    if _holds(raw, "\0") or not _is_finite(raw):
        hint = "Leave out NaN, infinities and NUL."
        raise InvalidSpec("The body holds what cannot be stored.", param="body", hint=hint)


def _holds(value: object, character: str) -> bool:
    if isinstance(value, str):
        return character in value
    if isinstance(value, Mapping):
        return any(_holds(part, character) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(_holds(part, character) for part in value)


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return abs(value) < float("inf")  # false for NaN too
    if isinstance(value, Mapping):
        return all(_is_finite(part) for part in value.values())
    return not isinstance(value, list) or all(_is_finite(part) for part in value)


def _takes_null(field: str) -> bool:
    """Null means something else than leaving it out: `clip_norm: null` clips no gradient."""
    told = TrainSpec.model_fields.get(field)
    return told is not None and told.default is not None and NoneType in get_args(told.annotation)


def _unknown_key(error: BaseException | None, within: type[BaseModel]) -> InvalidSpec | None:
    """What to say of a key that a nested object does not have: the nearest that it has."""
    if not isinstance(error, ValidationError):
        return None
    if error.errors(include_url=False)[0]["type"] != "extra_forbidden":
        return None
    *path, key = complaint(error)[0]
    model: type[BaseModel] | None = within
    for part in path:
        if model is None or part not in model.model_fields:
            return None
        model = _model_in(model.model_fields[str(part)].annotation)
    hint = None if model is None else _nearest(str(key), tuple(model.model_fields))
    return InvalidSpec(f"{_dotted(path)} has no {key!r}.", param=_dotted([*path, key]), hint=hint)


def _dotted(path: Sequence[int | str]) -> str:
    return ".".join(map(str, path))


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."


def request_of(spec: Mapping[str, Any]) -> Json:
    """The request that a job was made by, as far as its spec tells; what was left out stays out."""
    openai = spec.get("openai") or {}
    train = TrainSpec.model_validate(spec["train"])
    raw: Json = train.model_dump(mode="json", exclude_defaults=True)
    raw |= {"task": train.task.value, "adapter": train.adapter.model_dump(mode="json")}
    raw["model"] = openai.get("model") or train.model
    raw["encoder"] = openai.get("encoder") or train.encoder
    for field in ("training_file", "validation_file", "dataset", "output_model", "suffix"):
        raw[field] = spec.get(field)
    raw["metadata"] = openai.get("metadata")
    return {field: value for field, value in raw.items() if value is not None or _takes_null(field)}


def apply_changes(raw: Json, changes: Mapping[str, Any]) -> None:
    """Change fields of a request in place. `adapter.r` reaches into an object; a method that was only named
    becomes one.

    Raises InvalidSpec for a name that reaches into something else.
    """
    for key, value in changes.items():
        if key in _KEPT:
            raise InvalidSpec(f"{key} stays as it was when a job runs again.", param=key)
        *path, last = key.split(".")
        place = raw
        for part in path:
            inner = place.get(part)
            if inner is not None and not isinstance(inner, str | dict):
                raise InvalidSpec(f"{part} has no fields.", param=key, hint=f"Give {part} as a whole.")
            place[part] = dict(inner) if isinstance(inner, dict) else {"method": inner} if inner else {}
            place = place[part]
            if isinstance(place.get("parameters"), dict):  # as specs store a method
                place |= place.pop("parameters")
        place[last] = value
