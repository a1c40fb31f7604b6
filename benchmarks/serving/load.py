"""One cell: wrk posts the photograph over keep-alive connections and says what came back."""

import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
PATH = "/v1/classification"
_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the generator saw of one cell."""

    images_per_s: float
    """Answers with status 200 per second: the slope of their number over time, in the window."""
    p50_ms: float
    p99_ms: float
    non_200: int
    broken: int
    """Connections that failed: refused, reset or silent."""
    requests: int
    """Answered over the generator's whole run, which is longer than the window."""
    generator_cpu_s: float
    """CPU time of the generator over its whole run."""


def wrk() -> str:
    """Path of the load generator.

    Raises:
        SystemExit: it is not installed.

    """
    path = shutil.which("wrk")
    if path is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    return path


def post(
    port: int,
    photo: Path,
    *,
    connections: int,
    warm_s: float,
    seconds: float,
    path: str = PATH,
    query: str = "",
) -> Load:
    """Load a route for `warm_s + seconds` and look at the last `seconds`."""
    slack_s = 0.3  # the window opens at the first answer, not at the first request
    command = [
        wrk(),
        "--threads=1",
        f"--connections={connections}",
        f"--duration={round(warm_s + seconds + slack_s + 0.5)}s",
        f"--timeout={_TIMEOUT_S}s",
        f"--script={SCRIPT}",
        f"http://127.0.0.1:{port}{path}{query}",
    ]
    knobs = {"BENCH_BODY": str(photo), "BENCH_WARM_S": str(warm_s), "BENCH_SECONDS": str(seconds)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env={**os.environ, **knobs}, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seen = json.loads(done.stderr.splitlines()[-1])
    return Load(
        images_per_s=seen["answers_per_s"],
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
        non_200=seen["non_200"],
        broken=seen["broken"],
        requests=seen["requests"],
        generator_cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )
