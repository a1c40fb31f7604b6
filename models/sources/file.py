"""`file:/absolute/path`: a file of the operator's own."""

from dataclasses import dataclass
from pathlib import Path

from models.sources.base import FetchContext, Source, SourceCode, SourceError, too_large


@dataclass(frozen=True)
class FileSource(Source):
    """A file on this machine, used where it lies."""

    uri: str
    path: Path
    is_local = True
    must_pin = False

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return self.path.name

    def bring(self, context: FetchContext, *, archive_sha256: str | None) -> Path:
        """The file itself; nothing is copied."""
        del archive_sha256
        if not self.path.is_file():
            raise SourceError(SourceCode.MISSING, f"There is no file {self.path}.", hint="Check the path.")
        if self.path.stat().st_size > context.limit_bytes:
            raise too_large(self.uri, context.limit_bytes)
        return self.path


def parse_file(uri: str) -> FileSource:
    """`file:/a/b` or `file:///a/b`."""
    text = uri.partition(":")[2]
    path = Path(text.removeprefix("//"))
    if not path.is_absolute() or "\0" in text:
        raise SourceError(
            SourceCode.INVALID, f"{uri!r} is not an absolute path.", hint="Write file:/absolute/path."
        )
    return FileSource(uri=uri, path=path)
