"""Names of data sets: `flowers` is its newest version, `flowers:3` is that one. Names are as models' are."""

import re

from app.errors import InvalidRequest
from app.registry.reference import NAME_RULE, is_name

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def check_dataset_name(text: str) -> str:
    """The name itself, or InvalidRequest with the rule."""
    if not is_name(text):
        raise InvalidRequest(f"A data set cannot be named {text!r}.", param="name", hint=NAME_RULE)
    return text


def parse_dataset(text: str, *, param: str = "dataset") -> tuple[str, int | None]:
    """Name and number of `name:number`; without a number, the newest is meant.

    Raises:
        InvalidRequest: the text is neither. (Whether the data set exists is not looked at.)

    """
    name, colon, number = text.partition(":")
    if is_name(name) and (not colon or _NUMBER.fullmatch(number)):
        return name, int(number) if colon else None
    hint = f"Write `name` or `name:3`. A name has {NAME_RULE}"
    raise InvalidRequest(f"{text!r} is not a data set.", param=param, hint=hint)
