"""Two thousand malformed pictures through HTTP: no crash, no 5xx, nobody else hurt, no memory kept."""

import asyncio
import collections
import time

import httpx
import pytest

from tests.colour_models import picture, publish_colours
from tests.corpus.malformed import malformed_images
from tests.serving import gateway

COUNT = 2000
CHECK_EVERY_S = 0.03
REFUSALS = {"image_undecodable", "image_too_large", "unsupported_media", "invalid_request"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    with gateway(folder) as world:
        publish_colours(world.registry, folder / "quick", name="quick")
        world.pin_plan("quick", batch=4)
        yield world


def test_malformed_pictures_hurt_nobody(world, record_property):
    good = picture("green", size=300, format_="JPEG")
    url = "/v1/classification?model=quick"
    expected = httpx.post(world.url + url, content=good, timeout=60).json()
    for sample in malformed_images(seed=7, count=200):  # what decoders load once and keep
        httpx.post(world.url + url, content=sample.data, timeout=60)
    time.sleep(2.0)
    before_mb = world.process.memory_info().rss / 1e6
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    good_answers = []

    async def scenario():
        samples = iter(list(malformed_images(seed=1, count=COUNT)))
        done = False

        async with httpx.AsyncClient(base_url=world.url, timeout=60) as client:

            async def send():
                for sample in samples:
                    response = await client.post(url, content=sample.data)
                    code = "ok" if response.status_code == 200 else response.json()["error"]["code"]
                    assert response.status_code < 500, (sample.kind, response.text)
                    outcomes[sample.kind, code] += 1

            async def check():
                while not done:
                    good_answers.append((await client.post(url, content=good)).json())
                    await asyncio.sleep(CHECK_EVERY_S)

            checking = asyncio.create_task(check())
            await asyncio.gather(*(send() for _ in range(6)))
            done = True
            await checking

    asyncio.run(scenario())
    assert sum(outcomes.values()) == COUNT
    assert {code for _, code in outcomes} <= REFUSALS | {"ok"}
    assert sum(count for (_, code), count in outcomes.items() if code != "ok") > COUNT / 2
    assert len(good_answers) > 20
    assert all(answer == expected for answer in good_answers)
    time.sleep(2.0)
    after_mb = world.process.memory_info().rss / 1e6
    table = "\n".join(f"{kind:<32} {code:<20} {count}" for (kind, code), count in sorted(outcomes.items()))
    record_property("outcomes", table)
    assert abs(after_mb - before_mb) <= 20, f"{before_mb:.0f} -> {after_mb:.0f} MB\n{table}"
