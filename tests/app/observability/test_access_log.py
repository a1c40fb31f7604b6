"""The lines of requests."""

import io
import json

import pytest

from app.observability.access_log import AccessLog


@pytest.mark.parametrize(
    ("log_level", "noted"),
    [
        ("debug", [200, 404, 503, 500]),
        ("info", [200, 404, 503, 500]),
        ("warning", [503, 500]),
        ("error", [500]),
    ],
)
def test_requests_below_the_level_are_not_noted(log_level, noted):
    stream = io.BytesIO()
    log = AccessLog(as_json=True, log_level=log_level, stream=stream)
    log.start()
    for status in (200, 404, 503, 500):
        log.write("GET", "/v1/models", "r-1", status, 0.001)
    log.write("GET", "/health/ready", "r-2", 500, 0.001)
    log.close()
    assert [json.loads(line)["status"] for line in stream.getvalue().splitlines()] == noted
