"""Fine-tuning as a user does it: `python -m benchmarks.fine_tuning digits [--seeds 0 1 2]`.

A service of its own starts on an empty data directory and imports its starter. A zip is uploaded once and
becomes a data set; each recipe trains on it with each seed, one job after the other. Every figure comes from
the job object and the report that the service publishes; the held-out split is the data set's own. They are
appended to `results.jsonl` with machine and commit.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fine_tuning.sets import SETS, RecipeSet
from tests.serving import free_port

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
_POLL_S = 0.5


@contextmanager
def service(folder: Path) -> Iterator[httpx.Client]:
    """A running `athanor serve` whose starter answers."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ATHANOR_")},
        "ATHANOR_DATA_DIR": str(folder / "data"),
        "ATHANOR_PORT": str(port),
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


def make_dataset(client: httpx.Client, archive: Path, name: str, options: dict[str, Any]) -> str:
    """Upload and validate; the version's reference."""
    with archive.open("rb") as file:
        uploaded = client.post("/v1/files", files={"file": file}, data={"purpose": "fine-tune"})
    _check(uploaded)
    body = {"file_id": uploaded.json()["id"], "name": name, "task": "classification", "options": options}
    made = client.post("/v1/datasets", json=body)
    _check(made)
    _finish(client, f"/v1/jobs/{made.json()['job_id']}")
    return f"{name}:1"


def fine_tune(client: httpx.Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Run one job to its end; the job object, its report and the seconds it took."""
    began_s = time.monotonic()
    created = client.post("/v1/fine_tuning/jobs", json=spec)
    _check(created)
    job = _finish(client, f"/v1/fine_tuning/jobs/{created.json()['id']}")
    seconds = time.monotonic() - began_s
    model = job["fine_tuned_model"]
    report = client.get(f"/v1/models/{model}/versions/1/artifacts/report.json")
    _check(report)
    return {"job": job, "report": report.json(), "seconds": seconds}


def _finish(client: httpx.Client, path: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = client.get(path).json()
        if job["status"] == "succeeded":
            return job
        if job["status"] in {"failed", "cancelled"}:
            raise SystemExit(f"{path}: {json.dumps(job['error'])}")
        time.sleep(_POLL_S)


def _check(response: httpx.Response) -> None:
    if not response.is_success:
        raise SystemExit(f"{response.request.url}: {response.status_code} {response.text}")


def _line(recipe: str, seed: int, done: dict[str, Any]) -> dict[str, Any]:
    report, job = done["report"], done["job"]
    evaluation = report["evaluation"]
    return {
        "recipe": recipe,
        "seed": seed,
        "accuracy": evaluation["accuracy"],
        "macro_f1": evaluation["macro_f1"],
        "samples": evaluation["samples"],
        "split": report["split"],
        "seconds": round(done["seconds"], 1),
        "steps": report["steps"],
        "trainable_share": job["trainable_parameters"] / job["total_parameters"],
        "spec": report["spec"],
    }


def main() -> None:
    """Train, print, append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", help="only these")
    arguments = parser.parse_args()
    chosen: RecipeSet = SETS[arguments.set]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    facts = {
        "set": arguments.set,
        "commit": commit,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    with tempfile.TemporaryDirectory() as name, (HERE / "results.jsonl").open("a") as results:
        folder = Path(name)
        archive = chosen.make(folder)
        with service(folder) as client:
            dataset = make_dataset(client, archive, arguments.set.replace("_", "-"), chosen.options)
            for recipe, spec in chosen.recipes.items():
                if arguments.recipes and recipe not in arguments.recipes:
                    continue
                for seed in arguments.seeds:
                    done = fine_tune(client, {**spec, "dataset": dataset, "seed": seed})
                    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
                    text = json.dumps(line | _line(recipe, seed, done))
                    print(text, flush=True)
                    results.write(f"{text}\n")


if __name__ == "__main__":
    main()
