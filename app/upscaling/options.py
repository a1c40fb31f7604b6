"""What a caller of super-resolution may choose, in the query, a form or under `parameters`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from app.errors import InvalidRequest, unknown_option
from app.registry.reference import parse_reference
from models.tasks.encoding import FORMATS

SCALES = (2, 3, 4)
DENOISE_LEVELS = (0, 1, 2, 3)
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """Checked choices; None where the caller left it open."""

    model: str
    scale: int | None = None
    """None: the network's own."""
    denoise: int | None = None
    format: str | None = None
    """A key of `FORMATS`; None: by `Accept`, else PNG."""
    quality: int = 90
    depth: int | None = None
    """8: pictures of 16 bits may lose what is below that."""
    background: bool | None = None
    """True: a job, however small; False: never; None: for what would take long."""

    @property
    def reference(self) -> str:
        """The model that answers. Its levels of denoising are models of their own, named after it.

        Raises InvalidRequest.
        """
        if self.denoise is None:
            return self.model
        parsed = parse_reference(self.model)
        if parsed.alias is not None or parsed.number is not None:
            raise InvalidRequest(
                "denoise goes with a model's bare name.",
                param="denoise",
                hint=f"Name {parsed.name}-denoise-{self.denoise} with its alias or version instead.",
            )
        return f"{parsed.name}-denoise-{self.denoise}"


def changed(options: UpscaleOptions, given: Mapping[str, object]) -> UpscaleOptions:
    """`options` with what was given. Raises InvalidRequest, which names the nearest option."""
    for name, value in given.items():
        read = _READERS.get(name)
        if read is None:
            raise unknown_option(name, tuple(_READERS))
        options = replace(options, **{name: read(name, value)})
    return options


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name} needs a value.", param=name)
    return value


def _one_of(*allowed: int) -> Callable[[str, object], int]:
    def read(name: str, value: object) -> int:
        number = _number(value)
        if number not in allowed:
            listed = ", ".join(map(str, allowed))
            raise InvalidRequest(f"{name} must be one of {listed}.", param=name)
        return number

    return read


def _quality(name: str, value: object) -> int:
    number = _number(value)
    if not 1 <= number <= 100:
        raise InvalidRequest(f"{name} must be an integer from 1 to 100.", param=name)
    return number


def _number(value: object) -> int:
    """A whole number, written as a number or as digits; -1 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _truth(name: str, value: object) -> bool:
    truth = _TRUTHS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(truth, bool):
        raise InvalidRequest(f"{name} must be true or false.", param=name)
    return truth


def _format(name: str, value: object) -> str:
    known = "jpeg" if value == "jpg" else value
    if known not in FORMATS:
        near = get_close_matches(str(value), FORMATS, n=1)
        hint = f"Did you mean {near[0]}?" if near else None
        raise InvalidRequest(f"{name} must be one of {', '.join(FORMATS)}.", param=name, hint=hint)
    return str(known)


_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "model": _text,
    "scale": _one_of(*SCALES),
    "denoise": _one_of(*DENOISE_LEVELS),
    "format": _format,
    "quality": _quality,
    "depth": _one_of(8),
    "background": _truth,
}
