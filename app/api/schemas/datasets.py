"""Bodies of `/v1/datasets`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.api.schemas.jobs import JobErrorObject
from app.datasets.dataset import DatasetFacts, DatasetStatus, DatasetVersionFacts, Making
from app.datasets.packs import ImageFacts, ImagePage
from app.datasets.plan import MAX_FILES, DatasetPlan
from models.data.pack import Split
from models.manifest import Task

FileId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
_USUAL_SHARE = 0.1
_Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class DatasetOptions(BaseModel):
    """How the files are read. What is left out is up to the job."""

    model_config = ConfigDict(extra="forbid")

    validation_share: _Share | None = Field(
        default=None, description="Share of the images that choose the checkpoint; 0.1 unless told."
    )
    test_share: _Share | None = Field(
        default=None, description="Share of the images that are held out; 0.1 unless told."
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Of the split; 0 unless told."
    )
    skip_broken: bool | None = Field(
        default=None, description="Leave broken files out and list them, where otherwise one refuses all."
    )

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Self:
        shares = (self.validation_share, self.test_share)
        if sum(_USUAL_SHARE if share is None else share for share in shares) >= 1.0:
            raise ValueError("validation_share and test_share leave nothing to train on")
        return self


class DatasetRequest(BaseModel):
    """Uploaded files that shall become a data set version."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="A new data set, or one that gets a further version; the base's name without it.",
    )
    task: Task = Task.CLASSIFICATION
    file_id: FileId | None = None
    file_ids: list[FileId] = Field(default=[], max_length=MAX_FILES)
    base: str | None = Field(
        default=None,
        min_length=1,
        max_length=80,
        description="`name:3`, or `name` for its newest version: the files are added to it.",
    )
    options: DatasetOptions = DatasetOptions()

    def plan(self) -> DatasetPlan:
        """The same in the application's terms."""
        return DatasetPlan(
            name=self.name,
            task=self.task,
            file_ids=[*([] if self.file_id is None else [self.file_id]), *self.file_ids],
            base=self.base,
            options=self.options.model_dump(exclude_none=True),
        )


class ImageFilter(BaseModel):
    """Which images of a version are listed."""

    split: Split | None = None
    label: str | None = Field(default=None, max_length=1024)
    limit: int = Field(default=100, ge=1, le=1000)
    after: int = Field(default=-1, ge=-1, le=2**31 - 1, description="Index of the last image seen.")


class ProblemObject(BaseModel):
    """Something that is wrong with the files."""

    file: str | None = None
    line: int | None = None
    message: str
    hint: str | None = None


class DatasetObject(BaseModel):
    """A data set: a named line of versions."""

    id: str = Field(description="Its name.")
    object: Literal["dataset"] = "dataset"
    task: Task
    created_at: int = Field(description="UTC, seconds since the epoch.")
    status: DatasetStatus = Field(
        description="Of the last thing asked of it: `validating`, `ready`, or `failed` with `error`. "
        "Versions made before stay as they are."
    )
    job_id: str | None = Field(description="The newest job that was asked to make a version.")
    error: JobErrorObject | None
    problems: list[ProblemObject] = Field(description="All that was wrong with the files that were refused.")
    latest: int | None = Field(description="Its newest version, which the bare name means.")
    versions: list[int]
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "flowers",
                "object": "dataset",
                "task": "classification",
                "created_at": 1767225600,
                "status": "ready",
                "job_id": "job_06d4rkbb8zyq5xq2m8c7t5nn",
                "error": None,
                "problems": [],
                "latest": 1,
                "versions": [1],
            }
        }
    )

    @classmethod
    def of(cls, facts: DatasetFacts) -> "DatasetObject":
        """The data set as the API shows it."""
        making = facts.making
        failed = making if facts.status is DatasetStatus.FAILED else None
        return cls(
            id=facts.name,
            task=Task(facts.task),
            created_at=int(facts.created_at),
            status=facts.status,
            job_id=None if making is None else making.job_id,
            error=None if failed is None else _error(failed),
            problems=[] if failed is None else [ProblemObject(**problem) for problem in failed.problems],
            latest=facts.numbers[-1] if facts.numbers else None,
            versions=list(facts.numbers),
        )


def _error(making: Making) -> JobErrorObject:
    if making.error is not None:
        return JobErrorObject(**making.error)
    return JobErrorObject(code="cancelled", message=f"The job {making.job_id} was cancelled.")


class DatasetList(BaseModel):
    """All data sets of the caller."""

    object: Literal["list"] = "list"
    data: list[DatasetObject]


class DatasetVersionObject(BaseModel):
    """An immutable version of a data set."""

    id: str = Field(description="`name:version`.")
    object: Literal["dataset.version"] = "dataset.version"
    dataset: str
    version: int = Field(ge=1)
    task: Task
    created_at: int = Field(description="UTC, seconds since the epoch.")
    bytes: int = Field(ge=0, description="Size of all images and their index, bytes.")
    sha256: str = Field(description="Hash of them.")
    job_id: str | None = Field(description="The job that made it.")
    source: dict[str, Any] = Field(description="Files, base and options that it was made from.")
    report: dict[str, Any] = Field(
        description="What validation found: counts by split and label, sizes, duplicates, what was left out."
    )

    @classmethod
    def of(cls, facts: DatasetVersionFacts) -> "DatasetVersionObject":
        """The version as the API shows it."""
        return cls(
            id=facts.reference,
            dataset=facts.name,
            version=facts.number,
            task=Task(facts.task),
            created_at=int(facts.created_at),
            bytes=facts.size_bytes,
            sha256=facts.sha256,
            job_id=facts.job_id,
            source=facts.source,
            report=facts.report,
        )


class DatasetVersionList(BaseModel):
    """All versions of a data set, oldest first."""

    object: Literal["list"] = "list"
    data: list[DatasetVersionObject]


class ImageObject(BaseModel):
    """One image of a version."""

    object: Literal["dataset.image"] = "dataset.image"
    index: int = Field(ge=0, description="Its place in the version; stays for ever.")
    name: str = Field(description="Its path in the file it came from.")
    label: str
    split: Split
    width: int = Field(ge=1, description="Stored size, pixels.")
    height: int = Field(ge=1, description="Stored size, pixels.")
    bytes: int = Field(ge=0, description="Size, bytes.")
    sha256: str
    url: str = Field(description="Where to get it, relative to this server.")

    @classmethod
    def of(cls, version: DatasetVersionFacts, facts: ImageFacts) -> "ImageObject":
        """The image as the API shows it."""
        item = facts.item
        return cls(
            index=facts.index,
            name=item.name,
            label=facts.label,
            split=item.split,
            width=item.width,
            height=item.height,
            bytes=item.size,
            sha256=item.sha256,
            url=f"/v1/datasets/{version.name}/versions/{version.number}/images/{facts.index}",
        )


class ImageList(BaseModel):
    """A page of images, by index."""

    object: Literal["list"] = "list"
    data: list[ImageObject]
    last_index: int | None = Field(description="Pass it as `after` for the next page.")
    has_more: bool

    @classmethod
    def of(cls, version: DatasetVersionFacts, page: ImagePage) -> "ImageList":
        """The page as the API shows it."""
        data = [ImageObject.of(version, facts) for facts in page.images]
        return cls(data=data, last_index=data[-1].index if data else None, has_more=page.has_more)


class DatasetDeleted(BaseModel):
    """What has been deleted."""

    id: str
    object: Literal["dataset", "dataset.version"]
    deleted: Literal[True] = True
