"""Names of models and what points at a version: `name`, `name@alias`, `name:3`.

A name is one path segment, a Hub repository id, an MLflow name and a Triton name at once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import InvalidRequest, UnknownVersion

DEFAULT_ALIAS = "default"
MAX_NUMBER = 999_999_999
"""No version has a larger number."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_CHECKPOINT = re.compile(r"ckpt-[0-9]+")
NAME_RULE = (
    "1 to 64 of a-z, 0-9, '.', '_', '-'; begins and ends with a letter or digit; holds neither '--' nor '..'."
)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a caller wrote for a model. At most one of `alias` and `number` is set; neither: `default`."""

    name: str
    alias: str | None = None
    number: int | None = None

    @property
    def is_checkpoint(self) -> bool:
        """It names what a training was at a step, `name@ckpt-120`."""
        return self.alias is not None and _CHECKPOINT.fullmatch(self.alias) is not None

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.name}:{self.number}"
        return self.name if self.alias is None else f"{self.name}@{self.alias}"


def is_name(text: str) -> bool:
    """Whether a model may be called so."""
    return _NAME.fullmatch(text) is not None and "--" not in text and ".." not in text


def check_model_name(text: str) -> str:
    """The name itself, or InvalidRequest with the rule."""
    if not is_name(text):
        raise InvalidRequest(f"A model cannot be named {text!r}.", param="name", hint=NAME_RULE)
    return text


def check_alias_name(text: str) -> str:
    """The alias itself, or InvalidRequest: it must not look like a version number or a checkpoint."""
    if not is_name(text) or text.isdigit() or _CHECKPOINT.fullmatch(text):
        hint = f"{NAME_RULE} Digits alone are version numbers, `ckpt-<step>` are checkpoints."
        raise InvalidRequest(f"An alias cannot be named {text!r}.", param="alias", hint=hint)
    return text


def split_number(text: str) -> tuple[str, int | None] | None:
    """Name and number of `name:number`, or of a bare name; None if the text is neither."""
    name, colon, number = text.partition(":")
    if not is_name(name) or (colon and not _NUMBER.fullmatch(number)):
        return None
    return name, int(number) if colon else None


def checkpoint_alias(step: int) -> str:
    """The alias of what a training was at a step."""
    return f"ckpt-{step}"


def unknown_alias(name: str, alias: str, known: Iterable[str], *, param: str) -> UnknownVersion:
    """What to say to an alias that a model does not have; of a checkpoint, how it gets it."""
    if _CHECKPOINT.fullmatch(alias):
        hint = (
            f"A checkpoint has to be published first: `athanor jobs publish-checkpoint JOB {alias}`, "
            f"or POST /v1/fine_tuning/jobs/JOB/checkpoints/{alias}/publish."
        )
        return UnknownVersion(f"There is no {name}@{alias}.", param=param, hint=hint)
    hint = f"It has: {', '.join(sorted(known)) or 'none'}."
    return UnknownVersion(f"{name} has no alias {alias!r}.", param=param, hint=hint)


def parse_reference(text: str) -> Reference:
    """Read `name`, `name@alias` or `name:number`.

    Raises:
        InvalidRequest: the text is none of them. (Whether the model exists is not looked at.)

    """
    if (numbered := split_number(text)) is not None:
        return Reference(name=numbered[0], number=numbered[1])
    name, at, alias = text.partition("@")
    if at and is_name(name) and is_name(alias):
        return Reference(name=name, alias=alias)
    raise InvalidRequest(
        f"{text!r} is not a model reference.",
        param="model",
        hint=f"Write `name`, `name@alias` or `name:3`. A name has {NAME_RULE}",
    )
