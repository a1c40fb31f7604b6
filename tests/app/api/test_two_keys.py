"""Two keys and one model: who floods it waits for himself."""

import asyncio
import time

import httpx
import pytest

from app.access.door import hash_key
from app.db.tables import ApiKeyRow
from tests.colour_models import picture, publish_colours
from tests.serving import gateway

URL = "/v1/classification?model=slow&top_k=1"
FLOODING, ASKING = "the-key-that-floods", "the-key-that-asks"
FLOOD = 60
LANES, BATCH = 2, 2


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    with gateway(folder, api_key=FLOODING) as world:
        with world.database.begin() as session:
            row = {"id": "key_2", "tenant_id": "default", "name": "two", "created_at": time.time()}
            session.add(ApiKeyRow(sha256=hash_key(ASKING), **row))
        publish_colours(world.registry, folder / "slow", name="slow", work=24)  # and the key is known
        world.pin_plan("slow", batch=BATCH)
        yield world


def test_who_asks_now_and_then_is_served_next_whoever_floods(world):
    async def scenario():
        order = []
        async with httpx.AsyncClient(base_url=world.url, timeout=60) as client:

            async def ask(key, number):
                answer = await client.post(
                    URL,
                    content=picture("red", noise=number),
                    headers={"authorization": f"Bearer {key}"},
                )
                order.append((key, answer.status_code))

            await ask(ASKING, FLOOD + 1)  # the model is loaded
            order.clear()
            flood = [asyncio.create_task(ask(FLOODING, number)) for number in range(1, FLOOD + 1)]
            async with asyncio.timeout(30):
                while await asyncio.to_thread(world.metric, "athanor_queue_depth", model="slow") < FLOOD / 2:
                    assert len(order) < FLOOD / 2
            before = len(order)
            await ask(ASKING, FLOOD + 2)
            between = len(order) - 1 - before
            await asyncio.gather(*flood)
        return order, between

    order, between = asyncio.run(scenario())
    assert {status for _, status in order} == {200}
    assert [key for key, _ in order].count(FLOODING) == FLOOD
    # What runs, what a lane has just taken, and what was answered while the request was on its way.
    assert between <= 4 * LANES * BATCH
