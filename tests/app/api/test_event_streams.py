"""Server-sent events, read by a plain HTTP client from a real gateway process."""

import asyncio
import json
import threading
import time

import httpx
import pytest

from app.access.principal import SYSTEM, Principal
from app.jobs.service import JobService
from tests.fine_tuning_world import furnish
from tests.job_world import Hand
from tests.serving import gateway


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    with gateway(folder) as world:
        furnish(world.settings, folder)
        yield world


@pytest.fixture
def job_id(world):
    with world.client() as http:
        body = {"model": "base", "training_file": "colours"}
        return http.post("/v1/fine_tuning/jobs", json=body).json()["id"]


def read(lines, *, until=None):
    """Events as (name, data, id), until one of this name or the end."""
    told, fields = [], {}
    for line in lines:
        if not line:
            if "data" in fields:
                data = fields["data"]
                name = fields.get("event")
                told.append((name, data if data == "[DONE]" else json.loads(data), fields.get("id")))
                if until is not None and name == until:
                    return told
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
    return told


def test_a_stream_tells_the_past_and_the_rest_of_a_job_as_it_happens(world, job_id):
    hand = Hand(world.database, job_id)
    with world.client() as http, http.stream("GET", f"/v1/jobs/{job_id}/events/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        lines = answer.iter_lines()
        past = read(lines, until="status")
        hand.note(phase="training", progress=0.25, metrics={10: {"train_loss": 0.5}})
        hand.note(messages=("halfway",))
        hand.end(result={"model": "x:1"})
        rest = read(lines)
    assert [(name, data.get("message")) for name, data, _ in past if name != "status"] == [
        ("state", "created"),
        ("state", "started"),
    ]
    told = [(name, data["message"]) for name, data, _ in rest[:-1] if name != "status"]
    assert told == [
        ("progress", "training"),
        ("metrics", "Step 10: train_loss=0.5"),
        ("message", "halfway"),
        ("state", "succeeded"),
    ]
    assert rest[-1] == (None, "[DONE]", None)
    states = [data for name, data, _ in past + rest if name == "status"]
    assert states[0] == {"status": "running", "phase": None, "progress": 0.0}
    assert states[-1] == {"status": "succeeded", "phase": "training", "progress": 1.0}
    assert all(id_ is None for name, _, id_ in past + rest if name == "status")


def test_last_event_id_goes_on_where_a_stream_broke_and_ends_it_for_good(world, job_id):
    path = f"/v1/fine_tuning/jobs/{job_id}/events"
    Hand(world.database, job_id).end(result={"model": "x:1"})
    with world.client() as http:
        told = read(http.get(path, params={"stream": "true"}).text.splitlines())
        assert [data["message"] for _, data, id_ in told if id_] == ["created", "started", "succeeded"]
        assert {data["object"] for _, data, id_ in told if id_} == {"fine_tuning.job.event"}
        assert told[-1][1] == "[DONE]"
        ids = [id_ for _, _, id_ in told if id_]
        rest = read(
            http.get(path, params={"stream": True}, headers={"last-event-id": ids[0]}).text.splitlines()
        )
        assert [id_ for _, _, id_ in rest if id_] == ids[1:]
        for url in (path + "?stream=true", f"/v1/jobs/{job_id}/events/stream"):
            over = http.get(url, headers={"last-event-id": ids[-1]})
            assert (over.status_code, over.content) == (204, b"")


def test_what_cannot_be_watched_is_refused_before_the_stream_begins(world, job_id):
    jobs = JobService(world.database, lambda _: None)
    theirs = jobs.create(Principal(tenant_id="b"), kind="probe", spec={}).id
    plain = jobs.create(SYSTEM, kind="probe", spec={}).id
    with world.client() as http:
        for missing in ("job_none", theirs):
            answer = http.get(f"/v1/jobs/{missing}/events/stream")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        answer = http.get(f"/v1/fine_tuning/jobs/{plain}/events?stream=true")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        for path in (f"/v1/jobs/{job_id}/events/stream", f"/v1/fine_tuning/jobs/{job_id}/events?stream=true"):
            answer = http.get(path, headers={"last-event-id": "42"})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID")


def test_two_hundred_watch_one_job_and_other_routes_answer(world, job_id):
    hand = Hand(world.database, job_id)

    async def watch(http, started):
        async with http.stream("GET", f"/v1/jobs/{job_id}/events/stream") as answer:
            async for line in answer.aiter_lines():
                if "started" in line:
                    started.append(1)
                if "everybody" in line:
                    return True
        return False

    async def watch_all():
        limits = httpx.Limits(max_connections=250)
        async with httpx.AsyncClient(base_url=world.url, limits=limits, timeout=60) as http:
            started = []
            watching = [asyncio.create_task(watch(http, started)) for _ in range(200)]
            while len(started) < 200:
                await asyncio.sleep(0.02)
            took_s = []
            for _ in range(50):
                begun_s = time.perf_counter()
                assert (await http.get("/v1/models")).status_code == 200
                took_s.append(time.perf_counter() - begun_s)
            await asyncio.to_thread(hand.note, messages=("everybody",))
            return await asyncio.gather(*watching), sorted(took_s)

    told, took_s = asyncio.run(watch_all())
    assert told == [True] * 200
    assert took_s[25] < 0.5  # a busy machine's; `benchmarks` has the real figure
    hand.end()


def test_the_service_stops_at_once_though_somebody_watches(tmp_path):
    with gateway(tmp_path) as world:
        job = JobService(world.database, lambda _: None).create(SYSTEM, kind="probe", spec={})
        begun = threading.Event()
        told = []

        def watch():
            with httpx.stream("GET", f"{world.url}/v1/jobs/{job.id}/events/stream", timeout=60) as answer:
                for line in answer.iter_lines():
                    told.append(line)
                    begun.set()

        watching = threading.Thread(target=watch)
        watching.start()
        assert begun.wait(20)
        begun_s = time.monotonic()
        world.process.terminate()
        world.process.wait(20)
        watching.join(5)
        assert not watching.is_alive()
        assert time.monotonic() - begun_s < 4  # uvicorn alone would wait for its time-out of 5 s
    assert not any("[DONE]" in line for line in told)
