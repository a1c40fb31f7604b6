"""Twice the capacity for a minute: `python -m benchmarks.overload [--seconds 60]`.

Capacity is what a closed loop of 32 connections gets from the same server right before. The model is the
starter's size (MobileNetV3-S with random weights would do as well): any ONNX file of the served form. The
result, with the server's own histogram of refusal times, is appended to `results.jsonl`.
"""

import argparse
import asyncio
import json
import platform
import re
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import httpx

from benchmarks.overload.open_loop import Generator, Outcome
from tests.colour_models import picture, publish_colours
from tests.serving import World, gateway

HERE = Path(__file__).parent
CONNECTIONS = 600


async def measure(world: World, seconds: float) -> tuple[Outcome, Outcome]:
    """Capacity first, then twice as much."""
    generator = Generator(
        world.settings.port,
        path="/v1/classification?model=net&top_k=1",
        body=picture("green", size=512, format_="JPEG"),
        expected=b'"label":"green"',
    )
    await generator.connect(CONNECTIONS)
    await generator.closed(32, 3.0)  # warm-up
    capacity = await generator.closed(32, 10.0)
    overload = await generator.open(2 * capacity.statuses[200] / capacity.seconds, seconds)
    return capacity, overload


def refusals_at_server(text: str) -> dict[str, float]:
    """Cumulative counts of refusals by the server's clock: {upper bound in seconds: refusals}."""
    pattern = r'athanor_refusal_seconds_bucket\{le="([^"]+)",status="429"\} (\S+)'
    return {bound: float(count) for bound, count in re.findall(pattern, text)}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--work", type=int, default=2, help="size of the model: rounds of matrix products")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder)) as world:
        publish_colours(world.registry, Path(folder) / "net", name="net", work=arguments.work)
        httpx.post(f"{world.url}/v1/classification?model=net", content=picture("red"), timeout=60)
        capacity, overload = asyncio.run(measure(world, arguments.seconds))
        refusals = refusals_at_server(httpx.get(f"{world.url}/metrics").text)
    capacity_per_s = capacity.statuses[200] / capacity.seconds
    goodput_per_s = overload.statuses[200] / overload.seconds
    row = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "machine": platform.processor() or platform.machine(),
        "capacity_per_s": round(capacity_per_s, 1),
        "offered_per_s": round(2 * capacity_per_s, 1),
        "seconds": overload.seconds,
        "statuses": dict(overload.statuses),
        "wrong": overload.wrong,
        "unsent": overload.unsent,
        "goodput_share_of_capacity": round(goodput_per_s / capacity_per_s, 3),
        "refusal_p99_ms_at_client": round(overload.percentile_ms(429, 0.99), 1),
        "refusals_by_server_seconds": refusals,
        "refused_within_50_ms_at_server": refusals.get("0.05", 0.0) / max(1.0, refusals.get("+Inf", 0.0)),
    }
    with (HERE / "results.jsonl").open("a") as out:
        out.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
