"""Twice the capacity for a minute: `python -m benchmarks.overload [--seconds 60]`.

Capacity is what a closed loop of 32 connections gets from the same server right before and right after (the
mean of both, for machines whose speed drifts). The model is the starter, imported into a data directory of
its own unless `--data-dir` names one that has it; the picture is a real photo. The result, with the
server's own histogram of refusal times, is appended to `results.jsonl`.
"""

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.machine import ROOT, machine_facts
from benchmarks.overload.open_loop import Generator, Outcome
from benchmarks.results import Results
from tests.serving import World, free_port, gateway

HERE = Path(__file__).parent


async def measure(world: World, seconds: float) -> tuple[list[float], Outcome]:
    """Capacity per second before and after, and twice as much between."""
    generator = Generator(
        world.settings.port,
        path="/v1/classification?top_k=1",
        body=(ROOT / "examples" / "photos" / "flower.jpg").read_bytes(),
        expected=b'"label":"daisy"',
    )
    await generator.closed(32, 3.0)  # warm-up
    before = await generator.closed(32, 15.0)
    overload = await generator.open(2 * before.statuses[200] / before.seconds, seconds)
    after = await generator.closed(32, 15.0)
    return [run.statuses[200] / run.seconds for run in (before, after)], overload


def import_starter(data_dir: Path) -> None:
    """One run of the real service until the starter answers."""
    environment = {**os.environ, "ATHANOR_DATA_DIR": str(data_dir), "ATHANOR_PORT": str(free_port())}
    service = subprocess.Popen([str(Path(sys.executable).parent / "athanor"), "serve"], env=environment)
    try:
        for _ in range(600):
            time.sleep(1)
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{environment['ATHANOR_PORT']}/health/ready").is_success:
                    return
        raise SystemExit("the starter was not imported within ten minutes")
    finally:
        service.terminate()
        service.wait(20)


def refusals_at_server(text: str) -> dict[str, float]:
    """Cumulative counts of refusals by the server's clock: {upper bound in seconds: refusals}."""
    pattern = r'athanor_refusal_seconds_bucket\{le="([^"]+)",status="429"\} (\S+)'
    return {bound: float(count) for bound, count in re.findall(pattern, text)}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--data-dir", type=Path, help="of a service that has imported the starter")
    arguments = parser.parse_args()
    facts = machine_facts("onnxruntime", "uvicorn", "uvloop")
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder, "data")
        if arguments.data_dir:
            shutil.copytree(arguments.data_dir, data_dir, ignore=shutil.ignore_patterns("*.sock", "serve.*"))
        else:
            import_starter(data_dir)
        with gateway(Path(folder), default_classifier="efficientnet-lite0") as world:
            capacities, overload = asyncio.run(measure(world, arguments.seconds))
            refusals = refusals_at_server(httpx.get(f"{world.url}/metrics").text)
    capacity_per_s = sum(capacities) / len(capacities)
    goodput_per_s = overload.statuses[200] / overload.seconds
    row = {
        "capacity_per_s": [round(capacity, 1) for capacity in capacities],
        "offered_per_s": round(2 * capacities[0], 1),
        "seconds": overload.seconds,
        "statuses": dict(overload.statuses),
        "wrong": overload.wrong,
        "lost": overload.lost,
        "goodput_share_of_capacity": round(goodput_per_s / capacity_per_s, 3),
        "refusal_p99_ms_at_client": round(overload.percentile_ms(429, 0.99), 1),
        "refusals_by_server_seconds": refusals,
        "refused_within_50_ms_at_server": refusals.get("0.05", 0.0) / max(1.0, refusals.get("+Inf", 0.0)),
    }
    Results(HERE / "results.jsonl", facts).write("overload", **row)


if __name__ == "__main__":
    main()
