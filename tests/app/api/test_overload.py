"""More than it can do: what is answered is right, what is refused is refused at once and honestly."""

import asyncio

import httpx

from benchmarks.overload.open_loop import Generator
from tests.colour_models import picture, publish_colours
from tests.serving import gateway


def test_at_twice_the_capacity_answers_go_on_and_refusals_are_honest(tmp_path):
    with gateway(tmp_path, queue_capacity=32) as world:
        publish_colours(world.registry, tmp_path / "net", name="net", work=2)
        world.pin_plan("net", batch=4)
        body = picture("green", format_="JPEG")
        httpx.post(f"{world.url}/v1/classification?model=net", content=body, timeout=60).raise_for_status()

        async def scenario():
            generator = Generator(
                world.settings.port,
                path="/v1/classification?model=net&top_k=1",
                body=body,
                expected=b'"label":"green"',
            )
            capacity = await generator.closed(16, 2.0)
            overload = await generator.open(3 * capacity.statuses[200] / capacity.seconds, 4.0)
            generator.close()
            return overload

        overload = asyncio.run(scenario())
        refusals = world.metric("athanor_refusals_total", model="net", reason="overloaded")
    assert set(overload.statuses) == {200, 429}
    assert overload.wrong == overload.lost == 0
    assert overload.statuses[200] > 50
    assert overload.statuses[429] == refusals > 50
    assert overload.retry_after_s >= {1}
