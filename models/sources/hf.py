"""`hf:org/name@revision#file`: a file of a Hugging Face Hub repository.

The revision has to be named; a commit hash makes it immutable. huggingface_hub brings its own retries,
resumption, proxies and tokens, and reads HF_ENDPOINT.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from models.sources.base import FetchContext, Source, SourceCode, SourceError, too_large

_SEGMENT = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_FORM = re.compile(
    rf"hf:(?P<repo>{_SEGMENT}(?:/{_SEGMENT})?)@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{{0,127}})#(?P<file>.{{1,500}})"
)


@dataclass(frozen=True)
class HubSource(Source):
    """One file at one revision of one repository."""

    uri: str
    repo: str
    revision: str
    file: str
    must_pin = False

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return PurePosixPath(self.file).name

    def bring(self, context: FetchContext, *, archive_sha256: str | None) -> Path:
        """Ask for its size, then download it."""
        del archive_sha256
        # Imported here: it costs 0.3 s and only this scheme needs it.
        from httpx2 import TransportError  # noqa: PLC0415 - what huggingface_hub lets through
        from huggingface_hub import (  # noqa: PLC0415
            get_hf_file_metadata,
            hf_hub_download,
            hf_hub_url,
        )
        from huggingface_hub.errors import (  # noqa: PLC0415
            EntryNotFoundError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        endpoint = context.hub_endpoint
        try:
            url = hf_hub_url(self.repo, self.file, revision=self.revision, endpoint=endpoint)
            size_bytes = get_hf_file_metadata(url, endpoint=endpoint).size
            if size_bytes is not None and size_bytes > context.limit_bytes:
                raise too_large(self.uri, context.limit_bytes)
            context.progress(0, size_bytes)
            path = Path(
                hf_hub_download(
                    self.repo,
                    self.file,
                    revision=self.revision,
                    cache_dir=context.work_dir / "hub",
                    endpoint=endpoint,
                )
            ).resolve()
        except LocalEntryNotFoundError as error:
            raise self._unavailable(error) from error
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise SourceError(
                SourceCode.MISSING,
                f"The Hub has no {self.file!r} in {self.repo} at {self.revision}.",
                hint="Check repository, revision and file; a private repository needs HF_TOKEN.",
            ) from error
        except (HfHubHTTPError, TransportError, OSError) as error:
            raise self._unavailable(error) from error
        context.progress(path.stat().st_size, size_bytes)
        return path

    def _unavailable(self, error: Exception) -> SourceError:
        return SourceError(
            SourceCode.UNAVAILABLE,
            f"The Hub did not give {self.uri}: {str(error).splitlines()[0][:300] if str(error) else error!r}",
            hint="Check the connection and HF_ENDPOINT, then try again.",
        )


def parse_hf(uri: str) -> HubSource:
    """`hf:org/name@revision#file`."""
    match = _FORM.fullmatch(uri)
    path = PurePosixPath(match["file"]) if match else PurePosixPath()
    if match is None or path.is_absolute() or ".." in path.parts or ".." in match["revision"]:
        raise SourceError(
            SourceCode.INVALID,
            f"{uri!r} does not name repository, revision and file.",
            hint="Write hf:org/name@revision#path/of/file; the revision may be a commit, a tag or `main`.",
        )
    return HubSource(uri=uri, repo=match["repo"], revision=match["revision"], file=match["file"])
