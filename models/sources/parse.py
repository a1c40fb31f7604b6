"""From a URI to the source that can fetch it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from models.sources.base import Source, SourceCode, SourceError
from models.sources.file import parse_file
from models.sources.hf import parse_hf
from models.sources.https import parse_https
from models.sources.pypi import parse_pypi

_PARSERS: Mapping[str, Callable[[str], Source]] = MappingProxyType(
    {"pypi": parse_pypi, "hf": parse_hf, "https": parse_https, "file": parse_file}
)


def parse_source(uri: str) -> Source:
    """The source a URI names; touches neither network nor disk.

    Raises:
        SourceError: `source_invalid`, with the forms that are understood.

    """
    scheme, colon, _ = uri.partition(":")
    parser = _PARSERS.get(scheme.lower()) if colon else None
    if parser is None:
        raise SourceError(
            SourceCode.INVALID,
            f"{uri!r} names no known kind of source.",
            hint="Known: pypi:package==version#path, hf:org/name@revision#file, https://…, file:/….",
        )
    return parser(uri)
