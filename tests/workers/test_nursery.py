"""Runs are forked from a process that has imported what they need."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from workers.kinds.warming import imports_of
from workers.nursery import Nursery


@pytest.fixture
def fork():
    """Fork a run that gets no order: it says so and leaves. Its process id, or None, and its exit code."""
    nurseries = []

    def fork(nursery, *imports):
        nurseries.append(nursery)
        (their_stdin, stdin), (birth, their_birth) = os.pipe(), os.pipe()
        os.close(stdin)
        with Path(os.devnull).open("w") as nowhere:
            nursery.fork(imports, (their_stdin, nowhere.fileno(), nowhere.fileno(), their_birth))
        os.close(their_stdin)
        os.close(their_birth)
        with os.fdopen(birth) as pipe:
            said = pipe.read()
        if not said:
            return None, None
        _, status = os.waitpid(int(said), 0)
        return int(said), os.waitstatus_to_exitcode(status)

    yield fork
    for nursery in nurseries:
        nursery.end()


def process_of(nursery):
    return psutil.Process(nursery._process.pid)


@pytest.mark.parametrize(
    ("kind", "spec", "brought"),
    [
        ("fine_tune", {"train": {"adapter": {"method": "full"}}}, "training"),
        ("fine_tune", {"train": {"adapter": {"method": "lora"}}}, "adapters"),
        ("publish_checkpoint", {}, "adapters"),
        ("import", {"source": "starter:u2netp"}, "networks"),
        ("import", {"source": "file:file_1"}, "services"),
        ("dataset", {}, "services"),
    ],
)
def test_a_run_finds_what_its_kind_needs(kind, spec, brought):
    assert imports_of(kind, spec) == (f"workers.kinds.warming:{brought}",)


def test_runs_are_this_process_s_own_children_and_imports_are_made_once(fork, tmp_path, monkeypatch):
    (tmp_path / "counted.py").write_text(f"open({str(tmp_path / 'count')!r}, 'a').write('x')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    nursery = Nursery(threads=1)
    first, code = fork(nursery, "counted")
    assert code == 1  # EOFError: no order came
    process = process_of(nursery)
    second, _ = fork(nursery, "counted")
    assert len({first, second, process.pid}) == 3
    assert process_of(nursery).pid == process.pid
    assert (tmp_path / "count").read_text() == "x"


def test_what_cannot_be_imported_is_left_to_the_run(fork):
    _, code = fork(Nursery(threads=1), "there.is.no.such.module", "workers.protocol:nor_such_a_function")
    assert code == 1


def test_one_that_was_killed_is_replaced(fork):
    nursery = Nursery(threads=1)
    fork(nursery)
    process = process_of(nursery)
    process.kill()
    process.wait()
    assert fork(nursery)[1] == 1
    assert process_of(nursery).pid != process.pid


def test_one_that_nobody_asks_rests_and_comes_back(fork):
    nursery = Nursery(threads=1, rest_s=0.2)
    fork(nursery)
    process = process_of(nursery)
    process.wait(10)
    assert fork(nursery)[1] == 1


@pytest.fixture
def own_nursery(bench):
    """One that nobody has asked for anything yet."""
    nursery = Nursery(threads=1)
    bench.use(nursery)
    yield
    nursery.end()


@pytest.mark.usefixtures("own_nursery")
def test_a_run_that_is_ended_while_its_imports_are_made_never_begins(bench, tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    monkeypatch.setattr("workers.attempt.imports_of", lambda kind, spec: ("endless",))
    monkeypatch.setattr("workers.attempt.STOP_WITHIN_S", 0.5)
    job_id, thread = bench.start("nap", started=str(tmp_path / "started"), seconds=60)
    while bench.get(job_id).status != "running":
        time.sleep(0.02)
    bench.runner.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert bench.get(job_id).status == "queued"
    assert not (tmp_path / "started").exists()


@pytest.mark.usefixtures("own_nursery")
def test_a_nursery_that_dies_over_its_imports_costs_a_try_and_not_the_job(bench, tmp_path, monkeypatch):
    (tmp_path / "fatal.py").write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGKILL)})\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    wanted = iter([("fatal",), ()])
    monkeypatch.setattr("workers.attempt.imports_of", lambda kind, spec: next(wanted))
    job = bench.run("nap", started=str(tmp_path / "started"), seconds=0)
    assert (job.status, job.attempts) == ("succeeded", 2)
