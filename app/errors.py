"""The errors a caller can meet: one tree, a closed list of codes, no HTTP.

AppError ── InvalidRequest, UnknownModel, Overloaded, … each leaf builds its message from its arguments
and may carry `param` (which field), `hint` (what to do) and `retry_after_s`. The table from code to
HTTP status is `app/api/errors.py`; a test proves it complete.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import ClassVar

from models.tasks.image_facts import ImageError


class AppError(Exception):
    """Base of all errors with a stable `code`."""

    code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint
        self.retry_after_s = retry_after_s


class InvalidRequest(AppError):
    """The request says something Athanor cannot act on."""

    code = "invalid_request"


class InvalidPayload(AppError):
    """The body's shape is not the documented one."""

    code = "invalid_payload"


class InvalidSpec(InvalidRequest):
    """A job's spec has a field, a name or a combination that makes no sense."""

    code = "invalid_spec"


class ImageUndecodable(AppError):
    """The bytes claim to be an image and cannot be decoded."""

    code = "image_undecodable"


class ImageTooLarge(AppError):
    """The image, or the body that carries it, is over a limit."""

    code = "image_too_large"


class UnsupportedMedia(AppError):
    """The bytes are not in a format that the route takes."""

    code = "unsupported_media"


class UnknownModel(AppError):
    """No model of that name, version or alias."""

    code = "unknown_model"

    def __init__(
        self,
        reference: str,
        known: Iterable[str] = (),
        *,
        param: str = "model",
        hint: str | None = None,
    ) -> None:
        names = sorted(known)
        near = get_close_matches(reference, names, n=3, cutoff=0.5) or names[:3]
        if hint is None:
            hint = (
                f"Did you mean {', '.join(near)}? GET /v1/models lists them." if near else "GET /v1/models."
            )
        super().__init__(f"There is no model {reference!r}.", param=param, hint=hint)


class UnknownVersion(AppError):
    """The model exists; that version or alias of it does not."""

    code = "unknown_version"


class UnknownDataset(AppError):
    """No data set of that name."""

    code = "unknown_dataset"

    def __init__(self, reference: str, known: Iterable[str] = (), *, param: str = "name") -> None:
        names = sorted(known)
        near = get_close_matches(reference, names, n=3, cutoff=0.5) or names[:3]
        named = f"Did you mean {', '.join(near)}? " if near else ""
        hint = f"{named}GET /v1/datasets lists them."
        super().__init__(f"There is no data set {reference!r}.", param=param, hint=hint)


class InvalidDataset(AppError):
    """The files make no data set."""

    code = "invalid_dataset"


class NotTrainable(AppError):
    """The model cannot be the base of a training run."""

    code = "not_trainable"


class TrainingDiverged(AppError):
    """The loss is not a number any more."""

    code = "training_diverged"


class OutOfMemory(AppError):
    """The machine has, or had, not enough memory for it."""

    code = "out_of_memory"


class ModelNotReady(AppError):
    """The model is known but cannot answer yet."""

    code = "model_not_ready"


class NotServable(AppError):
    """The version may not be served: its certificate, task or files forbid it."""

    code = "not_servable"


class Overloaded(AppError):
    """The bounded queue is full."""

    code = "overloaded"


class DeadlineExceeded(AppError):
    """The request's deadline has passed or cannot be met."""

    code = "deadline_exceeded"


class ClientClosed(AppError):
    """The client went away before the answer."""

    code = "client_closed"


class InferenceFailed(AppError):
    """The runtime failed on this input."""

    code = "inference_failed"


class NotFound(AppError):
    """No such file, job or artefact for this caller."""

    code = "not_found"


class Conflict(AppError):
    """The state of the thing forbids the act."""

    code = "conflict"


class JobNotCancellable(Conflict):
    """The job has already ended."""

    code = "job_not_cancellable"


class QuotaExceeded(AppError):
    """The tenant has as much of it as one may have."""

    code = "quota_exceeded"


class DiskFull(AppError):
    """The disk has no room for what the job would write."""

    code = "disk_full"


class ParityFailed(AppError):
    """The graph does not reproduce its reference outputs."""

    code = "parity_failed"


class NotFaster(AppError):
    """A compressed graph is not enough faster than the one it was made from."""

    code = "not_faster"


class ImportRefused(AppError):
    """The file offered as a model cannot be taken in."""

    code = "import_refused"


class MethodNotAllowed(AppError):
    """The route exists; it does not take this method."""

    code = "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"{path} does not take {method}.", hint=f"It takes {allowed}." if allowed else None)


class PayloadTooLarge(AppError):
    """The body is over the limit of the route."""

    code = "payload_too_large"


class Unauthorized(AppError):
    """A key is needed and none, or no valid one, was given."""

    code = "unauthorized"


class Forbidden(AppError):
    """Host, origin or key forbid the request."""

    code = "forbidden"


class StorageUnavailable(AppError):
    """Objects or rows cannot be read or written now."""

    code = "storage_unavailable"


class ObjectDamaged(StorageUnavailable):
    """Stored bytes are not those that their hash promises; trying again will not help."""


class Internal(AppError):
    """A bug of ours; the log has the trace under the request id."""

    code = "internal"


_IMAGE_ERRORS: dict[str, type[AppError]] = {
    error.code: error for error in (ImageUndecodable, ImageTooLarge, UnsupportedMedia)
}


def image_error(error: ImageError) -> AppError:
    """What a decoder refused, as the API says it."""
    return _IMAGE_ERRORS[error.code](str(error), param="image", hint=error.hint)


def unknown_option(name: str, known: Sequence[str]) -> InvalidRequest:
    """What is said of an option that does not exist, or has no value."""
    near = get_close_matches(name, known, n=1)
    return InvalidRequest(
        f"{name}: {'needs a value' if name in known else 'there is no such parameter'}.",
        param=name,
        hint=f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}.",
    )
