"""Segmentation and super-resolution under load: `python -m benchmarks.pictures`, on an idle machine.

A JPEG photograph in, a PNG out: U²-Net-p's label map of 512 x 512, and waifu2x's doubling of 256 x 256. The
limit does it in threads without HTTP; Athanor with its defaults, plain FastAPI and LitServe, both the faster
of two configurations, do it over HTTP. All are measured in turns, those who wait stopped; medians of the
rounds count. All answers are compared with the limit's first.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.settings import Settings
from benchmarks.machine import ROOT, machine_facts
from benchmarks.pictures.work import pixels_of, work_of
from benchmarks.results import Results
from benchmarks.running_service import check, service, wait_for_model
from benchmarks.serving.load import post
from benchmarks.serving.photo import write_photo
from benchmarks.serving.servers import Server, Spec, running
from benchmarks.serving.workshop import peers_environment

HERE = Path(__file__).parent
CHOOSE_AT = 8
_OURS = ("onnxruntime", "numpy", "pillow", "uvicorn")


@dataclass(frozen=True, kw_only=True)
class Discipline:
    """A route and what it is given."""

    name: str
    model: str
    path: str
    query: str
    side: int


DISCIPLINES = (
    Discipline(
        name="segmentation",
        model="u2netp",
        path="/v1/segmentation",
        query="?model=u2netp&output=labelmap",
        side=512,
    ),
    Discipline(
        name="super-resolution",
        model="waifu2x-photo",
        path="/v1/super-resolution",
        query="?model=waifu2x-photo&format=png",
        side=256,
    ),
)


def bring_models(folder: Path) -> None:
    """Import both starters; their graphs and manifests come to lie in the folder."""
    with service(folder, STARTERS="u2netp,waifu2x-photo", DEFAULT_CLASSIFIER="") as client:
        for discipline in DISCIPLINES:
            wait_for_model(client, discipline.model)
            for artifact, suffix in (("model.onnx", ".onnx"), ("manifest.json", ".json")):
                answer = client.get(f"/v1/models/{discipline.model}/versions/1/artifacts/{artifact}")
                check(answer)
                (folder / f"{discipline.model}{suffix}").write_bytes(answer.content)


def write_photograph(path: Path, side: int) -> Path:
    """The benchmark's photograph, at this size."""
    with Image.open(io.BytesIO(write_photo(path).read_bytes())) as photo:
        photo.resize((side, side), Image.Resampling.LANCZOS).save(path, "JPEG", quality=88)
    return path


