"""Bodies of `/v1/models`: OpenAI's model object and list, with more keys at the root."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.registry.service import AliasFacts
from app.registry.snapshot import ModelFacts, VersionFacts
from models.manifest import Level, Manifest, Task

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Triple = tuple[float, float, float]


class ModelObject(BaseModel):
    """A model: a named line of versions."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = "model"
    created: int = Field(description="UTC, seconds since the epoch.")
    owned_by: str = Field(description="The tenant it belongs to.")
    task: Task
    aliases: dict[str, int] = Field(description="Alias to version number; the bare name means `default`.")
    versions: list[int]
    level: Level | None = Field(description="What is known about the version that `default` points at.")
    ready: bool = Field(description="That version is loaded; otherwise the first request waits for it.")
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "efficientnet-lite0",
                "object": "model",
                "created": 1767225600,
                "owned_by": "default",
                "task": "classification",
                "aliases": {"default": 1},
                "versions": [1],
                "level": "certified",
                "ready": True,
            }
        }
    )

    @classmethod
    def of(cls, model: ModelFacts, *, owner: str, ready: bool) -> "ModelObject":
        """The model as the API shows it."""
        default = model.versions.get(model.aliases.get("default", 0))
        return cls(
            id=model.name,
            created=int(model.created_at),
            owned_by=owner,
            task=model.task,
            aliases=dict(model.aliases),
            versions=list(model.versions),
            level=default.certificate.level if default else None,
            ready=ready,
        )


