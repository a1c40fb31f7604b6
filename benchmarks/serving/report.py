"""The table from the raw lines: `python -m benchmarks.serving.report RESULTS.jsonl [OUT.md]`.

Every number is the median of the rounds, of which one connection has more. A ratio is formed within a round,
between neighbours in time, and then the median is taken: a machine whose speed drifts moves both sides of it.
What it was in the least and in the most favourable round stands beside it.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

NAMES = {
    "limit": "**limit**: decode + ONNX Runtime, no HTTP",
    "athanor": "**Athanor**",
    "empty": "empty route of the same gateway",
    "bare": "bare server",
    "fastapi": "FastAPI + thread pool",
    "litserve": "LitServe",
    "bentoml": "BentoML",
}
PEERS = ("fastapi", "litserve", "bentoml")
AT = 32
"""Connections at which the ratios are compared."""
MANY = 128
"""Connections of which it is asked whether they slow it down."""
Cell = dict[str, Any]


class Ratio(NamedTuple):
    """What was formed in each round."""

    median: float
    least: float
    most: float

    def say(self, form: str) -> str:
        """The median, and in brackets the least and the most, where there were several rounds."""
        spread = f" ({self.least:{form}} to {self.most:{form}})" if self.least < self.most else ""
        return f"**{self.median:{form}}**{spread}"


@dataclass(frozen=True)
class Run:
    """All lines of one results file."""

    lines: list[Cell]

    @property
    def facts(self) -> Cell:
        """The first line."""
        return self.lines[0]

    def models(self) -> list[str]:
        """In the order of the run."""
        return list(dict.fromkeys(line["model"] for line in self.lines if line["kind"] == "cell"))

    def servers(self, model: str) -> list[str]:
        """In the order of the run."""
        cells = (line for line in self.lines if line["kind"] == "cell" and line["model"] == model)
        return list(dict.fromkeys(cell["server"] for cell in cells))

    def cells(self, model: str, server: str, connections: int) -> list[Cell]:
        """One per round, in the order of the rounds."""
        wanted = {"kind": "cell", "model": model, "server": server, "connections": connections}
        return [line for line in self.lines if wanted.items() <= line.items()]

    def value(self, model: str, server: str, connections: int, key: str) -> float | None:
        """Median over the rounds; None where it was not measured."""
        values = [cell[key] for cell in self.cells(model, server, connections) if key in cell]
        return median(values) if values else None

    def paired(
        self, model: str, servers: tuple[str, ...], connections: int, form: Callable[..., float]
    ) -> Ratio | None:
        """Over the rounds, of what `form` makes of one cell of each server."""
        return _by_round([self.cells(model, server, connections) for server in servers], form)

    def of_limit(self, model: str, server: str, connections: int) -> Ratio | None:
        """Share of the limit."""
        return self.paired(
            model, (server, "limit"), connections, lambda own, top: own["images_per_s"] / top["images_per_s"]
        )

    def of_floor(self, model: str, server: str) -> Ratio | None:
        """Share of cores / (CPU-s per image of the limit + CPU-s per request of the empty route)."""
        cores = self.facts["cores"]

        def share(own: Cell, limit: Cell, empty: Cell) -> float:
            floor = cores / (limit["cpu_s_per_image"] + empty["cpu_s_per_request"])
            return float(own["images_per_s"] / floor)

        return self.paired(model, (server, "limit", "empty"), AT, share)

    def many_to_some(self, model: str, server: str) -> Ratio | None:
        """Pace at many connections over that at fewer."""
        columns = [self.cells(model, server, count) for count in (MANY, AT)]
        return _by_round(columns, lambda many, some: many["images_per_s"] / some["images_per_s"])


def _by_round(columns: Sequence[list[Cell]], form: Callable[..., float]) -> Ratio | None:
    """Over the rounds that have a cell in each column, of what `form` makes of them."""
    rounds = [{cell["round"]: cell for cell in column} for column in columns]
    values = [form(*(cells[number] for cells in rounds)) for number in set.intersection(*map(set, rounds))]
    return Ratio(median(values), min(values), max(values)) if values else None


def _number(value: float | None, form: str = ".3g") -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if form == ".3g" and value >= 100 else f"{value:{form}}"


def _say(ratio: Ratio | None, form: str = ".3f") -> str:
    return "-" if ratio is None else ratio.say(form)


def _table(run: Run, model: str) -> Iterator[str]:
    counts = sorted({line["connections"] for line in run.lines if line["kind"] == "cell"})
    rates = " / ".join(map(str, counts))
    heads = [
        "server",
        f"img/s at {rates}",
        f"of the limit at {AT}",
        f"p50, p99 at {AT}, ms",
        "p50 at 1, ms",
        "CPU ms/request",
        "not 200",
    ]
    yield f"| {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|---|"
    for server in run.servers(model):
        pace = " / ".join(_number(run.value(model, server, count, "images_per_s")) for count in counts)
        ratio = run.of_limit(model, server, AT)
        share = ratio.median if ratio and server != "empty" else None
        times = ", ".join(_number(run.value(model, server, AT, key)) for key in ("p50_ms", "p99_ms"))
        one = run.value(model, server, 1, "decode_and_run_ms" if server == "limit" else "p50_ms")
        key = "cpu_s_per_image" if server == "limit" else "cpu_s_per_request"
        cpu = run.value(model, server, AT, key)
        lost = sum(
            cell["non_200"] + cell["broken"]
            for count in counts
            for cell in run.cells(model, server, count)
            if server != "limit"
        )
        yield (
            f"| {NAMES[server]} | {pace} | {_number(share, '.2f')} | {times} "
            f"| {_number(one)} | {_number(cpu and cpu * 1e3)} | {'-' if server == 'limit' else lost} |"
        )


def _promises(run: Run, model: str) -> Iterator[str]:
    if "athanor" not in run.servers(model):
        return
    share = run.of_limit(model, "athanor", AT)
    bare = run.of_limit(model, "bare", AT), run.of_floor(model, "bare")
    least = [f"; {NAMES['bare']}: {_say(ratio)}" if ratio else "" for ratio in bare]
    yield f"- of the limit at {AT} connections: {_say(share)}{least[0]}"
    floor = run.of_floor(model, "athanor")
    yield f"- of the floor that the empty route allows at {AT}: {_say(floor)}{least[1]}"
    p99_ms = run.value(model, "athanor", AT, "p99_ms")
    peers = {name: run.value(model, name, AT, "p99_ms") for name in PEERS if name in run.servers(model)}
    listed = ", ".join(f"{NAMES[name]} {_number(value)}" for name, value in peers.items())
    yield f"- p99 at {AT}: **{_number(p99_ms)} ms**; {listed}"
    own, top = run.many_to_some(model, "athanor"), run.many_to_some(model, "limit")
    if own:
        yield f"- {MANY} connections against {AT}: {_say(own)}; meanwhile the limit {_say(top)}"
    pair = "athanor", "limit"
    added = run.paired(model, pair, 1, lambda own, top: own["p50_ms"] - top["decode_and_run_ms"])
    yield f"- p50 at 1 connection over decode + run by the limit's threads: {_say(added, '+.2f')} ms"
    if any("wide_decode_and_run_ms" in cell for cell in run.cells(model, "limit", 1)):
        wide = run.paired(model, pair, 1, lambda own, top: own["p50_ms"] - top["wide_decode_and_run_ms"])
        yield f"- the same over decode + run on all cores: {_say(wide, '+.2f')} ms"


def _chosen(run: Run, model: str) -> Iterator[str]:
    for server in run.servers(model):
        cells = [line for line in run.lines if line["kind"] == "cell" and line["server"] == server]
        options = next((cell["options"] for cell in cells if cell["model"] == model), {})
        tried = sum(
            line["kind"] == "grid" and line["model"] == model and line["server"] == server
            for line in run.lines
        )
        if tried:
            listed = ", ".join(f"{key} {value}" for key, value in options.items())
            yield f"- {NAMES[server]}: {listed} (best of {tried})"


def _page(run: Run, source: str) -> Iterator[str]:
    facts = run.facts
    versions = facts["versions"] | {f"{key} (peers)": value for key, value in facts["peers"].items()}
    plan = facts["plan"]
    yield "# Serving: measured\n"
    yield f"Generated by `python -m benchmarks.serving.report` from `{source}`; do not edit.\n"
    yield (
        f"{facts['started_at']}, commit {facts['commit']}, {facts['cores']} cores of {facts['cpu']}, "
        f"{facts['memory_gib']} GiB, Linux {facts['kernel']}, Python {facts['python']}. "
        f"Load average before the run {facts['load_before']:.2f}.  "
    )
    yield (
        f"One 512x512 JPEG of {facts['photo_bytes']:,} bytes in, five labels out. "
        f"Weights: {facts['weights']}.  "
    )
    lone = (
        f"; at one connection {plan['turns']} rounds of a second"
        if "turns" in plan and 1 in plan["connections"]
        else ""
    )
    yield (
        f"{plan['rounds']} rounds of {plan['seconds']:g} s per cell, servers in turns{lone}; medians. "
        "Generator: wrk on the same cores. Ratios are formed within a round.  "
    )
    yield ", ".join(f"{name} {version}" for name, version in versions.items()) + ".\n"
    for model in run.models():
        yield f"## {model}\n"
        yield from _table(run, model)
        yield ""
        yield "Athanor, all defaults on:\n"
        yield from _promises(run, model)
        yield ""
        yield "Chosen configurations:\n"
        yield from _chosen(run, model)
        yield ""


def write_report(source: Path, target: Path) -> None:
    """Write the page for one results file."""
    run = Run([json.loads(line) for line in source.read_text().splitlines()])
    target.write_text("\n".join(_page(run, f"results/{source.name}")), encoding="utf-8")


if __name__ == "__main__":
    write_report(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("results.md"))
