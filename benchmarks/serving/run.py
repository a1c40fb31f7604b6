"""One run: choose every server's best configuration, then measure all of them in turns.

    for each round, for each number of connections: limit, then each server, one after the other

One connection has turns of its own, shorter and more of them: what is told of it are tenths of a millisecond,
and the machine's speed drifts by more within a minute.

All servers stay loaded; those whose turn it is not are stopped (SIGSTOP), so nothing but the measured
one uses the processor, and a machine that slows down for a minute slows all of them.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.settings import Settings
from benchmarks.machine import ROOT, commit
from benchmarks.results import Results
from benchmarks.serving.athanor_server import athanor_spec, empty_spec, publish_timing_model
from benchmarks.serving.limit import configurations
from benchmarks.serving.load import post, wrk
from benchmarks.serving.report import write_report
from benchmarks.serving.servers import Server, Spec, peer_grids, running
from benchmarks.serving.timing_models import NETWORKS
from benchmarks.serving.workshop import HERE, Workshop, facts, set_up

CHOOSE_AT = 32
"""Connections at which a peer's configuration is chosen."""
_LONE_S = 1.0
"""Of each cell with one connection."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how often."""

    seconds: float
    rounds: int
    warm_s: float
    grid_s: float
    connections: list[int]
    turns: int
    """Of one connection."""
    servers: list[str]


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One model and everything that serves it."""

    architecture: str
    workshop: Workshop
    plan: Plan
    results: Results
    folder: Path

    def run(self) -> None:
        """Choose, check, measure."""
        limit = self._choose_limit()
        specs = list(self._choose_servers())
        with ExitStack() as stack:
            photo = self.workshop.photo.read_bytes()
            servers = []
            for spec in specs:
                servers.append(stack.enter_context(running(spec, photo, self.folder)))
                self._check(servers[-1], photo)
                servers[-1].rest()
                servers[-1].pause()
            for round_number in range(1, self.plan.rounds + 1):
                for connections in self.plan.connections:
                    if connections > 1:
                        self._measure_limit(limit, round_number, connections)
                        for server in servers:
                            self._measure(server, round_number, connections, self.plan.seconds)
            if 1 in self.plan.connections:
                self._measure_lone(limit, servers)

    # -- the limit -----------------------------------------------------------------------------------

    def _limit_command(self, *flags: str, seconds: float) -> list[str]:
        files = [str(self.workshop.model(self.architecture)), str(self.workshop.photo)]
        return [sys.executable, "-m", "benchmarks.serving.limit", *files, *flags, "--seconds", str(seconds)]

    def _throughput(self, configuration: tuple[int, int, int], seconds: float) -> dict[str, float]:
        lanes, threads, batch = (str(value) for value in configuration)
        command = self._limit_command(
            "--lanes", lanes, "--threads", threads, "--batch", batch, seconds=seconds
        )
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        values: dict[str, float] = json.loads(done.stdout)
        return values

    def _cores(self) -> int:
        return int(str(facts(self.workshop)["cores"]))

    def _choose_limit(self) -> tuple[int, int, int]:
        best: tuple[float, tuple[int, int, int]] = (0.0, (1, 1, 1))
        for configuration in configurations(self._cores()):
            values = self._throughput(configuration, self.plan.grid_s)
            options = _options(configuration)
            self.results.write("grid", model=self.architecture, server="limit", options=options, **values)
            best = max(best, (values["images_per_s"], configuration))
        return best[1]

    def _measure_limit(
        self, configuration: tuple[int, int, int], round_number: int, connections: int
    ) -> None:
        values = self._throughput(configuration, self.plan.seconds)
        self._write_limit(configuration, round_number, connections, values)

    def _write_limit(
        self,
        configuration: tuple[int, int, int],
        round_number: int,
        connections: int,
        values: dict[str, float],
    ) -> None:
        cell = {"server": "limit", "round": round_number, "connections": connections}
        options = _options(configuration)
        self.results.write("cell", model=self.architecture, **cell, options=options, **values)

    def _measure_lone(self, limit: tuple[int, int, int], servers: list[Server]) -> None:
        """One image at a time: decode and run alone, by the limit's threads and on all cores, then each
        server."""
        with ExitStack() as stack:
            narrow, wide = (
                stack.enter_context(self._lone_limit(threads)) for threads in (limit[1], self._cores())
            )
            for turn in range(1, self.plan.turns + 1):
                alone = narrow()
                values = {
                    **alone,
                    "wide_decode_and_run_ms": wide()["decode_and_run_ms"],
                    "images_per_s": 1e3 / alone["decode_and_run_ms"],
                }
                self._write_limit(limit, turn, 1, values)
                for server in servers:
                    self._measure(server, turn, 1, _LONE_S)

    @contextlib.contextmanager
    def _lone_limit(self, threads: int) -> Iterator[Callable[[], dict[str, float]]]:
        command = self._limit_command("--threads", str(threads), seconds=_LONE_S)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            given, said = process.stdin, process.stdout

            def measure() -> dict[str, float]:
                print(file=given, flush=True)
                values: dict[str, float] = json.loads(said.readline())
                return values

            measure()  # imports, first runs
            yield measure
            given.close()

    # -- the servers ---------------------------------------------------------------------------------

    def _choose_servers(self) -> Iterator[Spec]:
        settings = Settings(data_dir=self.folder / "data")
        model = self.workshop.model(self.architecture)
        if "athanor" in self.plan.servers:
            publish_timing_model(
                settings, self.architecture, self.workshop.manifest(self.architecture), model
            )
            yield athanor_spec(settings, self.architecture)
        if "empty" in self.plan.servers:
            yield empty_spec(settings)
        for name, grid in peer_grids(model, self.workshop.peers_python).items():
            if name in self.plan.servers:
                yield self._fastest(grid)

    def _fastest(self, grid: list[Spec]) -> Spec:
        best: tuple[float, Spec] | None = None
        for spec in grid:
            with running(spec, self.workshop.photo.read_bytes(), self.folder) as server:
                seen = self._load(server, CHOOSE_AT, self.plan.grid_s)
            pace = float(str(seen["images_per_s"]))
            self.results.write(
                "grid", model=self.architecture, server=spec.name, options=spec.options, **seen
            )
            if best is None or pace > best[0]:
                best = pace, spec
        assert best is not None
        return best[1]

    def _check(self, server: Server, photo: bytes) -> None:
        """All name the same five labels, in the same order."""
        if server.spec.name == "empty":
            return
        predictions = json.loads(server.answer(photo)).get("predictions", [])
        labels = [prediction["label"] for prediction in predictions]
        expected = self._expected(photo)
        self.results.write(
            "check", model=self.architecture, server=server.spec.name, labels=labels, right=labels == expected
        )
        if labels != expected:
            raise SystemExit(f"{server.spec.name} answers {labels}, not {expected}")

    def _expected(self, photo: bytes) -> list[str]:
        import numpy as np

        from benchmarks.serving.fast_decode import SIDE, decode_into, top_five
        from benchmarks.serving.limit import open_session

        image = np.empty((1, SIDE, SIDE, 3), np.uint8)
        decode_into(photo, image[0])
        session = open_session(self.workshop.model(self.architecture), threads=1)
        return [str(best["label"]) for best in top_five(session.run(None, {"image": image})[0][0])]

    def _load(self, server: Server, connections: int, seconds: float) -> dict[str, object]:
        used_s = server.cpu_s()
        load = post(
            server.port,
            self.workshop.photo,
            query=server.spec.query,
            connections=connections,
            warm_s=self.plan.warm_s,
            seconds=seconds,
        )
        server.rest()
        used_s = server.cpu_s() - used_s + load.generator_cpu_s
        return {**asdict(load), "cpu_s_per_request": used_s / max(1, load.requests)}

    def _measure(self, server: Server, round_number: int, connections: int, seconds: float) -> None:
        server.resume()
        cell = {"server": server.spec.name, "round": round_number, "connections": connections}
        seen = self._load(server, connections, seconds)
        server.pause()
        self.results.write("cell", model=self.architecture, **cell, options=server.spec.options, **seen)


def _options(configuration: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("lanes", "threads", "batch"), configuration, strict=True))


def main() -> None:
    """Run the benchmark from the command line."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that no stopped server is left behind
    wrk()
    plan = Plan(
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        warm_s=arguments.warm,
        grid_s=arguments.grid_seconds,
        connections=arguments.connections,
        turns=arguments.turns,
        servers=arguments.servers,
    )
    workshop = set_up(arguments.folder, architectures=arguments.models, peers=arguments.peers)
    now = datetime.now(UTC)
    path = arguments.results / f"{now:%Y-%m-%dT%H%M}-{commit()}.jsonl"
    results = Results(path, {})
    results.write("run", started_at=now.isoformat(timespec="seconds"), plan=asdict(plan), **facts(workshop))
    began_s = time.monotonic()
    for architecture in arguments.models:
        with _folder() as folder:
            Contest(
                architecture=architecture, workshop=workshop, plan=plan, results=results, folder=folder
            ).run()
    results.write("end", minutes=round((time.monotonic() - began_s) / 60, 1))
    write_report(path, arguments.results.parent / "results.md")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="athanor-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--seconds", type=float, default=6, help="of each cell")
    add("--rounds", type=int, default=3)
    add("--warm", type=float, default=1, help="seconds before each cell's window opens")
    add("--grid-seconds", type=float, default=2, help="of each configuration that is tried")
    add("--connections", type=int, nargs="+", default=[32, 128, 8, 1])
    add("--turns", type=int, default=12, help="of one connection, a second per server each")
    add("--models", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    servers = ["athanor", "empty", "bare", "fastapi", "litserve", "bentoml"]
    add("--servers", nargs="+", default=servers, choices=servers)
    add("--folder", type=Path, default=ROOT / "build" / "serving", help="for graphs and the photograph")
    add("--peers", type=Path, default=ROOT / "build" / "peers", help="the peers' virtual environment")
    add("--results", type=Path, default=HERE / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
