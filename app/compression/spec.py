"""The spec of a `compress` job, as the API takes it and as the job has it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.manifest import Precision

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # PostgreSQL takes no NUL in text


class CompressSpec(BaseModel):
    """Which version in which precision, and when the result is good enough."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            pattern=_PRINTABLE,
            description="`name`, `name@alias` or `name:3`; resolved when the job is queued.",
        ),
    ]
    precision: Annotated[
        Precision,
        Field(
            description="`int8`: weights and what flows between layers, scaled by what calibration sees; "
            "`int8-dynamic`: only products with constant matrices, scaled in each run; `fp16`."
        ),
    ]
    dataset: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            pattern=_PRINTABLE,
            description="`name` or `name:3`. Its pictures for training calibrate, those held out compare.",
        ),
    ]
    output_model: Annotated[
        str | None,
        Field(
            max_length=64,
            description="The model that gets the version, new or known; without it the one that is "
            "compressed. No alias moves, but a new model's `default`.",
        ),
    ] = None
    keep: Annotated[
        Literal["if_faster", "always"],
        Field(description="Publish it only if it is faster by `least_gain`, or in any case."),
    ] = "if_faster"
    least_gain: Annotated[
        float, Field(ge=1, le=100, description="How many times as many pictures per second it must give.")
    ] = 1.1
    least_agreement: Annotated[
        float,
        Field(
            ge=0.5,
            le=1,
            description="Share of held-out pictures, or their pixels, that must get the same label.",
        ),
    ] = 0.99
    least_iou: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Of segmenters: mean IoU that masks before and after must have with each other, over "
            "the labels that are seen. It protects labels that are few of the pixels.",
        ),
    ] = 0.95
    least_psnr_db: Annotated[
        float,
        Field(
            ge=20,
            le=100,
            description="Of enlargers: PSNR that what they make before and after must have with each other.",
        ),
    ] = 40.0
