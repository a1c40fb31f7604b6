"""A schema-driven fuzzer against the running gateway: nothing outside the OpenAPI document, no server error.

Two refusals carry a 5xx status by design and are the only ones allowed: 503 while the model asked for is
still being imported, and 504 for a deadline that the caller set too short.
"""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

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
JOBS = r"^/v1/(fine_tuning|jobs)"
"""Operations on these paths, and all others: about half of the requests each."""


def fuzzer(url, folder, choice, examples):
    # Two processes instead of two workers in one: Python 3.11 cannot parse in two threads at once.
    return subprocess.Popen(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            f"{url}/openapi.json",
            f"--checks={CHECKS}",
            f"--{choice}-path-regex={JOBS}",
            f"--max-examples={examples}",
            "--workers=1",
            "--seed=1",
            "--phases=examples,coverage,fuzzing",
            "--continue-on-failure",
            "--no-color",
            "--suppress-health-check=all",
            "--generation-database=none",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("examples", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_nothing_answers_outside_its_schema(tmp_path, examples):
    with gateway(tmp_path, default_classifier="quick") as world:
        publish_colours(world.registry, tmp_path / "quick", name="quick")
        world.pin_plan("quick", batch=4)
        fuzzers = [fuzzer(world.url, tmp_path, choice, examples) for choice in ("include", "exclude")]
        try:
            reports = [one.communicate(timeout=1100)[0] for one in fuzzers]
        finally:
            for one in fuzzers:
                one.kill()
        requests = httpx.get(f"{world.url}/metrics").text
        paths = httpx.get(f"{world.url}/openapi.json").json()["paths"]
    statuses = set(re.findall(r'^athanor_requests_total\{.*status="(\d+)"', requests, re.MULTILINE))
    assert {status for status in statuses if status >= "500"} <= {"503", "504"}
    assert {"200", "400", "404", "422"} <= statuses
    for one, report in zip(fuzzers, reports, strict=True):
        assert one.returncode == 0, report[-30000:]
    tested = [re.search(r"Selected: (\d+)/(\d+)", report) for report in reports]
    assert all(tested), reports
    operations = sum(len(methods) for methods in paths.values())
    assert sum(int(each[1]) for each in tested) == operations > 50
    assert min(int(each[1]) for each in tested) > 10