class ModelList(BaseModel):
    """All models of the caller."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


class ArtifactObject(BaseModel):
    """One stored file of a version."""

    name: str
    sha256: Hash
    bytes: int = Field(ge=0, description="Size, bytes.")
    url: str = Field(description="Where to get it, relative to this server.")


class VersionSummary(BaseModel):
    """A version in a list."""

    id: str = Field(description="`name:version`.")
    object: Literal["model.version"] = "model.version"
    model: str
    version: int
    created: int = Field(description="UTC, seconds since the epoch.")
    level: Level
    aliases: list[str] = Field(description="What points at it now.")
    job_id: str | None = Field(description="The job that published it.")

    @classmethod
    def of(cls, model: ModelFacts, version: VersionFacts) -> "VersionSummary":
        """The version as lists show it."""
        return cls(
            id=f"{model.name}:{version.number}",
            model=model.name,
            version=version.number,
            created=int(version.created_at),
            level=version.certificate.level,
            aliases=[alias for alias, number in model.aliases.items() if number == version.number],
            job_id=version.job_id,
        )


class VersionList(BaseModel):
    """All versions of a model, oldest first."""

    object: Literal["list"] = "list"
    data: list[VersionSummary]


class VersionObject(VersionSummary, Manifest):
    """A version: its manifest at the root, and its files."""

    artifacts: list[ArtifactObject]
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "efficientnet-lite0:1",
                "object": "model.version",
                "model": "efficientnet-lite0",
                "version": 1,
                "created": 1767225600,
                "level": "certified",
                "aliases": ["default"],
                "job_id": "job_06d4rkbb8zyq5xq2m8c7t5nn0e",
                "format": 1,
                "task": "classification",
                "inputs": [{"name": "image", "dtype": "uint8", "shape": [-1, 224, 224, 3]}],
                "outputs": [{"name": "logits", "dtype": "float32", "shape": [-1, 1000]}],
                "preprocessing": {"height": 224, "width": 224},
                "labels": ["tench", "goldfish"],
                "artifacts": [
                    {
                        "name": "model.onnx",
                        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                        "bytes": 18589264,
                        "url": "/v1/models/efficientnet-lite0/versions/1/artifacts/model.onnx",
                    }
                ],
            }
        }
    )

    @classmethod
    def of(cls, model: ModelFacts, version: VersionFacts) -> "VersionObject":
        """The version as the API shows it."""
        base = f"/v1/models/{model.name}/versions/{version.number}/artifacts"
        summary = VersionSummary.of(model, version)
        return cls(
            **summary.model_dump(),
            **version.manifest.model_dump(),
            artifacts=[
                ArtifactObject(
                    name=file.name, sha256=file.sha256, bytes=file.size_bytes, url=f"{base}/{file.name}"
                )
                for file in version.artifacts
            ],
        )


class AliasTarget(BaseModel):
    """Where an alias shall point."""

    version: int = Field(ge=1, le=999_999_999)
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"version": 2}})


class AliasObject(BaseModel):
    """An alias and where it points."""

    object: Literal["model.alias"] = "model.alias"
    model: str
    alias: str
    version: int
    previous_version: int | None = Field(description="Where a rollback would point it.")
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "model.alias",
                "model": "efficientnet-lite0",
                "alias": "default",
                "version": 2,
                "previous_version": 1,
            }
        }
    )

    @classmethod
    def of(cls, name: str, alias: AliasFacts) -> "AliasObject":
        """The alias as the API shows it."""
        return cls(model=name, alias=alias.name, version=alias.number, previous_version=alias.previous_number)


class Deleted(BaseModel):
    """What has been deleted."""

    id: str
    object: Literal["model", "model.version", "model.alias"]
    deleted: Literal[True] = True


class ImportRequest(BaseModel):
    """Bring your own ONNX: an uploaded file and how to use it."""

    name: str = Field(max_length=64, description="A new model, or one that gets a further version.")
    file: str = Field(max_length=64, description="Id of the uploaded ONNX file.")
    task: Task = Task.CLASSIFICATION
    labels: list[Label] | None = Field(
        default=None,
        min_length=1,
        max_length=100_000,
        description="Label of each output index, in order; none of super-resolution.",
    )
    mean: float | Triple = Field(
        default=0.0,
        description="Subtracted per channel, in units of 0..255 (ImageNet: 123.675, 116.28, 103.53).",
    )
    std: float | Triple = Field(
        default=1.0,
        description="Divided by per channel, in units of 0..255 (ImageNet: 58.395, 57.12, 57.375).",
    )
    size: int | None = Field(
        default=None, ge=1, le=4096, description="Height and width of a square input, pixels."
    )
    height: int | None = Field(default=None, ge=1, le=4096)
    width: int | None = Field(default=None, ge=1, le=4096)
    fit: Literal["crop", "squash", "pad", "tiles"] | None = Field(
        default=None,
        description="`crop` for classification, `squash` for segmentation, `tiles` for super-resolution, if"
        " left out. With `tiles` a picture of any size goes through in windows of at most `size`; the graph"
        " must take any height and width.",
    )
    context: int | None = Field(
        default=None,
        ge=0,
        le=512,
        description="With `tiles`: pixels around a window that the graph sees and whose results are unused."
        " Left out, as many as change its results, in steps of eight, which is measured; an eighth of the"
        " window if more do.",
    )
    overlap: int | None = Field(
        default=None,
        ge=0,
        le=512,
        description="With `tiles`: pixels that neighbouring windows share, over which they are blended."
        " Left out, none, or a sixteenth of the window where the graph sees farther than `context` or nobody"
        " knows.",
    )
    crop: float = Field(default=0.875, gt=0, le=1)
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] = "bicubic"
    activation: Literal["sigmoid", "softmax"] | None = Field(
        default=None,
        description="Of segmentation: `softmax` where each pixel has one label, `sigmoid` where it may have"
        " several, or none. Found in the graph, or by the number of labels, if left out.",
    )
    layout: Literal["nchw", "nhwc"] | None = Field(
        default=None, description="Order of the graph's input; found from its shape if left out."
    )
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    reference: str | None = Field(
        default=None,
        max_length=64,
        description="Id of an uploaded safetensors file with samples and the outputs the source gives for"
        " them. With it the version can be `certified`, without it is `imported`.",
    )
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "my-classifier",
                "file": "file_06d4rkbb8zyq5xq2m8c7t5nn0e",
                "task": "classification",
                "labels": ["cat", "dog"],
                "mean": [123.675, 116.28, 103.53],
                "std": [58.395, 57.12, 57.375],
                "size": 224,
            }
        },
    )
