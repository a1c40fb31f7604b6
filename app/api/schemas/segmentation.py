"""Answers of `POST /v1/segmentation`."""

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.classification import Failure


class Segment(BaseModel):
    """Where one label is."""

    label: str
    score: float = Field(ge=0, le=1, description="Mean share of the label over its mask.")
    mask: str = Field(description="Base64 of a grey PNG as large as the picture: 255 where the label is.")


class Segmentation(BaseModel):
    """The answer for one picture, by label."""

    model: str = Field(description="`name:version` that answered.")
    width: int = Field(description="Of the picture as a person sees it, and of every mask.")
    height: int
    segments: list[Segment]
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "u2netp:1",
                "width": 512,
                "height": 512,
                "segments": [{"label": "foreground", "score": 0.98, "mask": "iVBORw0KGgo…"}],
            }
        }
    )


class SegmentedPicture(BaseModel):
    """The answer for one picture, as a picture."""

    model: str
    width: int
    height: int
    image: str = Field(description="Base64 of a PNG.")


class SegmentationInput(BaseModel):
    """The JSON form of a request."""

    inputs: str | list[str] = Field(
        description="Base64 of one picture (a data URL will do), or a list of such."
    )
    parameters: dict[str, str | float | list[str]] = Field(
        default_factory=dict, description="`model`, `output`, `threshold`, `classes`, as in the query."
    )
    model_config = ConfigDict(extra="forbid")


class Segmentations(BaseModel):
    """The answers for several pictures, in the order of the request."""

    results: list[Segmentation | SegmentedPicture | Failure]
