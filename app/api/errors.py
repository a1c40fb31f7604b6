"""The one table from error code to HTTP status, and the one error body of `/v1`.

{"error": {"type", "code", "message", "param", "hint", "docs", "request_id"}}
"""

import math

import orjson

from app.errors import AppError

STATUS: dict[str, int] = {
    "invalid_request": 400,
    "invalid_spec": 400,
    "image_undecodable": 400,
    "import_refused": 400,
    "invalid_dataset": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "unknown_model": 404,
    "unknown_version": 404,
    "unknown_dataset": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "job_not_cancellable": 409,
    "not_servable": 409,
    "parity_failed": 409,
    "image_too_large": 413,
    "payload_too_large": 413,
    "unsupported_media": 415,
    "invalid_payload": 422,
    "overloaded": 429,
    "quota_exceeded": 429,
    "client_closed": 499,
    "inference_failed": 500,
    "internal": 500,
    "model_not_ready": 503,
    "out_of_memory": 503,
    "storage_unavailable": 503,
    "deadline_exceeded": 504,
    "disk_full": 507,
    "not_trainable": 409,
    "training_diverged": 409,
    "not_faster": 409,
}
"""Every code and its status; `docs/errors.md` has an entry for each (tested)."""

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_type(status: int) -> str:
    """The family of an error, as OpenAI's clients group them."""
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_object(error: AppError, request_id: str | None = None) -> dict[str, str | None]:
    """The inner object of the error body."""
    return {
        "type": error_type(STATUS[error.code]),
        "code": error.code,
        "message": error.message,
        "param": error.param,
        "hint": error.hint,
        "docs": f"docs/errors.md#{error.code}",
        "request_id": request_id,
    }


def error_body(error: AppError, request_id: str) -> bytes:
    """The JSON body of an error answer."""
    return orjson.dumps({"error": error_object(error, request_id)})


def retry_headers(error: AppError) -> list[tuple[bytes, bytes]]:
    """`Retry-After` in whole seconds and `retry-after-ms` as measured, when the error knows a time.

    A conflict stays one however often it is tried, which OpenAI's client must be told.
    """
    if STATUS[error.code] == 409:
        return [(b"x-should-retry", b"false")]
    if error.retry_after_s is None:
        return []
    return [
        (b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()),
        (b"retry-after-ms", str(math.ceil(error.retry_after_s * 1000)).encode()),
    ]
