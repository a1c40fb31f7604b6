"""Pictures too large to wait for become jobs: the picture is kept as a file, and a job refers to it."""

from typing import Any

from app.access.principal import Principal
from app.files.service import FileService
from app.jobs.job import Job
from app.jobs.service import JobService
from app.upscaling.enlargement import Enlargement

KIND = "super_resolution"
SOURCE_PURPOSE = "super_resolution"
RESULT_PURPOSE = "super_resolution_result"


class UpscaleSubmissions:
    """Makes the jobs. Blocking."""

    def __init__(self, files: FileService, jobs: JobService) -> None:
        self._files = files
        self._jobs = jobs

    def submit(self, principal: Principal, data: bytes, *, model: str, enlargement: Enlargement) -> Job:
        """Queue a job for an encoded picture and a `name:version`.

        Raises StorageUnavailable, and as `JobService.create`: then no file is left.
        """
        with self._files.begin() as upload:
            upload.write(data)
            facts = self._files.commit(principal, upload, filename="picture", purpose=SOURCE_PURPOSE)
        spec: dict[str, Any] = {
            "source": f"file:{facts.id}",
            "model": model,
            "scale": enlargement.scale,
            "format": enlargement.format.name,
            "quality": enlargement.quality,
        }
        try:
            return self._jobs.create(principal, kind=KIND, spec=spec)
        except BaseException:
            self._files.delete(principal, facts.id)
            raise
