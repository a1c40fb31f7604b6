"""The error body, as the OpenAPI document shows it."""

from typing import Any

from pydantic import BaseModel

from app.api.errors import STATUS, error_type


class ErrorObject(BaseModel):
    """What went wrong and what to do."""

    type: str
    code: str
    message: str
    param: str | None
    hint: str | None
    docs: str
    request_id: str | None


class ErrorBody(BaseModel):
    """The body of every error on `/v1`."""

    error: ErrorObject


def error_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may fail with these codes, besides those that any route may."""
    always = ("unauthorized", "forbidden", "invalid_request", "method_not_allowed", "internal")
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, *always)):
        by_status.setdefault(STATUS[code], []).append(code)
    return {
        status: {
            "model": ErrorBody,
            "description": ", ".join(f"`{code}`" for code in names),
            "content": {"application/json": {"example": {"error": _example(names[0], status)}}},
        }
        for status, names in sorted(by_status.items())
    }


def _example(code: str, status: int) -> dict[str, str | None]:
    return {
        "type": error_type(status),
        "code": code,
        "message": "What was wrong.",
        "param": None,
        "hint": "What to do.",
        "docs": f"docs/errors.md#{code}",
        "request_id": "1f0c2b3a4d5e6f70",
    }
