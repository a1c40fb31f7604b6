"""Answers of `POST /v1/classification`."""

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.errors import ErrorObject


class Prediction(BaseModel):
    """One label and its probability."""

    label: str
    score: float = Field(ge=0, le=1)


class Classification(BaseModel):
    """The answer for one picture."""

    model: str = Field(description="`name:version` that answered.")
    predictions: list[Prediction]
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "efficientnet-lite0:1",
                "predictions": [{"label": "espresso", "score": 0.95}],
            }
        }
    )


class Failure(BaseModel):
    """What one picture of several got instead of an answer."""

    model: str
    error: ErrorObject


class Classifications(BaseModel):
    """The answers for several pictures, in the order of the request."""

    results: list[Classification | Failure]


class ClassificationInput(BaseModel):
    """The JSON form of a request."""

    inputs: str | list[str] = Field(
        description="Base64 of one picture (a data URL will do), or a list of such."
    )
    parameters: dict[str, str | int] = Field(
        default_factory=dict, description="`model`, `top_k`, as in the query."
    )
    model_config = ConfigDict(extra="forbid")
