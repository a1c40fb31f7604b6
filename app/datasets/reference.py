"""Names of data sets: `flowers` is its newest version, `flowers:3` is that one. Names are as models' are."""

from app.errors import InvalidRequest
from app.registry.reference import NAME_RULE, is_name, split_number


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
    if (numbered := split_number(text)) is not None:
        return numbered
    hint = f"Write `name` or `name:3`. A name has {NAME_RULE}"
    raise InvalidRequest(f"{text!r} is not a data set.", param=param, hint=hint)
