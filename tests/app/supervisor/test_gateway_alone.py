"""`athanor serve --gateway-only`: what docker-compose runs, with worker and migration beside it."""

import json
import signal
import subprocess
import urllib.request

import pytest

from app.db import migrate
from tests.app.supervisor.service_process import COMMAND


@pytest.fixture
def start(service):
    """Start it; its log lines come as they are written."""
    started = []

    def go(**settings):
        environment = {
            **service.environment,
            **{f"ATHANOR_{name}": value for name, value in settings.items()},
        }
        command = [*COMMAND, "--gateway-only"]
        process = subprocess.Popen(
            command, env=environment, cwd=service.data_dir.parent, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def first_line(process):
    return json.loads(process.stderr.readline())


def test_it_serves_until_it_is_told_to_stop(start, service):
    migrate.upgrade(service.settings().sqlalchemy_url)
    process = start()
    line = first_line(process)
    assert line["event"] == "listening"
    with urllib.request.urlopen(line["url"] + "/health/ready", timeout=10) as response:
        assert response.status == 200
    assert not (service.data_dir / "serve.json").exists()
    process.send_signal(signal.SIGTERM)
    process.wait(10)


def test_on_a_database_that_was_not_migrated_it_says_what_to_do(start):
    process = start()
    assert "athanor migrate" in first_line(process)["hint"]
    assert process.wait(10) == 1


def test_it_too_needs_a_key_where_others_reach_it(start):
    process = start(HOST="0.0.0.0")
    assert process.wait(20) == 1
    assert b"no key is set" in process.stderr.read()
