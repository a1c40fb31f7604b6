"""A schema-driven fuzzer against the running gateway: nothing outside the OpenAPI document, no server error.

Two refusals carry a 5xx status by design and are the only ones allowed: 503 while the model asked for is
still being imported, and 504 for a deadline that the caller set too short.
"""

import re
import subprocess
import sys
from pathlib import Path

import httpx

from tests.colour_models import publish_colours
from tests.serving import gateway

CHECKS = ",".join(
    (
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
    )
)


def test_nothing_answers_outside_its_schema(tmp_path):
    with gateway(tmp_path, default_classifier="quick") as world:
        publish_colours(world.registry, tmp_path / "quick", name="quick")
        world.pin_plan("quick", batch=4)
        run = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                "run",
                f"{world.url}/openapi.json",
                f"--checks={CHECKS}",
                "--max-examples=10",
                "--workers=2",
                "--seed=1",
                "--phases=examples,coverage,fuzzing",
                "--continue-on-failure",
                "--no-color",
                "--suppress-health-check=all",
                "--generation-database=none",
            ],
            capture_output=True,
            text=True,
            timeout=280,
            cwd=tmp_path,
            check=False,
        )
        requests = httpx.get(f"{world.url}/metrics").text
    statuses = set(re.findall(r'^athanor_requests_total\{.*status="(\d+)"', requests, re.MULTILINE))
    assert {status for status in statuses if status >= "500"} <= {"503", "504"}
    assert {"200", "400", "404", "422"} <= statuses
    operations = re.search(r"Operations:\s+(\d+) selected", run.stdout) or re.search(
        r"(\d+) selected / (\d+)", run.stdout
    )
    assert run.returncode == 0, run.stdout[-30000:] + run.stderr[-2000:]
    assert operations, run.stdout[-3000:]
    assert int(operations.group(1)) >= 20
