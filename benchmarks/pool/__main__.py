"""Random use of twenty models where five fit: `python -m benchmarks.pool [--seconds 3600] [--pause-s 1]`.

A gateway gets twenty networks that hold some 64 MB each, and a bound in which five of them fit. Clients ask
one after the other, of whichever models a seed says, and check each answer. Every minute, and at the end, a
line of `results.jsonl` says how many answers were right, what the process and its models held at most, and
how many models were loaded and unloaded.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_facts
from benchmarks.results import Results
from tests.colour_models import COLOURS, picture, publish_colours
from tests.serving import World, gateway

HERE = Path(__file__).parent
MODELS = 20
FIT = 5
CLIENTS = 6
SAMPLE_S = 0.5
LINE_S = 60.0


class Tally:
    """What clients got and a watcher saw, since the last line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.most_held = self.most_resident = 0.0
        self.slowest_s = 0.0

    def answer(self, outcome: str, seconds: float) -> None:
        """One request has ended."""
        with self._lock:
            self.answers[outcome] += 1
            self.slowest_s = max(self.slowest_s, seconds)

    def look(self, world: World) -> None:
        """See what is held now."""
        assert world.process is not None
        self.most_resident = max(self.most_resident, world.process.memory_info().rss / 1e6)
        self.most_held = max(self.most_held, world.metric("athanor_model_memory_bytes") / 1e6)

    def take(self) -> dict[str, Any]:
        """All of it, and begin again."""
        with self._lock:
            values = {
                "answers": dict(self.answers),
                "slowest_s": round(self.slowest_s, 3),
                "most_held_mb": round(self.most_held, 1),
                "most_resident_mb": round(self.most_resident, 1),
            }
            self.answers = Counter()
            self.slowest_s = self.most_held = self.most_resident = 0.0
        return values


def publish(world: World, folder: Path, count: int) -> None:
    """Networks that name the colours each in its own way, with the same plan, so that they hold as much."""
    for index in range(count):
        publish_colours(
            world.registry,
            folder / str(index),
            name=f"colours-{index}",
            labels=tuple(f"{colour} {index}" for colour in COLOURS),
            gain=8.0 + index,
            swell_bytes=2**23,
        )
        world.pin_plan(f"colours-{index}", batch=4)


def one_bytes(folder: Path) -> int:
    """What the second of them is weighed to hold, in a gateway without a bound to speak of."""
    with gateway(folder) as world, world.client() as client:
        publish(world, folder, 2)
        for index in range(2):
            client.post(
                f"/v1/classification?model=colours-{index}", content=picture("red")
            ).raise_for_status()
        return int(client.get("/v1/models/colours-1/serving").json()["versions"][0]["memory_bytes"])


def use(world: World, seed: int, tally: Tally, stop: threading.Event, *, pause_s: float) -> None:
    """One client."""
    choose = random.Random(seed)
    pictures = {colour: picture(colour) for colour in COLOURS}
    with world.client() as client:
        while not stop.is_set():
            index, colour = choose.randrange(MODELS), choose.choice(COLOURS)
            began_s = time.monotonic()
            answer = client.post(
                f"/v1/classification?model=colours-{index}&top_k=1", content=pictures[colour]
            )
            outcome = str(answer.status_code)
            if answer.is_success and answer.json()["predictions"][0]["label"] != f"{colour} {index}":
                outcome = "wrong"
            tally.answer(outcome, time.monotonic() - began_s)
            stop.wait(pause_s)


def run(world: World, results: Results, *, seconds: float, seed: int, pause_s: float) -> None:
    """Use them, watch, and write."""
    tally, stop = Tally(), threading.Event()
    clients = [
        threading.Thread(target=use, args=(world, seed + index, tally, stop), kwargs={"pause_s": pause_s})
        for index in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    began_s = time.monotonic()
    line_s = began_s + min(LINE_S, seconds)
    try:
        while time.monotonic() < began_s + seconds:
            time.sleep(SAMPLE_S)
            tally.look(world)
            if time.monotonic() >= line_s:
                _write(world, results, tally, since_s=time.monotonic() - began_s)
                line_s += LINE_S
    finally:
        stop.set()
        for client in clients:
            client.join()


def _write(world: World, results: Results, tally: Tally, *, since_s: float) -> None:
    results.write(
        "use",
        after_s=round(since_s),
        limit_mb=round(world.settings.model_memory_bytes / 1e6, 1),
        loads=world.metric("athanor_model_loads_total"),
        evictions=world.metric("athanor_model_evictions_total"),
        loaded=world.metric("athanor_models_loaded"),
        **tally.take(),
    )


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause-s", type=float, default=0.0, help="of each client between two requests")
    arguments = parser.parse_args()
    facts = {"seed": arguments.seed, "pause_s": arguments.pause_s, **machine_facts("onnxruntime", "numpy")}
    results = Results(HERE / "results.jsonl", facts)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        first, second = Path(name, "first"), Path(name, "second")
        first.mkdir()
        second.mkdir()
        limit = int(one_bytes(first) * (FIT + 0.5))
        with gateway(second, model_memory_bytes=limit) as world:
            publish(world, second, MODELS)
            run(
                world,
                results,
                seconds=arguments.seconds,
                seed=arguments.seed,
                pause_s=arguments.pause_s,
            )


if __name__ == "__main__":
    main()
