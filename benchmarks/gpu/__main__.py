"""What a GPU gives, in one command on a machine that has one: `python -m benchmarks.gpu`.

It needs `onnxruntime-gpu` in place of `onnxruntime`, and says so where no GPU provider really works. For each
graph (timing models with random weights) and provider: milliseconds of a run by batch size, plainly, by IO
binding, and by IO binding from page-locked memory; the first run of a size that is new; how far outputs are
from the CPU's; the GPU's memory, without a limit and with one. Then Athanor over HTTP, where wrk, which makes
the load, is installed. All is appended to `results.jsonl` with machine and commit.

`--providers CPUExecutionProvider` tries the command on a machine without a GPU.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.runtime.pinned import PinnedBuffers
from app.runtime.providers import CPU, CUDA, ON_CPU, TENSORRT, Providers, prepare
from app.runtime.session import OnnxSession, provider_failure
from app.settings import Settings
from benchmarks.machine import machine_facts
from benchmarks.results import Results
from benchmarks.serving.athanor_server import athanor_spec, publish_timing_model
from benchmarks.serving.load import post
from benchmarks.serving.photo import write_photo
from benchmarks.serving.servers import running
from benchmarks.serving.timing_models import export_timing_model
from models.manifest import Manifest

HERE = Path(__file__).parent
MODELS = ("mobilenetv3_small_100", "resnet50")
SIZES = (1, 4, 16, 32, 64)
_LEAST_RUNS, _LEAST_S = 5, 1.0
_LIMIT_BYTES = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A timing model."""

    name: str
    path: Path
    manifest: Manifest

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, 3)"""
        return self.manifest.preprocessing.height, self.manifest.preprocessing.width, 3


def working(asked: list[str] | None) -> Iterator[str]:
    """Providers that really compute here, of those asked for, by default all but the CPU."""
    present = onnxruntime.get_available_providers()
    for name in asked or [name for name in (TENSORRT, CUDA) if name in present] or [CUDA]:
        failure = provider_failure(name) if name in present else "this build of the runtime has it not"
        if failure is None:
            yield name
        else:
            print(f"{name}: {failure}")


def providers_for(name: str, settings: Settings, graph: Graph) -> Providers:
    """The provider with the options that serving gives it, then the CPU."""
    wanted = settings.model_copy(update={"gpu_tensorrt": True})
    chain = tuple(one for one in Providers.of(wanted).chain if one[0] in {name, CPU})
    providers = Providers(chain=chain).for_inputs(
        graph.manifest.inputs[0].name, least=(1, *graph.shape), most=(max(SIZES), *graph.shape)
    )
    prepare(providers)
    return providers


def used_mib() -> int | None:
    """What is in use of the GPU's memory, by its driver; None without the driver's program."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.check_output(query, text=True).splitlines()[0])


def milliseconds(run: Callable[[], object]) -> float:
    """Median of as many runs as fill a second."""
    took_s: list[float] = []
    while len(took_s) < _LEAST_RUNS or sum(took_s) < _LEAST_S:
        began_s = time.perf_counter()
        run()
        took_s.append(time.perf_counter() - began_s)
    return 1000 * median(took_s)


def measure_runs(graph: Graph, providers: Providers, results: Results) -> None:
    """Every batch size, three ways."""
    bound = OnnxSession(graph.path, threads=1, providers=providers)
    plain = OnnxSession(graph.path, threads=1, providers=providers, is_bound=False)
    on_cpu = OnnxSession(graph.path, threads=0, providers=ON_CPU)
    pinned = PinnedBuffers()
    chance = np.random.default_rng(0)
    for size in SIZES:
        batch: NDArray[np.uint8] = chance.integers(0, 256, (size, *graph.shape), np.uint8)
        began_s = time.perf_counter()
        outputs = bound.run(batch, _nobody_stops)
        first_ms = 1000 * (time.perf_counter() - began_s)
        times = {
            "plain_ms": milliseconds(lambda batch=batch: plain.run(batch, _nobody_stops)),
            "bound_ms": milliseconds(lambda batch=batch: bound.run(batch, _nobody_stops)),
        }
        is_locked = pinned.lock(batch)
        times["pinned_ms"] = milliseconds(lambda batch=batch: bound.run(batch, _nobody_stops))
        off = float(np.abs(outputs - on_cpu.run(batch, _nobody_stops)).max())
        results.write(
            "run", model=graph.name, provider=bound.provider, batch=size, first_ms=first_ms, **times,
            is_locked=is_locked, images_per_s=1000 * size / times["pinned_ms"], largest_difference=off,
        )  # fmt: skip
        pinned.release()
    for session in (bound, plain, on_cpu):
        session.close()


def measure_memory(graph: Graph, provider: str, settings: Settings, results: Results) -> None:
    """The GPU's memory that a session takes for the largest batch, freely and limited, and gives back."""
    batch = np.zeros((max(SIZES), *graph.shape), np.uint8)
    for limit in (0, _LIMIT_BYTES):
        limited = settings.model_copy(update={"gpu_memory_bytes": limit})
        before = used_mib()
        session = OnnxSession(graph.path, threads=1, providers=providers_for(provider, limited, graph))
        session.run(batch, _nobody_stops)
        during = used_mib()
        session.close()
        facts = {"limit_bytes": limit, "before_mib": before, "during_mib": during, "after_mib": used_mib()}
        results.write("memory", model=graph.name, provider=provider, **facts)


def measure_serving(graph: Graph, folder: Path, asked: argparse.Namespace, results: Results) -> None:
    """`athanor serve` with its defaults."""
    settings = Settings(data_dir=folder / "data" / graph.name, _env_file=None)  # type: ignore[call-arg]
    publish_timing_model(settings, graph.name, graph.manifest, graph.path)
    photo = write_photo(folder / "photo.jpg")
    with running(athanor_spec(settings, graph.name), photo.read_bytes(), folder) as server:
        for connections in asked.connections:
            load = post(
                server.port, photo, connections=connections, warm_s=2, seconds=asked.seconds,
                query=f"?model={graph.name}",
            )  # fmt: skip
            results.write("serving", model=graph.name, connections=connections, **asdict(load))


def _nobody_stops(_: Callable[[], None]) -> bool:
    return True


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--providers", nargs="+", help="only these, instead of all but the CPU's")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--seconds", type=float, default=15, help="of each load over HTTP")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    asked = parser.parse_args()
    names = list(working(asked.providers))
    if not names:
        raise SystemExit("No provider for a GPU works here; `athanor doctor` says more.")
    results = Results(asked.results, machine_facts(_package(), "numpy"))
    with tempfile.TemporaryDirectory(prefix="athanor-bench-") as name:
        folder = Path(name)
        settings = Settings(data_dir=folder / "cache", _env_file=None)  # type: ignore[call-arg]
        for model in asked.models:
            path = folder / f"{model}.onnx"
            graph = Graph(name=model.replace("_", "-"), path=path, manifest=export_timing_model(model, path))
            for provider in names:
                measure_runs(graph, providers_for(provider, settings, graph), results)
                measure_memory(graph, provider, settings, results)
            if shutil.which("wrk"):
                measure_serving(graph, folder, asked, results)


def _package() -> str:
    return "onnxruntime-gpu" if CUDA in onnxruntime.get_available_providers() else "onnxruntime"


if __name__ == "__main__":
    main()
