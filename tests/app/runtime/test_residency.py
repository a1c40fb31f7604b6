"""Many models under a bound that holds a few: they come and go, and only the time it takes gives it away."""

import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from starlette.testclient import TestClient

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.session import Database
from app.errors import ModelNotReady
from app.main import create_app
from app.registry.service import Registry
from app.runtime.heap import tame_heap
from app.services import build_services
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.colour_models import COLOURS, picture, publish_colours, publish_glutton
from tests.serving import gateway, pin_plan

MODELS = 20
FIT = 5
CLIENTS = 4
SECONDS = 3.0
SWELL_BYTES = 2**23
"""Of each input: eight of them outweigh what else a process takes and gives back meanwhile."""


def ask(client, model, colour="red"):
    return client.post(
        f"/v1/classification?model={model}&top_k=1",
        content=picture(colour),
        headers={"x-request-deadline": "30"},
    )


def refusal(answer):
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"], error["hint"]


def serving(client, name):
    answer = client.get(f"/v1/models/{name}/serving")
    assert answer.status_code == 200, answer.text
    return answer.json()


def publish_many(registry, database, folder, count):
    """Models that hold some 64 MB each and name the colours each in its own way."""
    names = [f"colours-{index}" for index in range(count)]
    for index, name in enumerate(names):
        labels = tuple(f"{colour} {index}" for colour in COLOURS)
        publish_colours(
            registry, folder / name, name=name, labels=labels, gain=8.0 + index, swell_bytes=SWELL_BYTES
        )
        pin_plan(registry, database, name, batch=4)
    return names


@contextmanager
def crowd(folder, count, **settings):
    """Settings of a data directory with so many models, and their names."""
    settings = Settings(
        **{"default_classifier": "", "starters": "", "data_dir": folder / "data", **settings}, _env_file=None
    )
    migrate.upgrade(settings.sqlalchemy_url)
    database = Database(settings.sqlalchemy_url)
    registry = Registry(database, ObjectStore.from_settings(settings))
    yield settings, publish_many(registry, database, folder, count)
    database.close()


@contextmanager
def served(folder, count, **settings):
    """A client of a gateway in this process, and the models' names."""
    with (
        crowd(folder, count, **settings) as (made, names),
        TestClient(create_app(made), base_url="http://127.0.0.1") as client,
    ):
        yield client, names


def loaded(client):
    return [model["id"] for model in client.get("/v1/models").json()["data"] if model["ready"]]


@pytest.fixture(scope="module")
def one_bytes(tmp_path_factory):
    """What one of these models is weighed to hold: the median, as the runtime itself grows with the first."""
    tame_heap()  # as a gateway does: what is freed goes back, and weighs nothing
    with served(tmp_path_factory.mktemp("one"), 3) as (client, names):
        for name in names:
            assert ask(client, name).status_code == 200
        return statistics.median(serving(client, name)["versions"][0]["memory_bytes"] for name in names)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory, one_bytes):
    """A gateway process with twenty models and room for five."""
    folder = tmp_path_factory.mktemp("crowded")
    with gateway(folder, model_memory_bytes=int(one_bytes * (FIT + 0.5))) as world:
        publish_many(world.registry, world.database, folder, MODELS)
        yield world


def test_twenty_models_answer_where_five_fit(crowded):
    answers, held = [], []
    stop_s = time.monotonic() + SECONDS

    def use(seed):
        choose = random.Random(seed)
        with crowded.client() as client:
            while time.monotonic() < stop_s:
                index, colour = choose.randrange(MODELS), choose.randrange(3)
                answer = ask(client, f"colours-{index}", COLOURS[colour])
                answers.append((answer.status_code, answer.json(), f"{COLOURS[colour]} {index}"))

    def watch():
        while time.monotonic() < stop_s:
            held.append(crowded.metric("athanor_model_memory_bytes"))
            time.sleep(0.05)

    with ThreadPoolExecutor(CLIENTS + 1) as threads:
        for done in [threads.submit(watch), *(threads.submit(use, seed) for seed in range(CLIENTS))]:
            done.result()
    wrong = [
        (status, body)
        for status, body, label in answers
        if status != 200 or body["predictions"][0]["label"] != label
    ]
    assert wrong == []
    assert len({label.partition(" ")[2] for _, _, label in answers}) > FIT
    assert 0 < max(held) <= crowded.settings.model_memory_bytes
    evictions = crowded.metric("athanor_model_evictions_total")
    assert evictions > 0
    assert crowded.metric("athanor_model_loads_total") - evictions == crowded.metric("athanor_models_loaded")
    assert 1 < crowded.metric("athanor_models_loaded") < MODELS / 2


