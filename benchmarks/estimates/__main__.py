"""Estimates beside what came: `python -m benchmarks.estimates [--jobs NAME …]`.

A service of its own trains six different jobs on the digits, one after the other. Before each, a dry run of
the same spec is asked for its estimate.

- seconds: the estimate's, of the whole training, beside the phase `training` of the job's own report;
- memory: the estimate's highest resident bytes beside VmHWM of the job's child, read while it trains;
- cost: wall time of the dry run from POST to its answer, which starts a process and loads torch; and
  `measured_s` of the job's own estimate, what measuring took inside the job, as a share of the job's seconds
  from POST to the published version.

Every job and the medians are appended to `results.jsonl`.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.estimates.child_peak import ChildPeak
from benchmarks.fine_tuning.sets import SETS, STARTER
from benchmarks.machine import machine_facts
from benchmarks.results import Results
from benchmarks.running_service import check, fine_tune, finish, make_dataset, service

HERE = Path(__file__).parent
JOBS: Mapping[str, dict[str, Any]] = {
    "starter lora": {"model": STARTER, "adapter": {"method": "lora", "r": 8}},
    "starter head": {
        "model": STARTER,
        "adapter": {"method": "head"},
        "image_size": 128,
        "batch_size": 64,
        "n_epochs": 15,
    },
    "starter full": {
        "model": STARTER,
        "adapter": {"method": "full"},
        "image_size": 96,
        "batch_size": 48,
        "n_epochs": 6,
        "augmentation": [{"method": "random_resized_crop"}, {"method": "rotate"}],
    },
    "lenet5 from scratch": {
        "model": "lenet5",
        "adapter": {"method": "full"},
        "batch_size": 32,
        "n_epochs": 150,
    },
    "mobilenetv3 from scratch": {
        "model": "mobilenetv3_small_100",
        "adapter": {"method": "full"},
        "image_size": 96,
        "batch_size": 64,
        "n_epochs": 16,
        "ema_decay": 0.99,
    },
    "vit-tiny from scratch": {
        "model": "vit_tiny_patch16_224",
        "adapter": {"method": "full"},
        "image_size": 64,
        "batch_size": 16,
        "n_epochs": 8,
    },
}
_VERSIONS = ("torch", "timm", "peft")


def measure(client: httpx.Client, spec: dict[str, Any]) -> dict[str, Any]:
    """A dry run, then the job."""
    began_s = time.monotonic()
    created = client.post("/v1/fine_tuning/jobs", params={"dry_run": True}, json=spec)
    check(created)
    dry = finish(client, f"/v1/jobs/{created.json()['id']}", poll_s=0.1)
    preflight_s = time.monotonic() - began_s
    told = dry["result"]["estimate"]
    with ChildPeak(str(client.base_url)) as peak:
        done = fine_tune(client, spec)
    times_s, own = done["report"]["times_s"], done["job"]["estimate"]
    return {
        "steps": done["report"]["steps"],
        "spec": done["report"]["spec"],
        "estimated_s": round(told["seconds"], 2),
        "trained_s": round(times_s["training"], 2),
        "seconds_ratio": round(told["seconds"] / times_s["training"], 3),
        "estimated_peak_bytes": told["peak_bytes"],
        "peak_bytes": peak.training_bytes,
        "peak_ratio": round(told["peak_bytes"] / max(1, peak.training_bytes), 3),
        "preflight_s": round(preflight_s, 2),
        "measuring_s": round(own["measured_s"], 3),
        "job_s": round(done["seconds"], 2),
        "measuring_share": round(own["measured_s"] / done["seconds"], 4),
        "times_s": times_s,
        "phases_seen": peak.phases,
        "preflight_estimate": told,
        "own_estimate": own,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is promised of all jobs together."""
    return {
        "jobs": len(rows),
        "median_seconds_ratio": round(median(row["seconds_ratio"] for row in rows), 3),
        "median_peak_ratio": round(median(row["peak_ratio"] for row in rows), 3),
        "longest_preflight_s": max(row["preflight_s"] for row in rows),
        "largest_measuring_share": max(row["measuring_share"] for row in rows),
        "median_measuring_share": round(median(row["measuring_share"] for row in rows), 4),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=JOBS)
    parser.add_argument("--max-steps", type=int, help="end each job after so many; for a trial of the script")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    results = Results(arguments.results, machine_facts(*_VERSIONS))
    short = {} if arguments.max_steps is None else {"max_steps": arguments.max_steps}

    rows = []
    with tempfile.TemporaryDirectory(prefix="athanor-bench-") as name:
        digits = SETS["digits"]
        archive = digits.make(Path(name))
        with service(Path(name)) as client:
            dataset = make_dataset(client, archive, "digits", digits.options)
            for job in arguments.jobs:
                spec = {**JOBS[job], **short, "task": "classification", "dataset": dataset}
                rows.append(measure(client, spec))
                results.write("job", job=job, **rows[-1])
    results.write("summary", **summary(rows))


if __name__ == "__main__":
    main()
