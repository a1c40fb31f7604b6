"""What an import is asked to do: the spec, and how the model is used."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.errors import ImportRefused, InvalidRequest
from app.registry.imports import check_use, default_fit
from app.registry.reference import check_model_name
from models.manifest import Manifest, Preprocessing, Task, TileFacts

_IN_HINT = "Give it in the spec's `manifest`."


def _triple(value: object) -> object:
    return [value] * 3 if isinstance(value, int | float) else value


T = TypeVar("T", bound=BaseModel)
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Usage(_Frozen):
    """How a model is used: the part of a manifest that a file cannot say of itself."""

    labels: tuple[str, ...] = ()
    height: int | None = Field(default=None, ge=1, le=4096)
    width: int | None = Field(default=None, ge=1, le=4096)
    fit: Literal["crop", "squash", "pad", "tiles"] | None = None
    """None: see `default_fit`."""
    crop: float = Field(default=0.875, gt=0, le=1)
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] = "bicubic"
    mean: Annotated[tuple[Finite, Finite, Finite], BeforeValidator(_triple)] = (0.0, 0.0, 0.0)
    std: Annotated[tuple[Positive, Positive, Positive], BeforeValidator(_triple)] = (1.0, 1.0, 1.0)
    layout: Literal["nchw", "nhwc"] | None = None
    channels: Literal["rgb", "bgr", "grey"] | None = None
    architecture: str | None = Field(default=None, pattern=r"^[a-z0-9_.]{1,100}$")
    """timm's name of the network, for weights that come without a graph."""
    licence: str | None = Field(default=None, max_length=200)
    activation: Literal["sigmoid", "softmax"] | None = None
    """Of segmentation: what makes shares of a graph's maps; None: found in the graph, or by the labels."""
    is_stretched: bool = False
    """Of segmentation: see `MaskFacts`."""
    context: int | None = Field(default=None, ge=0, le=512)
    """With `tiles`: see `TileFacts`; None: as far as the graph sees, or an eighth of the window."""
    overlap: int | None = Field(default=None, ge=0, le=512)
    """Likewise; None: nothing, or a sixteenth where the graph sees farther than `context`."""

    def preprocessing(self, task: Task) -> Preprocessing:
        """The manifest's preprocessing. Raises ImportRefused when height or width is missing."""
        if self.height is None or self.width is None:
            raise ImportRefused("The image size is missing.", param="manifest.height", hint=_IN_HINT)
        return Preprocessing(
            height=self.height,
            width=self.width,
            fit=self.fit or default_fit(task),
            crop=self.crop,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )

    def tiles(self, *, scale: int, margin: int, reach: int | None) -> TileFacts:
        """How pictures are cut for a graph of such scale, margin and reach. Raises ImportRefused for windows
        that leave nothing."""
        window = min(self.height or 0, self.width or 0)
        try:
            return TileFacts.of_window(
                window,
                scale=scale,
                margin=margin,
                reach=reach,
                context=self.context,
                overlap=self.overlap,
            )
        except ValueError as error:
            hint = "Give windows of another size, or another `context`."
            raise ImportRefused(str(error), param="manifest.height", hint=hint) from error

    def checked_labels(self) -> tuple[str, ...]:
        """The labels. Raises ImportRefused when there are none, or an empty one."""
        if not self.labels:
            raise ImportRefused("The labels are missing.", param="manifest.labels", hint=_IN_HINT)
        if (empty := next((i for i, label in enumerate(self.labels) if not label.strip()), None)) is not None:
            raise ImportRefused(
                f"Label {empty} is empty.", param="manifest.labels", hint="Give each output a label."
            )
        return self.labels


class ImportSpec(_Frozen):
    """The whole order."""

    source: str
    name: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the source's file."""
    archive_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the wheel around it."""
    task: Task = Task.CLASSIFICATION
    manifest: Usage = Usage()
    reference: str | None = None
    """Id of an uploaded reference."""


def read_spec(spec: dict[str, Any]) -> ImportSpec:
    """Check a job's spec. `manifest` may also be a whole `manifest.json`.

    Raises:
        InvalidRequest: names the first field that makes no sense.

    """
    plain = dict(spec)
    if isinstance(plain.get("manifest"), dict) and "preprocessing" in plain["manifest"]:
        plain["manifest"] = _usage_of(_read(Manifest, plain["manifest"], within="manifest."))
    source = str(plain.get("source", ""))
    if source.startswith("starter:"):
        plain.setdefault("name", source.removeprefix("starter:"))
    order = _read(ImportSpec, plain, within="")
    check_model_name(order.name)
    usage = order.manifest
    check_use(order.task, fit=usage.fit, activation=usage.activation, within="manifest.")
    if order.task is Task.SUPER_RESOLUTION and usage.labels:
        raise InvalidRequest("Pictures have no labels.", param="manifest.labels", hint="Leave them out.")
    return order


def _usage_of(manifest: Manifest) -> dict[str, Any]:
    own = {"labels": manifest.labels, "licence": manifest.licence}
    masks = {} if manifest.masks is None else manifest.masks.model_dump()
    tiles = {} if manifest.tiles is None else manifest.tiles.model_dump(include={"context", "overlap"})
    return own | manifest.preprocessing.model_dump() | masks | tiles


def _read(kind: type[T], value: object, *, within: str) -> T:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = within + ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{field}: {first['msg']}.", param=field, hint="Correct the spec.") from error