def test_when_the_memory_has_run_out_it_says_so_and_the_next_request_is_answered(crowded, tmp_path):
    publish_glutton(crowded.registry, tmp_path / "glutton", name="glutton")
    pin_plan(crowded.registry, crowded.database, "glutton", batch=4)
    with crowded.client() as client:
        assert ask(client, "colours-0").status_code == ask(client, "glutton", "blue").status_code == 200
        limit = crowded.process.memory_info().vms + 2**30
        crowded.process.rlimit(psutil.RLIMIT_AS, (limit, limit))
        for _ in range(3):
            refused = ask(client, "glutton", "red")  # for which it wants 4 GiB
            status, code, message, hint = refusal(refused)
            assert (status, code) == (503, "out_of_memory")
            assert "not enough memory" in message
            assert "Retry" in hint
            assert int(refused.headers["retry-after"]) >= 1
            assert ask(client, "colours-0").json()["predictions"][0]["label"] == "red 0"
            assert ask(client, "glutton", "blue").json()["predictions"][0]["label"] == "blue"
        publish_glutton(crowded.registry, tmp_path / "always", name="always", above=0)
        pin_plan(crowded.registry, crowded.database, "always", batch=4)
        assert refusal(ask(client, "always"))[:2] == (503, "out_of_memory")  # while it is loaded
        assert crowded.metric("athanor_model_load_refusals_total", reason="out_of_memory") == 1
        for index in range(FIT + 1):
            assert ask(client, f"colours-{index}").status_code == 200


def test_the_least_recently_used_leaves_and_a_pinned_one_stays(tmp_path, one_bytes):
    with served(tmp_path, 3, model_memory_bytes=int(one_bytes * 2.5)) as (client, (first, second, third)):
        for name in (first, second, first, third):
            assert ask(client, name).status_code == 200
        assert loaded(client) == [first, third]
        pinned = client.put(f"/v1/models/{first}/serving", json={"pinned": True})
        assert pinned.json()["stays_loaded"]
        for name in (third, second, third):
            assert ask(client, name).status_code == 200
        assert loaded(client) == [first, third]


def test_the_default_classifier_stays_unless_its_model_says_otherwise(tmp_path, one_bytes):
    limits = {"default_classifier": "colours-0@default", "model_memory_bytes": int(one_bytes * 1.5)}
    with served(tmp_path, 2, drain_timeout_s=0.3, **limits) as (client, (default, other)):
        assert ask(client, default).status_code == 200
        assert refusal(ask(client, other))[:2] == (503, "model_not_ready")
        assert serving(client, default)["stays_loaded"]
        assert client.put(f"/v1/models/{default}/serving", json={"pinned": False}).status_code == 200
        assert ask(client, other).status_code == 200


def test_what_pins_leave_no_room_for_is_refused_with_what_to_do(tmp_path, one_bytes):
    limits = {"model_memory_bytes": int(one_bytes * 1.5), "drain_timeout_s": 0.3}
    with served(tmp_path, 2, **limits) as (client, (first, second)):
        assert client.put(f"/v1/models/{first}/serving", json={"pinned": True}).status_code == 200
        refused = ask(client, second)
        status, code, message, hint = refusal(refused)
        assert (status, code) == (503, "model_not_ready")
        assert f"Pinned: {first}:1" in message
        assert "ATHANOR_MODEL_MEMORY_BYTES" in hint
        assert int(refused.headers["retry-after"]) >= 1
        assert 'load_refusals_total{reason="model_not_ready"} 1.0' in client.get("/metrics").text
        assert client.put(f"/v1/models/{second}/serving", json={"pinned": True}).status_code == 503
        assert serving(client, second)["pinned"] is None
        assert ask(client, first).status_code == 200


