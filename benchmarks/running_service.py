"""A service of one's own for a benchmark, and what is asked of it: data sets and jobs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.serving import free_port


@contextmanager
def service(folder: Path, **settings: str) -> Iterator[httpx.Client]:
    """A running `athanor serve` that is ready, as it is when its classifier answers; it has no other starter
    unless `settings` say so."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ATHANOR_")},
        "ATHANOR_DATA_DIR": str(folder / "data"),
        "ATHANOR_PORT": str(port),
        "ATHANOR_STARTERS": "efficientnet-lite0",
        **{f"ATHANOR_{name}": value for name, value in settings.items()},
    }
    process = subprocess.Popen([str(Path(sys.executable).parent / "athanor"), "serve"], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait_until_ready(client)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(client: httpx.Client) -> None:
    for _ in range(600):
        with suppress(httpx.TransportError):
            if client.get("/health/ready").is_success:
                return
        time.sleep(1)
    raise SystemExit("the starter was not imported within ten minutes")


def wait_for_model(client: httpx.Client, name: str) -> None:
    """Until a starter has been imported. Raises SystemExit after ten minutes."""
    for _ in range(600):
        if client.get(f"/v1/models/{name}").is_success:
            return
        time.sleep(1)
    raise SystemExit(f"{name} was not imported within ten minutes")


def make_dataset(
    client: httpx.Client,
    archive: Path,
    name: str,
    options: dict[str, Any],
    *,
    task: str = "classification",
) -> str:
    """Upload and validate; the version's reference."""
    with archive.open("rb") as file:
        uploaded = client.post("/v1/files", files={"file": file}, data={"purpose": "fine-tune"})
    check(uploaded)
    body = {"file_id": uploaded.json()["id"], "name": name, "task": task, "options": options}
    made = client.post("/v1/datasets", json=body)
    check(made)
    finish(client, f"/v1/jobs/{made.json()['job_id']}")
    return f"{name}:1"


def fine_tune(client: httpx.Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Run one job to its end; the job object, its report and the seconds it took."""
    began_s = time.monotonic()
    created = client.post("/v1/fine_tuning/jobs", json=spec)
    check(created)
    job = finish(client, f"/v1/fine_tuning/jobs/{created.json()['id']}")
    seconds = time.monotonic() - began_s
    model = job["fine_tuned_model"]
    report = client.get(f"/v1/models/{model}/versions/1/artifacts/report.json")
    check(report)
    return {"job": job, "report": report.json(), "seconds": seconds}


def compress(client: httpx.Client, model: str, dataset: str, precision: str) -> dict[str, Any]:
    """Run one job; what its certificate says of both graphs, or why it was refused."""
    spec = {"model": model, "precision": precision, "dataset": dataset}
    created = client.post("/v1/jobs", json={"kind": "compress", "spec": spec})
    check(created)
    job = _ended(client, f"/v1/jobs/{created.json()['id']}", poll_s=0.5)
    if job["status"] != "succeeded":
        return {"error": job["error"]}
    name, _, number = job["result"]["model"].partition(":")
    certificate = client.get(f"/v1/models/{name}/versions/{number}/artifacts/certificate.json")
    check(certificate)
    said = certificate.json()
    compared = said["compared_with"]
    before = {"size_before_bytes": compared.pop("size_bytes"), "size_bytes": said["size_bytes"]}
    return {"agreement": said["agreement"], **before, **compared}


def finish(client: httpx.Client, path: str, *, poll_s: float = 0.5) -> dict[str, Any]:
    """The job at its end. Raises SystemExit when it failed."""
    job = _ended(client, path, poll_s=poll_s)
    if job["status"] != "succeeded":
        raise SystemExit(f"{path}: {json.dumps(job['error'])}")
    return job


def _ended(client: httpx.Client, path: str, *, poll_s: float) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = client.get(path).json()
        if job["status"] in {"succeeded", "failed", "cancelled"}:
            return job
        time.sleep(poll_s)


def check(response: httpx.Response) -> None:
    """Raise SystemExit with what a refusal says."""
    if not response.is_success:
        raise SystemExit(f"{response.request.url}: {response.status_code} {response.text}")
