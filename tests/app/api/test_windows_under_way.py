"""Large and small pictures on their way through one engine, seen from outside the process."""

import asyncio
import io
import time

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.colour_models import enlarged, publish_enlarger
from tests.serving import gateway

URL = "/v1/super-resolution?model=slow&background=false"
RANDOM = np.random.default_rng(23)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows")
    with gateway(folder) as world:
        publish_enlarger(world.registry, folder / "slow", name="slow", work=40)
        world.pin_plan("slow", batch=2)
        yield world


def photo(height, width):
    return RANDOM.integers(0, 256, (height, width, 3), np.uint8)


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def is_right(response, pixels):
    image = Image.open(io.BytesIO(response.content))
    return response.status_code == 200 and np.array_equal(np.asarray(image), enlarged(pixels))


def counted(world, of):
    return world.metric("athanor_window_pixels_total", model="slow", of=of)


def given_up(world):
    stages = ("queued", "running", "terminated")
    return sum(world.metric("athanor_cancelled_total", model="slow", stage=stage) for stage in stages)


def answered(world):
    return world.metric("athanor_inputs_total", model="slow", outcome="answered")


async def begun(world, windows):
    """Wait until so many windows more than before have been computed."""
    async with asyncio.timeout(30):
        while answered(world) < windows:
            await asyncio.sleep(0.02)


def test_a_small_picture_does_not_wait_for_a_whole_large_one(world):
    large, small = photo(700, 700), photo(30, 30)

    async def scenario():
        order = []

        async def ask(client, name, pixels):
            response = await client.post(URL, content=encoded(pixels))
            order.append(name)
            return response

        async with httpx.AsyncClient(base_url=world.url, timeout=120) as client:
            before = answered(world)
            first = asyncio.create_task(ask(client, "large", large))
            await begun(world, before + 10)
            second = await ask(client, "small", small)
            return order, await first, second

    order, first, second = asyncio.run(scenario())
    assert order == ["small", "large"]
    assert is_right(first, large)
    assert is_right(second, small)


def test_a_client_that_hangs_up_frees_the_rest_of_its_windows(world):
    large, small = photo(900, 900), photo(40, 40)
    before, freed_before = answered(world), given_up(world)

    async def scenario():
        async with httpx.AsyncClient(base_url=world.url, timeout=120) as client:
            task = asyncio.create_task(client.post(URL, content=encoded(large)))
            await begun(world, before + 5)
            task.cancel()
        async with httpx.AsyncClient(base_url=world.url, timeout=120) as client:
            return await client.post(URL, content=encoded(small))

    assert is_right(asyncio.run(scenario()), small)
    for _ in range(100):
        if given_up(world) > freed_before:
            break
        time.sleep(0.02)
    assert given_up(world) > freed_before
    computed = answered(world) - before
    time.sleep(0.3)
    assert answered(world) - before == computed < 29 * 29


def test_a_deadline_in_the_middle_ends_the_work_and_says_so(world):
    response = httpx.post(
        f"{world.url}{URL}",
        content=encoded(photo(900, 900)),
        headers={"x-request-deadline": "0.3"},
        timeout=60,
    )
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"
    before = answered(world)
    time.sleep(0.5)
    assert answered(world) - before <= 8


def test_what_windows_add_to_a_picture_is_counted(world):
    before = [counted(world, of) for of in ("picture", "added")]
    with world.client() as client:
        assert client.post(URL, content=encoded(photo(30, 50))).status_code == 200
    # Of 32 x 32 with two more on each side: two, for a width of 50.
    after = [counted(world, of) for of in ("picture", "added")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1500, 2 * 36 * 36 - 1500]