def test_a_model_larger_than_the_bound_is_refused_by_name(tmp_path, one_bytes):
    with served(tmp_path, 1, model_memory_bytes=one_bytes // 2) as (client, (name,)):
        for _ in range(2):  # found out by weighing, then known
            status, code, message, hint = refusal(ask(client, name))
            assert (status, code) == (409, "not_servable")
            assert f"{name}:1" in message
            assert "Set ATHANOR_MODEL_MEMORY_BYTES" in hint
        assert loaded(client) == []


def test_a_model_that_is_in_use_is_waited_for_and_never_cut(tmp_path, one_bytes):
    with crowd(tmp_path, 2, model_memory_bytes=int(one_bytes * 1.5), drain_timeout_s=0.3) as (
        settings,
        names,
    ):
        services = build_services(settings)
        held = services.pool.acquire(SYSTEM, names[0])
        with pytest.raises(ModelNotReady, match="no room to load colours-1:1"):
            services.pool.acquire(SYSTEM, names[1])
        held.probe()  # its session is open
        assert services.pool.acquire(SYSTEM, names[0]) is held
        held.let_go()
        threading.Timer(0.1, held.let_go).start()
        assert services.pool.acquire(SYSTEM, names[1]).label == "colours-1:1"
        assert not held.hold()
        services.close()


def test_how_a_model_is_served_is_set_while_requests_go_on(tmp_path):
    with served(tmp_path, 1) as (client, (name,)):
        assert serving(client, name)["versions"][0]["loaded"] is False
        assert ask(client, name).status_code == 200
        (version,) = serving(client, name)["versions"]
        assert version.pop("memory_bytes") > 2**20
        assert version == {
            "version": 1,
            "loaded": True,
            "instances": 2,
            "threads": 1,
            "max_batch": 4,
            "lone_threads": 0,
            "images_per_s": None,
            "provider": "CPUExecutionProvider",
            "requests": 0,
        }
        changed = client.put(f"/v1/models/{name}/serving", json={"instances": 1, "max_batch": 2}).json()
        assert (changed["instances"], changed["threads"], changed["max_batch"]) == (1, None, 2)
        (version,) = changed["versions"]
        assert (version["loaded"], version["instances"], version["max_batch"]) == (True, 1, 2)
        assert ask(client, name).json()["predictions"][0]["label"] == "red 0"


def test_every_gateway_loads_what_is_pinned_without_being_asked(tmp_path):
    with (
        crowd(tmp_path, 1) as (settings, names),
        TestClient(create_app(settings), base_url="http://127.0.0.1") as one,
        TestClient(create_app(settings), base_url="http://127.0.0.1") as other,
    ):
        assert loaded(other) == []
        assert one.put(f"/v1/models/{names[0]}/serving", json={"pinned": True}).status_code == 200
        until_s = time.monotonic() + 20
        while loaded(other) != names and time.monotonic() < until_s:
            time.sleep(0.05)
        assert loaded(other) == names


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({"threads": 10_000}, 400, "invalid_request", "cores"),
        ({"threads": 0}, 422, "invalid_payload", "threads"),
        ({"instances": 65}, 422, "invalid_payload", "instances"),
        ({"max_batch": "many"}, 422, "invalid_payload", "max_batch"),
        ({"pinned": True, "lanes": 2}, 422, "invalid_payload", "lanes"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_changes(one_client, body, status, code, said):
    before = serving(one_client, "colours-0")
    answer = one_client.put("/v1/models/colours-0/serving", json=body)
    assert refusal(answer)[:2] == (status, code)
    assert said in answer.json()["error"]["message"]
    assert serving(one_client, "colours-0") == before


@pytest.fixture(scope="module")
def one_client(tmp_path_factory):
    with served(tmp_path_factory.mktemp("refused"), 1) as (client, _):
        yield client


def test_an_unknown_model_is_served_in_no_way(one_client):
    assert refusal(one_client.put("/v1/models/nobody/serving", json={}))[:2] == (404, "unknown_model")
    assert refusal(one_client.get("/v1/models/nobody/serving"))[:2] == (404, "unknown_model")


def test_nobody_waits_for_a_model_longer_than_he_said_and_the_load_goes_on(tmp_path):
    with gateway(tmp_path) as world, world.client() as client:
        publish_colours(world.registry, tmp_path / "slow", name="slow", work=60)
        world.pin_plan("slow", batch=4)
        url = "/v1/classification?model=slow&top_k=1"
        late = client.post(url, content=picture("red"), headers={"x-request-deadline": "0.1"})
        assert refusal(late)[:2] == (504, "deadline_exceeded")
        assert "while slow was loaded" in late.json()["error"]["message"]
        assert ask(client, "slow").json()["predictions"][0]["label"] == "red"
        assert world.metric("athanor_model_loads_total") == 1
