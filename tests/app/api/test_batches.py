"""Batches through HTTP and real ONNX Runtime: what happens to one member never hurts another."""

import asyncio
import re
import time

import httpx
import pytest

from tests.colour_models import COLOURS, picture, publish_colours
from tests.serving import gateway


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    with gateway(folder, queue_capacity=256) as world:
        publish_colours(world.registry, folder / "slow", name="slow", work=24)
        publish_colours(world.registry, folder / "quick", name="quick")
        for name in ("slow", "quick"):
            world.pin_plan(name, batch=8)
            answer = httpx.post(
                f"{world.url}/v1/classification?model={name}", content=picture("red"), timeout=120
            )
            assert answer.json()["predictions"][0]["label"] == "red"
        yield world


def batch_size(response):
    return int(re.search(r'batch;desc="(\d+)/', response.headers["server-timing"]).group(1))


async def ask(client, colour, *, seed, headers=None, content=None, sent=None):
    async def trace(event, _info):
        if sent is not None and event == "http11.send_request_body.complete":
            sent.add(seed)

    return await client.post(
        "/v1/classification?model=slow",
        content=content or picture(colour, noise=seed),
        headers=headers or {},
        extensions={"trace": trace},
    )


def test_in_one_batch_one_is_cancelled_one_late_one_broken_and_the_others_answer(world):
    """Two long requests occupy both lanes; everything that comes meanwhile forms the next batches."""

    async def scenario():
        async with httpx.AsyncClient(base_url=world.url, timeout=60) as client:
            occupying = [asyncio.create_task(ask(client, "red", seed=n + 1)) for n in range(2)]
            await asyncio.sleep(0.03)
            good = [asyncio.create_task(ask(client, COLOURS[n % 3], seed=n + 10)) for n in range(12)]
            cancelled = asyncio.create_task(ask(client, "green", seed=50))
            late = asyncio.create_task(ask(client, "green", seed=51, headers={"x-request-deadline": "0.02"}))
            broken = asyncio.create_task(
                ask(client, "green", seed=52, content=picture("green", format_="JPEG", size=200)[:400])
            )
            await asyncio.sleep(0.02)
            cancelled.cancel()
            return await asyncio.gather(*good), await late, await broken, await asyncio.gather(*occupying)

    good, late, broken, occupying = asyncio.run(scenario())
    assert [answer.json()["predictions"][0]["label"] for answer in good] == [
        COLOURS[n % 3] for n in range(12)
    ]
    assert max(map(batch_size, good)) >= 4
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"
    assert broken.status_code == 400
    assert broken.json()["error"]["code"] == "image_undecodable"
    assert all(answer.status_code == 200 for answer in occupying)


def freed(world):
    """Inputs whose client went away, whatever they were doing."""
    stages = ("queued", "running", "terminated")
    return sum(world.metric("athanor_cancelled_total", model="slow", stage=stage) for stage in stages)


def answered(world):
    return world.metric("athanor_inputs_total", model="slow", outcome="answered")


def test_half_of_a_hundred_clients_hang_up_and_the_others_are_answered(world):
    freed_before, answered_before = freed(world), answered(world)
    pictures = [picture(COLOURS[n % 3], noise=n + 100) for n in range(100)]
    sent = set()
    # Those that hang up come behind thirty that stay, so that none of them is answered before all have sent.
    leaving = set(range(30, 100)) - set(range(30, 100, 7)) - set(range(31, 100, 7))
    staying = [n for n in range(100) if n not in leaving]
    assert len(leaving) == len(staying) == 50

    async def scenario():
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=world.url, timeout=120, limits=limits) as client:
            tasks = [
                asyncio.create_task(ask(client, "any", seed=n, content=pictures[n], sent=sent))
                for n in range(100)
            ]
            async with asyncio.timeout(60):
                while len(sent) < 100:
                    await asyncio.sleep(0.01)
            for n in leaving:
                tasks[n].cancel()
            return await asyncio.gather(*(tasks[n] for n in staying))

    answers = asyncio.run(scenario())
    assert len(answers) == 50
    assert [answer.json()["predictions"][0]["label"] for answer in answers] == [
        COLOURS[n % 3] for n in staying
    ]
    for _ in range(100):
        if freed(world) - freed_before == 50:
            break
        time.sleep(0.02)
    assert freed(world) - freed_before == 50
    assert 50 <= answered(world) - answered_before <= 100 - 30


def test_results_in_a_batch_equal_results_alone(world):
    pictures = [picture(COLOURS[n % 3], noise=n + 500) for n in range(24)]
    alone = [
        httpx.post(f"{world.url}/v1/classification?model=quick", content=data).json() for data in pictures
    ]

    async def together():
        async with httpx.AsyncClient(base_url=world.url) as client:
            return await asyncio.gather(
                *(client.post("/v1/classification?model=quick", content=data) for data in pictures)
            )

    for one, many in zip(alone, asyncio.run(together()), strict=True):
        assert [p["label"] for p in one["predictions"]] == [p["label"] for p in many.json()["predictions"]]
        for left, right in zip(one["predictions"], many.json()["predictions"], strict=True):
            assert left["score"] == pytest.approx(right["score"], abs=1e-6)
