"""Answers of `POST /v1/super-resolution`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.classification import Failure


class UpscaledPicture(BaseModel):
    """The answer for one picture, in JSON."""

    model: str = Field(description="`name:version` that answered.")
    width: int = Field(description="Of the result.")
    height: int
    format: Literal["png", "jpeg", "webp"]
    image: str = Field(description="Base64 of the file.")
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "waifu2x-photo:1",
                "width": 1024,
                "height": 1024,
                "format": "png",
                "image": "iVBORw0KGgo…",
            }
        }
    )


class UpscaleInput(BaseModel):
    """The JSON form of a request."""

    inputs: str | list[str] = Field(
        description="Base64 of one picture (a data URL will do), or a list of such."
    )
    parameters: dict[str, str | int | bool] = Field(
        default_factory=dict,
        description="`model`, `scale`, `denoise`, `format`, `quality`, `depth` and `background`, as in the "
        "query.",
    )
    model_config = ConfigDict(extra="forbid")


class UpscaledPictures(BaseModel):
    """The answers for several pictures, in the order of the request."""

    results: list[UpscaledPicture | Failure]
