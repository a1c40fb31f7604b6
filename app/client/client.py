"""The client: one method per act, JSON objects in and out exactly as the API documents them."""

import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

import httpx

from app.client.errors import JobFailed, RequestFailed, Unreachable
from app.client.stream import DONE, Streamed, read_events

Json = dict[str, Any]

CONNECTIONS = 8
"""Most connections one client keeps open."""
_POLL_S = 0.25
_CONNECT_TIMEOUT_S = 5.0
_JOIN_TIMEOUT_S = 3600.0
"""The service reads and hashes a whole file before it answers."""
_STREAM_TRIES = 20
"""Connections of a stream that may fail one after the other."""
_HEARTBEATS_S = 60.0
"""A stream that says nothing for so long is broken; there should be a heartbeat every 15 s."""
_FINE_TUNING = "/v1/fine_tuning/jobs"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Client:
    """May be used from several threads. Every method raises Unreachable or RequestFailed."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 120.0) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        # Reading the certificates of all authorities takes 50 ms, and plain HTTP never asks for them.
        trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            self._http = httpx.Client(
                base_url=self.url,
                verify=trusts_nobody if self.url.startswith("http://") else True,
                headers={"authorization": f"Bearer {api_key}"} if api_key else {},
                timeout=httpx.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
                # A proxy from the environment cannot reach this machine's own loopback.
                trust_env=urlsplit(self.url).hostname not in _LOOPBACK,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise Unreachable(url, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def health(self, what: Literal["live", "ready"]) -> Json:
        """Whether the process answers (`live`), or its default classifier too (`ready`)."""
        return self._call("GET", f"/health/{what}")

    # -- predictions ---------------------------------------------------------------------------------

    def classify(self, image: bytes, *, model: str | None = None, top_k: int | None = None) -> Json:
        """`{"model", "predictions": [{"label", "score"}]}` for the bytes of one picture."""
        query = {"model": model, "top_k": top_k}
        return self._call(
            "POST",
            "/v1/classification",
            params={name: value for name, value in query.items() if value is not None},
            content=image,
            headers={"content-type": "application/octet-stream"},
        )

    # -- files ---------------------------------------------------------------------------------------

    def upload(self, path: Path) -> Json:
        """Store a file; streamed, whatever its size. Raises OSError when it cannot be read."""
        with path.open("rb") as file:
            return self._call("POST", "/v1/files", files={"file": (path.name, file)})

    def begin_upload(self, *, filename: str, size_bytes: int) -> Json:
        """Announce a file that will come in parts."""
        body = {
            "bytes": size_bytes,
            "filename": filename,
            "mime_type": "application/octet-stream",
            "purpose": "user_data",
        }
        return self._call("POST", "/v1/uploads", json=body)

    def add_part(self, upload_id: str, data: bytes) -> Json:
        """Store one part of an upload."""
        return self._call("POST", f"/v1/uploads/{_segment(upload_id)}/parts", files={"data": data})

    def complete_upload(self, upload_id: str, part_ids: Sequence[str]) -> Json:
        """Make a file of the parts, in this order; the answer's `file` is it."""
        path = f"/v1/uploads/{_segment(upload_id)}/complete"
        return self._call("POST", path, json={"part_ids": list(part_ids)}, timeout=_JOIN_TIMEOUT_S)

    # -- data sets -----------------------------------------------------------------------------------

    def datasets(self) -> Json:
        """All data sets."""
        return self._call("GET", "/v1/datasets")

    def dataset(self, name: str) -> Json:
        """One data set: its versions, and how the last thing asked of it went."""
        return self._call("GET", f"/v1/datasets/{_segment(name)}")

    def dataset_version(self, name: str, version: int) -> Json:
        """One version of a data set, with the report of its validation."""
        return self._call("GET", f"/v1/datasets/{_segment(name)}/versions/{version}")

    def create_dataset(self, body: Json) -> Json:
        """Make a version out of uploaded files; the answer's `job_id` is the job that validates them."""
        return self._call("POST", "/v1/datasets", json=body)

    def delete_dataset(self, name: str) -> Json:
        """Delete a data set with all its versions."""
        return self._call("DELETE", f"/v1/datasets/{_segment(name)}")

    def delete_dataset_version(self, name: str, version: int) -> Json:
        """Delete one version of a data set."""
        return self._call("DELETE", f"/v1/datasets/{_segment(name)}/versions/{version}")

    # -- models --------------------------------------------------------------------------------------

    def models(self) -> Json:
        """All models, in OpenAI's list shape."""
        return self._call("GET", "/v1/models")

    def model(self, name: str) -> Json:
        """One model."""
        return self._call("GET", f"/v1/models/{_segment(name)}")

    def versions(self, name: str) -> Json:
        """A model's versions."""
        return self._call("GET", f"/v1/models/{_segment(name)}/versions")

    def version(self, name: str, number: int) -> Json:
        """One version: its manifest and its files."""
        return self._call("GET", f"/v1/models/{_segment(name)}/versions/{number}")

    def artifact(self, name: str, number: int, file: str) -> bytes:
        """One file of a version, whole: for small ones."""
        path = f"/v1/models/{_segment(name)}/versions/{number}/artifacts/{_segment(file)}"
        response = self._ask("GET", path)
        if response.is_error:
            raise self._refusal(response, _json(response))
        return response.content

    def add_model(self, body: Json) -> Json:
        """Bring an ONNX file that was uploaded; the answer is the import job."""
        return self._call("POST", "/v1/models", json=body)

    def promote(self, name: str, alias: str, version: int) -> Json:
        """Point an alias at a version."""
        return self._call("PUT", _alias_path(name, alias), json={"version": version})

    def rollback(self, name: str, alias: str) -> Json:
        """Point an alias back at where it was."""
        return self._call("POST", f"{_alias_path(name, alias)}/rollback")

    def serving(self, name: str) -> Json:
        """How a model is served: pinned or not, threads, what it holds."""
        return self._call("GET", f"/v1/models/{_segment(name)}/serving")

    def set_serving(self, name: str, body: Json) -> Json:
        """Set how a model is served; what is left out goes back to its default."""
        return self._call("PUT", f"/v1/models/{_segment(name)}/serving", json=body)

    def delete_model(self, name: str) -> Json:
        """Delete a model with all its versions."""
        return self._call("DELETE", f"/v1/models/{_segment(name)}")

    def delete_version(self, name: str, version: int) -> Json:
        """Delete one version."""
        return self._call("DELETE", f"/v1/models/{_segment(name)}/versions/{version}")

    def delete_alias(self, name: str, alias: str) -> Json:
        """Delete an alias."""
        return self._call("DELETE", _alias_path(name, alias))

    # -- jobs ----------------------------------------------------------------------------------------

    def create_job(self, kind: str, spec: Json) -> Json:
        """Queue a job."""
        return self._call("POST", "/v1/jobs", json={"kind": kind, "spec": spec})

    def job(self, job_id: str) -> Json:
        """A job as it is now."""
        return self._call("GET", f"/v1/jobs/{_segment(job_id)}")

    def jobs(self, *, kind: str | None = None, status: str | None = None, limit: int = 20) -> Json:
        """The newest jobs."""
        query = {"kind": kind, "status": status, "limit": limit}
        given = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", "/v1/jobs", params=given)

    def act_on_job(self, job_id: str, act: Literal["cancel", "pause", "resume"]) -> Json:
        """Cancel, pause or resume a job; the job as it is then."""
        return self._call("POST", f"/v1/jobs/{_segment(job_id)}/{act}")

    def rerun_job(self, job_id: str, changes: Json) -> Json:
        """Queue a job again, with other values for some fields of its spec."""
        return self._call("POST", f"/v1/jobs/{_segment(job_id)}/rerun", json={"changes": changes})

    def job_events(self, job_id: str, *, limit: int = 1000, after: int = 0) -> Json:
        """What happened to a job, oldest first."""
        query = {"limit": limit, "after": after}
        return self._call("GET", f"/v1/jobs/{_segment(job_id)}/events", params=query)

    def stream_job(self, job_id: str) -> Iterator[Streamed | None]:
        """What happens to a job, from its beginning until it ends; None now and then when nothing does.

        Goes on after a broken connection. Raises Unreachable when nobody answers any more.
        """
        seen: str | None = None
        failures = 0
        while True:
            try:
                for event in self._stream(f"/v1/jobs/{_segment(job_id)}/events/stream", seen):
                    failures = 0
                    if event is not None and event.data == DONE:
                        return
                    seen = (event.id if event else None) or seen
                    yield event
            except httpx.TransportError as error:
                failures += 1
                if failures == _STREAM_TRIES:
                    raise Unreachable(self.url, _reason(error)) from error
            time.sleep(_POLL_S)

    # -- fine-tuning ---------------------------------------------------------------------------------

    def fine_tune(self, body: Json, *, dry_run: bool = False) -> Json:
        """Queue a training; asked again after a broken connection, it is still one job."""
        options: Json = {"headers": {"idempotency-key": uuid.uuid4().hex}, "json": body}
        query = {"dry_run": "true"} if dry_run else {}
        try:
            return self._call("POST", _FINE_TUNING, params=query, **options)
        except Unreachable:
            time.sleep(_POLL_S)
            return self._call("POST", _FINE_TUNING, params=query, **options)

    def fine_tuning_job(self, job_id: str) -> Json:
        """A fine-tuning job as it is now."""
        return self._call("GET", f"{_FINE_TUNING}/{_segment(job_id)}")

    def rerun_fine_tuning(self, job_id: str, changes: Json) -> Json:
        """Queue a job again, with other values for some fields."""
        return self._call("POST", f"{_FINE_TUNING}/{_segment(job_id)}/rerun", json=changes)

    def fine_tuning_checkpoints(self, job_id: str) -> Json:
        """What a job keeps of the network on its way, newest first."""
        return self._call("GET", f"{_FINE_TUNING}/{_segment(job_id)}/checkpoints", params={"limit": 1000})

    def publish_checkpoint(self, job_id: str, checkpoint: str) -> Json:
        """Publish a checkpoint, by its id or as `ckpt-STEP`; the answer is the job that does, or has."""
        path = f"{_FINE_TUNING}/{_segment(job_id)}/checkpoints/{_segment(checkpoint)}/publish"
        return self._call("POST", path)

    def fine_tuning_events(self, job_id: str, *, limit: int = 1000, after: str | None = None) -> Json:
        """Events and metrics of a job, oldest first."""
        query = {"limit": limit, "order": "asc", **({} if after is None else {"after": after})}
        return self._call("GET", f"{_FINE_TUNING}/{_segment(job_id)}/events", params=query)

    def wait(self, job_id: str, watch: Callable[[Json], None] = lambda _: None) -> Json:
        """Look at a job until it ends, telling `watch` each time. Raises JobFailed unless it succeeds."""
        while True:
            job = self.job(job_id)
            watch(job)
            if job["status"] == "succeeded":
                return job
            if job["status"] in ("failed", "cancelled"):
                raise JobFailed(job)
            time.sleep(_POLL_S)

    # -- inside --------------------------------------------------------------------------------------

    def _stream(self, path: str, last_id: str | None) -> Iterator[Streamed | None]:
        headers = {} if last_id is None else {"last-event-id": last_id}
        timeout = httpx.Timeout(_HEARTBEATS_S, connect=_CONNECT_TIMEOUT_S)
        with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if response.status_code == httpx.codes.NO_CONTENT:
                yield Streamed(name="message", data=DONE, id=None)
                return
            if response.is_error:
                response.read()
                raise self._refusal(response, _json(response))
            yield from read_events(response.iter_lines())

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unreachable(self.url, _reason(error)) from error

    def _call(self, method: str, path: str, **options: Any) -> Json:  # noqa: ANN401 - as above
        response = self._ask(method, path, **options)
        body = _json(response)
        if response.is_error or body is None:
            raise self._refusal(response, body)
        return body

    def _refusal(self, response: httpx.Response, body: Json | None) -> RequestFailed:
        error_object = body.get("error") if body else None
        return RequestFailed(
            response.status_code,
            error_object if isinstance(error_object, dict) else _not_ours(self.url, response),
            retry_after_s=_retry_after_s(response.headers),
        )


def _json(response: httpx.Response) -> Json | None:
    if response.is_success and not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _not_ours(url: str, response: httpx.Response) -> Json:
    """An error object for an answer that no Athanor gives: another server has the port."""
    return {
        "code": "not_athanor",
        "message": f"What answers at {url} is not Athanor (status {response.status_code}).",
        "hint": "Name the right address with --url or ATHANOR_URL.",
    }


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    try:
        if "retry-after-ms" in headers:
            return float(headers["retry-after-ms"]) / 1000
        return float(headers["retry-after"]) if "retry-after" in headers else None
    except ValueError:
        return None


def _reason(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "connection refused" if "refused" in str(error) else str(error)
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def _segment(text: str) -> str:
    return quote(text, safe="")


def _alias_path(name: str, alias: str) -> str:
    return f"/v1/models/{_segment(name)}/aliases/{_segment(alias)}"
