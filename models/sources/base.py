"""What every source is, what a fetch needs, and how it fails.

`Source.fetch` is the same story for every scheme: a file with the promised hash in the cache is
returned without touching the network; else the scheme brings the bytes into the work folder, their hash
is checked, and, if the hash had been promised, they are moved into the cache for the next time.
"""

import hashlib
import re
import shutil
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

Progress = Callable[[int, int | None], None]
"""Told (bytes so far, bytes in all or None when unknown)."""

_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class SourceCode(StrEnum):
    """Why a source gave nothing."""

    INVALID = "source_invalid"
    """The URI, or a hash beside it, is malformed or lacks something."""
    UNAVAILABLE = "source_unavailable"
    """Network, index, hub or file did not deliver."""
    FORBIDDEN = "source_forbidden"
    """It points where Athanor does not go."""
    MISSING = "source_missing"
    """The place answers and has no such file."""
    TOO_LARGE = "source_too_large"
    """More bytes than the limit."""
    HASH_MISMATCH = "source_hash_mismatch"
    """The bytes are not the promised ones."""


class SourceError(Exception):
    """A source gave nothing usable; `hint` says what to do."""

    def __init__(self, code: SourceCode, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def ignore_progress(done_bytes: int, total_bytes: int | None) -> None:
    """For callers that do not watch."""


@dataclass(frozen=True, kw_only=True)
class FetchContext:
    """Where and within which bounds to fetch."""

    work_dir: Path
    """An existing folder of the caller's; what is left in it is the caller's to remove."""
    cache_dir: Path | None = None
    """Files by their SHA-256; None keeps nothing."""
    progress: Progress = ignore_progress
    limit_bytes: int = 4 * 2**30
    """Largest file, and largest archive around it."""
    timeout_s: float = 1800.0
    """Longest time for one download."""
    trusted_hosts: frozenset[str] = frozenset()
    """Host names `https:` may reach although their address is not a public one."""
    tls: ssl.SSLContext | None = None
    """Certificates `https:` trusts; None: the system's."""
    hub_endpoint: str | None = None
    """The Hub's address; None: what HF_ENDPOINT says, else huggingface.co."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file with a known hash. In the cache it is shared: read it, do not change it."""

    path: Path
    sha256: str
    size_bytes: int = field(compare=False)


class Source(ABC):
    """One file somewhere."""

    uri: str
    is_local: bool = False
    """It names a file of this machine: for the operator's own use, never from an HTTP caller."""
    must_pin: bool = True
    """Nothing else vouches for the bytes, so a SHA-256 has to be given."""

    @property
    @abstractmethod
    def file_name(self) -> str:
        """Last segment of the file's path, for telling formats apart."""

    @abstractmethod
    def bring(self, context: FetchContext, *, archive_sha256: str | None) -> Path:
        """Put the file into the work folder. Raises SourceError."""

    def fetch(
        self,
        context: FetchContext,
        *,
        expect_sha256: str | None = None,
        archive_sha256: str | None = None,
    ) -> Fetched:
        """The file, with its hash checked; from the cache if it is there.

        `archive_sha256` pins what the file is taken out of as well (`pypi:` only).

        Raises:
            SourceError: with a code of SourceCode, what was expected and what came.

        """
        self._check_pins(expect_sha256, archive_sha256)
        if (known := _cached(context, expect_sha256)) is not None:
            return known
        path = self.bring(context, archive_sha256=archive_sha256)
        sha256 = file_sha256(path)
        if expect_sha256 is not None and sha256 != expect_sha256:
            raise mismatch(self.uri, expected=expect_sha256, got=sha256)
        size_bytes = path.stat().st_size
        if expect_sha256 is not None and context.cache_dir is not None and not self.is_local:
            path = _keep(path, context.cache_dir, sha256)
        return Fetched(path=path, sha256=sha256, size_bytes=size_bytes)

    def _check_pins(self, *pins: str | None) -> None:
        for pin in pins:
            if pin is not None and not _SHA256.fullmatch(pin):
                raise SourceError(
                    SourceCode.INVALID,
                    f"{pin!r} is not a SHA-256.",
                    hint="Give 64 hexadecimal digits in lower case.",
                )
        if self.must_pin and pins[0] is None:
            raise SourceError(
                SourceCode.INVALID,
                f"{self.uri} needs the SHA-256 of the file.",
                hint="Give `sha256`: what `sha256sum FILE` prints for the file you trust.",
            )


def mismatch(what: str, *, expected: str, got: str) -> SourceError:
    """The error for bytes that are not the promised ones."""
    return SourceError(
        SourceCode.HASH_MISMATCH,
        f"{what} has SHA-256 {got}, expected {expected}.",
        hint="The file was changed or the pin is wrong. Do not use it before you know which.",
    )


def too_large(what: str, limit_bytes: int) -> SourceError:
    """The error for more bytes than the limit."""
    return SourceError(
        SourceCode.TOO_LARGE,
        f"{what} is over the limit of {limit_bytes} bytes.",
        hint="Use a smaller file.",
    )


def too_slow(what: str, timeout_s: float) -> SourceError:
    """The error for bytes that do not arrive in time."""
    return SourceError(
        SourceCode.UNAVAILABLE,
        f"{what} took longer than {timeout_s:.0f} s.",
        hint="Try again with a better connection.",
    )


def copy_bounded(
    reader: IO[bytes], target: Path, *, what: str, context: FetchContext, total_bytes: int | None
) -> None:
    """Copy a stream into a file: never more than the limit, whatever the stream had announced, and never
    longer than the time limit, however slowly it drips."""
    done = 0
    ends = time.monotonic() + context.timeout_s
    with target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            done += len(chunk)
            if done > context.limit_bytes:
                raise too_large(what, context.limit_bytes)
            if time.monotonic() > ends:
                raise too_slow(what, context.timeout_s)
            writer.write(chunk)
            context.progress(done, total_bytes)


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def _cached(context: FetchContext, sha256: str | None) -> Fetched | None:
    if context.cache_dir is None or sha256 is None:
        return None
    path = context.cache_dir / sha256
    if not path.is_file() or file_sha256(path) != sha256:
        return None
    size_bytes = path.stat().st_size
    context.progress(size_bytes, size_bytes)
    return Fetched(path=path, sha256=sha256, size_bytes=size_bytes)


def _keep(path: Path, cache_dir: Path, sha256: str) -> Path:
    cache_dir.mkdir(parents=True, exist_ok=True)
    kept = cache_dir / sha256
    # The work folder may be on another file system: copied first, so that the rename is atomic.
    with path.open("rb") as reader, NamedTemporaryFile(dir=cache_dir, delete=False) as writer:
        shutil.copyfileobj(reader, writer)
    Path(writer.name).replace(kept)
    path.unlink()
    return kept
