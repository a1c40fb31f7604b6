"""Versions come and go while requests flow: nothing fails, nothing mixes, nothing leaks."""

import asyncio
import threading
import time

import httpx
import pytest

from tests.colour_models import COLOURS, picture, publish_colours
from tests.serving import gateway

SWAPS = 200
FIRST_LABELS = COLOURS
SECOND_LABELS = ("rouge", "vert", "bleu")
LABELS_OF = {"swap:1": FIRST_LABELS, "swap:2": SECOND_LABELS}
CLIENTS = 4
PAUSE_S = 0.02
"""Of a client between two requests: some are always in flight, and the machine has time to swap."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swaps")
    with gateway(folder) as world:
        work = {"work": 1, "work_side": 160}  # a run takes a millisecond: swaps come into the middle of some
        publish_colours(world.registry, folder / "one", name="swap", labels=FIRST_LABELS, **work)
        publish_colours(world.registry, folder / "two", name="swap", labels=SECOND_LABELS, gain=7.0, **work)
        world.pin_plan("swap", batch=4)
        yield world


def promote(client, number):
    answer = client.put("/v1/models/swap/aliases/default", json={"version": number})
    assert answer.status_code == 200, answer.text


def test_swaps_under_load_fail_nothing_and_mix_nothing(world):
    stop = threading.Event()
    answers: list[tuple[int, dict, int]] = []
    asking = set()
    pictures = [[picture(colour, noise=index + 1) for colour in COLOURS] for index in range(CLIENTS)]

    async def flow():
        async with httpx.AsyncClient(base_url=world.url, timeout=60) as client:

            async def one(index):
                while not stop.is_set():
                    colour = (index + len(answers)) % 3
                    asking.add(index)
                    response = await client.post(
                        "/v1/classification?model=swap&top_k=1", content=pictures[index][colour]
                    )
                    asking.discard(index)
                    answers.append((response.status_code, response.json(), colour))
                    await asyncio.sleep(PAUSE_S)

            await asyncio.gather(*(one(index) for index in range(CLIENTS)))

    load = threading.Thread(target=asyncio.run, args=(flow(),))
    load.start()
    try:
        with world.client() as client:
            for swap in range(SWAPS):
                while not asking:  # each swap finds a request under way
                    time.sleep(PAUSE_S / 10)
                if swap % 4 == 3:
                    answer = client.post("/v1/models/swap/aliases/default/rollback")
                    assert answer.status_code == 200, answer.text
                else:
                    promote(client, 2 if swap % 2 == 0 else 1)
    finally:
        stop.set()
        load.join(30)
    assert len(answers) > 3 * SWAPS
    assert {status for status, _, _ in answers} == {200}
    wrong = [
        body
        for _, body, colour in answers
        if body["predictions"][0]["label"] != LABELS_OF[body["model"]][colour]
    ]
    assert wrong == []
    assert {body["model"] for _, body, _ in answers} == set(LABELS_OF)


def test_loading_and_unloading_leaks_neither_memory_nor_descriptors_nor_threads(world):
    seen = {}
    with world.client() as client:
        client.post("/v1/classification?model=swap", content=picture("red")).raise_for_status()
        for cycle in range(1, 201):
            promote(client, 1 + cycle % 2)
            if cycle in (20, 200):
                deadline = time.monotonic() + 10
                while world.metric("athanor_models_loaded") > 1 and time.monotonic() < deadline:
                    time.sleep(0.05)
                time.sleep(0.3)
                process = world.process
                seen[cycle] = (process.memory_info().rss, process.num_fds(), process.num_threads())
    (early_rss, early_fds, early_threads), (late_rss, late_fds, late_threads) = seen[20], seen[200]
    assert late_rss == pytest.approx(early_rss, rel=0.05), f"{early_rss / 1e6:.1f} -> {late_rss / 1e6:.1f} MB"
    assert abs(late_fds - early_fds) <= max(1, 0.05 * early_fds)
    assert abs(late_threads - early_threads) <= max(1, 0.05 * early_threads)


def test_a_version_that_cannot_be_loaded_moves_no_alias(world, tmp_path):
    before = httpx.get(f"{world.url}/v1/models/swap").json()["aliases"]
    with world.client() as client:
        answer = client.put("/v1/models/swap/aliases/default", json={"version": 99})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_version"
    assert httpx.get(f"{world.url}/v1/models/swap").json()["aliases"] == before