@dataclass(frozen=True, kw_only=True)
class Contest:
    """One discipline and everybody who takes part."""

    discipline: Discipline
    folder: Path
    python: Path
    results: Results
    asked: argparse.Namespace

    @property
    def model(self) -> Path:
        """Its graph."""
        return self.folder / f"{self.discipline.model}.onnx"

    def run(self) -> None:
        """Choose, compare, measure."""
        photo = write_photograph(self.folder / f"{self.discipline.name}.jpg", self.discipline.side)
        limit = max(((2, 1), (1, 2)), key=lambda way: self._limit(photo, way, self.asked.grid_seconds))
        expected = pixels_of(work_of(self.model, threads=1)(photo.read_bytes())).astype(int)
        paces: dict[tuple[str, int], list[float]] = {}
        with ExitStack() as stack:
            servers = []
            for spec in self._specs(photo):
                server = stack.enter_context(running(spec, photo.read_bytes(), self.folder))
                off = np.abs(pixels_of(server.answer(photo.read_bytes())).astype(int) - expected)
                self._write("check", server=spec.name, largest_difference=int(off.max()))
                server.rest()
                server.pause()
                servers.append(server)
            for _ in range(self.asked.rounds):
                for connections in self.asked.connections:
                    pace = self._limit(photo, limit, self.asked.seconds)
                    paces.setdefault(("limit", connections), []).append(pace)
                    for server in servers:
                        seen = self._measure(server, photo, connections)
                        paces.setdefault((server.spec.name, connections), []).append(seen)
        for connections in self.asked.connections:
            medians = {
                name: statistics.median(seen) for (name, at), seen in paces.items() if at == connections
            }
            shares = {name: round(pace / medians["limit"], 3) for name, pace in medians.items()}
            self._write("medians", connections=connections, images_per_s=medians, share_of_limit=shares)

    def _write(self, kind: str, **values: object) -> None:
        self.results.write(kind, discipline=self.discipline.name, **values)

    def _limit(self, photo: Path, way: tuple[int, int], seconds: float) -> float:
        lanes, threads = way
        command = [sys.executable, "-m", "benchmarks.pictures.work", str(self.model), str(photo)]
        flags = ["--lanes", str(lanes), "--threads", str(threads), "--seconds", str(seconds)]
        done = subprocess.run([*command, *flags], cwd=ROOT, check=True, capture_output=True, text=True)
        pace = float(json.loads(done.stdout)["images_per_s"])
        self._write("limit", lanes=lanes, threads=threads, images_per_s=pace)
        return pace

    def _specs(self, photo: Path) -> Iterator[Spec]:
        settings = Settings(data_dir=self.folder / "data", _env_file=None)  # type: ignore[call-arg]
        yield Spec(
            name="athanor",
            command=(str(Path(sys.executable).with_name("athanor")), "serve", "--port", "{port}"),
            environment={
                "ATHANOR_DATA_DIR": str(settings.data_dir),
                "ATHANOR_STARTERS": "",
                "ATHANOR_DEFAULT_CLASSIFIER": "",
            },
            path=self.discipline.path,
            query=self.discipline.query,
        )
        for grid in (_fastapi(self.model, self.python), _litserve(self.model, self.python)):
            yield max(grid, key=lambda spec: self._trial(spec, photo))

    def _trial(self, spec: Spec, photo: Path) -> float:
        with running(spec, photo.read_bytes(), self.folder) as server:
            load = post(
                server.port,
                photo,
                connections=CHOOSE_AT,
                warm_s=1,
                seconds=self.asked.grid_seconds,
                path=spec.path,
            )
        self._write("grid", server=spec.name, options=spec.options, **asdict(load))
        return load.images_per_s

    def _measure(self, server: Server, photo: Path, connections: int) -> float:
        server.resume()
        spec = server.spec
        load = post(
            server.port,
            photo,
            connections=connections,
            warm_s=1,
            seconds=self.asked.seconds,
            path=spec.path,
            query=spec.query,
        )
        server.rest()
        server.pause()
        self._write("cell", server=spec.name, connections=connections, options=spec.options, **asdict(load))
        return load.images_per_s


def _peer(name: str, command: tuple[str, ...], model: Path, options: dict[str, int]) -> Spec:
    knobs = {f"BENCH_{key.upper()}": str(value) for key, value in options.items()}
    environment = {**knobs, "BENCH_MODEL": str(model), "OMP_NUM_THREADS": "1"}
    return Spec(
        name=name, command=command, options=dict(options), environment=environment, path="/v1/picture"
    )


def _fastapi(model: Path, python: Path) -> Iterator[Spec]:
    for pool, threads in ((2, 1), (1, 2)):
        command = (str(python), "-m", "uvicorn", "benchmarks.pictures.fastapi_server:app")
        flags = ("--port", "{port}", "--log-level", "warning", "--no-access-log")
        yield _peer("fastapi", command + flags, model, {"pool": pool, "session_threads": threads})


def _litserve(model: Path, python: Path) -> Iterator[Spec]:
    for workers, threads in ((2, 1), (1, 2)):
        command = (str(python), "-m", "benchmarks.pictures.litserve_server")
        yield _peer("litserve", command, model, {"workers": workers, "session_threads": threads})


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of each cell")
    parser.add_argument("--grid-seconds", type=float, default=8, help="of each configuration that is tried")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--disciplines", nargs="+", choices=[each.name for each in DISCIPLINES])
    parser.add_argument("--peers", type=Path, default=ROOT / "build" / "peers", help="their environment")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    asked = parser.parse_args()
    python = peers_environment(asked.peers)
    results = Results(asked.results, machine_facts(*_OURS))
    with tempfile.TemporaryDirectory(prefix="athanor-bench-", ignore_cleanup_errors=True) as name:
        bring_models(Path(name))
        for discipline in DISCIPLINES:
            if asked.disciplines and discipline.name not in asked.disciplines:
                continue
            contest = Contest(
                discipline=discipline, folder=Path(name), python=python, results=results, asked=asked
            )
            contest.run()


if __name__ == "__main__":
    main()
