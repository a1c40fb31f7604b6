"""One ONNX Runtime session.

A session with one intra-op thread runs on the thread that calls it, so several lanes may share one
session: weights are held once however many lanes there are.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.errors import AppError, InferenceFailed, NotServable, OutOfMemory
from app.runtime.providers import CPU, ON_CPU, Providers
from models.export.served import RUNTIME_ERRORS, session_options

# A graph of one 1 x 1 convolution, float32 `x` [1, 1, 2, 2] to `y` = 2 x, operator set 13.
_CONVOLUTION = (
    "CAgSADpjCg8KAXgKAXcSAXkiBENvbnYSAWcqEwgBCAEIAQgBEAFCAXdKBAAAAEBaGwoBeBIWChQIARIQCgIIAQoCCAEKAggCCgIIAmIb"
    "CgF5EhYKFAgBEhAKAggBCgIIAQoCCAIKAggCQgQKABAN"
)


_FAILURES: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, MemoryError)
_NO_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate memory", "out of memory")
_RETRY_AFTER_S = 2.0


class RunStopped(Exception):
    """The run was terminated because nobody waits for it."""


class Session(Protocol):
    """What an engine needs of a loaded graph; `tests` have a second one."""

    provider: str

    def run(
        self, batch: NDArray[np.uint8], running: Callable[[Callable[[], None]], bool]
    ) -> NDArray[np.float32]:
        """Compute the first output, (N, …) float32, from (N, H, W, 3) uint8."""

    def close(self) -> None:
        """Give the memory back."""


def provider_failure(name: str) -> str | None:
    """Why a provider of this build cannot be used here, found by running a convolution on it alone.

    Being listed proves nothing: without its driver or libraries the runtime quietly takes the CPU instead.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if name != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    image = np.ones((1, 1, 2, 2), np.float32)
    try:
        session = ort.InferenceSession(base64.b64decode(_CONVOLUTION), options, providers=[name])
        result = session.run(None, {"x": image})[0]
    except RUNTIME_ERRORS as error:
        return str(error).partition("\n")[0][:300] or type(error).__name__
    if session.get_providers()[0] != name:
        return "its driver or libraries are missing; the runtime fell back to the CPU"
    return None if np.array_equal(result, 2 * image) else "it computes wrong numbers"


def runtime_name() -> str:
    """Runtime and version, as certificates and tunings name it."""
    return f"onnxruntime {ort.__version__}"


class OnnxSession:
    """A graph in the served form: `image` uint8 NHWC in, float32 out."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        spins: bool = False,
        providers: Providers = ON_CPU,
        is_bound: bool | None = None,
    ) -> None:
        """`is_bound`: runs by IO binding; None: where `providers` mean a GPU."""
        try:
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                str(path), session_options(threads, spins=spins), providers=list(providers.chain)
            )
        except _FAILURES as error:
            if _is_out_of_memory(error):
                raise _out_of_memory(f"load {path.name}") from error
            raise NotServable(
                f"ONNX Runtime cannot load {path.name}: {error}",
                hint="Export it again; `athanor verify` helps.",
            ) from error
        self.provider: str = self._session.get_providers()[0]
        self._outputs = [self._session.get_outputs()[0].name]
        self._input = self._session.get_inputs()[0].name
        self._is_bound = providers.is_accelerated if is_bound is None else is_bound

    def run(
        self, batch: NDArray[np.uint8], running: Callable[[Callable[[], None]], bool]
    ) -> NDArray[np.float32]:
        """Run one batch on the calling thread.

        `running` is told how to stop the run and says whether anybody still waits for it.

        Raises:
            RunStopped: it was stopped, or nobody waited any more.
            OutOfMemory: the system gave the runtime no more.
            InferenceFailed: the runtime refused the batch.

        """
        if self._session is None:
            raise InferenceFailed("The session is closed.", hint="Retry.")
        options = ort.RunOptions()
        if not running(lambda: setattr(options, "terminate", True)):
            raise RunStopped
        try:
            result = (self._run_bound if self._is_bound else self._run)(self._session, batch, options)
        except _FAILURES as error:
            if options.terminate:
                raise RunStopped from error
            if _is_out_of_memory(error):
                raise _out_of_memory("run the model on this input") from error
            raise InferenceFailed(
                "The runtime failed on this input.", hint="Report it with the id."
            ) from error
        return result

    def _run(
        self, session: ort.InferenceSession, batch: NDArray[np.uint8], options: ort.RunOptions
    ) -> NDArray[np.float32]:
        result: NDArray[np.float32] = session.run(self._outputs, {self._input: batch}, options)[0]
        return result

    def _run_bound(
        self, session: ort.InferenceSession, batch: NDArray[np.uint8], options: ort.RunOptions
    ) -> NDArray[np.float32]:
        """The same by IO binding: the runtime copies the batch to its device straight from the lane's buffer,
        which is page-locked, and the output back once, without waiting in between."""
        binding = session.io_binding()
        binding.bind_cpu_input(self._input, batch)
        binding.bind_output(self._outputs[0])
        session.run_with_iobinding(binding, options)
        result: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return result

    def close(self) -> None:
        """Drop the session; its memory goes back when no run holds it."""
        self._session = None


def _is_out_of_memory(error: Exception) -> bool:
    """The runtime has no class of its own for it."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY)


def _out_of_memory(what: str) -> AppError:
    return OutOfMemory(
        f"There was not enough memory to {what}.",
        hint="Retry when less is in use, send fewer or smaller inputs, or lower ATHANOR_MODEL_MEMORY_BYTES.",
        retry_after_s=_RETRY_AFTER_S,
    )
