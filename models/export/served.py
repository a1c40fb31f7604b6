"""ONNX Runtime with the settings that serving uses: the only place in `models` that opens a session."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as native
from numpy.typing import NDArray

from models.manifest import Manifest, Preprocessing, Task, TensorFacts

PROVIDER = "CPUExecutionProvider"
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_LATENCY_RUNS = 9
_LATENCY_S = 1.0
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    # ONNX Runtime's own errors have no common base but Exception.
    *(kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,
)


def session_options(threads: int, *, spins: bool = False) -> ort.SessionOptions:
    """The settings under which graphs are certified and served: the gateway uses these same ones.

    `spins` lets the threads of a run wait actively for each other, and stop when the run ends.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors come as exceptions
    # A spinning thread takes the core that another lane or the network may need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spins else "0")
    if spins:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


class ServedGraphError(ValueError):
    """ONNX Runtime refuses the graph, or it is not what its manifest says."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output as the runtime sees it; -1 marks a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class ServedSession:
    """A loaded graph in the served form."""

    def __init__(self, model: Path | bytes, *, threads: int = 1) -> None:
        options = session_options(threads)
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = ort.InferenceSession(source, options, providers=[PROVIDER])
        except RUNTIME_ERRORS as error:
            raise ServedGraphError(f"ONNX Runtime cannot load the graph: {_short(error)}") from error
        self.inputs = tuple(_port(value) for value in self._session.get_inputs())
        self.outputs = tuple(_port(value) for value in self._session.get_outputs())

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, H, W, 3) uint8 to the first output, (n, C, …) float32. Raises ServedGraphError."""
        try:
            outputs = self._session.run([self.outputs[0].name], {self.inputs[0].name: images})
        except RUNTIME_ERRORS as error:
            raise ServedGraphError(f"ONNX Runtime cannot run the graph: {_short(error)}") from error
        result: NDArray[np.float32] = outputs[0]
        return result

    def check(self, manifest: Manifest) -> None:
        """The graph has exactly the tensors its manifest states. Raises ServedGraphError."""
        for kind, said, found in (
            ("inputs", manifest.inputs, self.inputs),
            ("outputs", manifest.outputs, self.outputs),
        ):
            if tuple(_as_port(fact) for fact in said) != found:
                raise ServedGraphError(
                    f"The manifest states the {kind} {_listed(said)}; the graph has {found}."
                )
        if manifest.task is Task.SUPER_RESOLUTION:
            return
        classes = manifest.outputs[0].shape[1]
        if len(manifest.labels) != classes:
            raise ServedGraphError(
                f"The graph gives {classes} values, the manifest has {len(manifest.labels)} labels."
            )

    def latency_ms(self, preprocessing: Preprocessing) -> float:
        """Median time of one image of full size, in milliseconds; of a slow graph from fewer runs."""
        image = np.full((1, preprocessing.height, preprocessing.width, 3), 127, np.uint8)
        self.run(image)
        times: list[float] = []
        while len(times) < _LATENCY_RUNS and sum(times) < _LATENCY_S:
            started = time.perf_counter()
            self.run(image)
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1e3


def simplify(source: Path, target: Path) -> None:
    """Write the graph as the runtime understands it when it has computed what is constant: standard
    operators, for any machine. Raises ServedGraphError.
    """
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    try:
        ort.InferenceSession(str(source), options, providers=[PROVIDER])
    except RUNTIME_ERRORS as error:
        raise ServedGraphError(f"ONNX Runtime cannot load the graph: {_short(error)}") from error


class ProbedSession:
    """A graph that shows more than its first output."""

    def __init__(self, graph: bytes) -> None:
        """Raises ServedGraphError."""
        options = session_options(1)
        # In the graph's own order, and nothing planned ahead: what has been looked at need not be held.
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        options.enable_mem_pattern = False
        try:
            self._session = ort.InferenceSession(graph, options, providers=[PROVIDER])
        except RUNTIME_ERRORS as error:
            raise ServedGraphError(f"ONNX Runtime cannot load the graph: {_short(error)}") from error
        self._input: str = self._session.get_inputs()[0].name
        self._outputs: list[str] = [output.name for output in self._session.get_outputs()]

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """All outputs of (n, H, W, 3), by name. Raises ServedGraphError."""
        try:
            values = self._session.run(self._outputs, {self._input: images})
        except RUNTIME_ERRORS as error:
            raise ServedGraphError(f"ONNX Runtime cannot run the graph: {_short(error)}") from error
        return dict(zip(self._outputs, values, strict=True))


def runtime_name() -> str:
    """Runtime, version and provider, as a certificate names them."""
    return f"onnxruntime {ort.__version__} {PROVIDER}"


def _port(value: ort.NodeArg) -> Port:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape or ())
    return Port(name=value.name, dtype=_DTYPES.get(value.type, value.type), shape=shape)


def _as_port(fact: TensorFacts) -> Port:
    return Port(name=fact.name, dtype=fact.dtype, shape=fact.shape)


def _listed(facts: tuple[TensorFacts, ...]) -> str:
    return ", ".join(f"{fact.name} {fact.dtype} {list(fact.shape)}" for fact in facts)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
