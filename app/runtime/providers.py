"""Execution providers: which of those in this build serve models here, and with which options.

A GPU serves through CUDA, or through TensorRT where that is asked for, and what neither can compute falls to
the CPU, node by node. Options are ONNX Runtime's own, by its names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from app.settings import Settings
from models.export.served import PROVIDER

CPU, CUDA, TENSORRT = PROVIDER, "CUDAExecutionProvider", "TensorrtExecutionProvider"
Options = dict[str, str]
Shape = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Providers:
    """What a session is opened with."""

    chain: tuple[tuple[str, Options], ...]
    """Names with options, best first; the CPU is always last."""

    @property
    def first(self) -> str:
        """What graphs run on if it really works here."""
        return self.chain[0][0]

    @property
    def is_accelerated(self) -> bool:
        """A GPU is meant to compute: inputs have to be copied to it, and large batches pay."""
        return self.first != CPU

    @property
    def names(self) -> tuple[str, ...]:
        """Without their options."""
        return tuple(name for name, _ in self.chain)

    def for_inputs(self, name: str, *, least: Shape, most: Shape) -> "Providers":
        """The same for a graph whose input `name` has shapes (N, H, W, 3) between these: TensorRT builds one
        engine for all of them, where it would build one for each as they come."""
        bounds = {"min": least, "opt": most, "max": most}
        shapes = {
            f"trt_profile_{which}_shapes": f"{name}:{'x'.join(map(str, shape))}"
            for which, shape in bounds.items()
        }
        return Providers(
            chain=tuple(
                (provider, {**options, **shapes} if provider == TENSORRT else options)
                for provider, options in self.chain
            )
        )

    @classmethod
    def of(cls, settings: Settings, present: Sequence[str] | None = None) -> "Providers":
        """Those of `present`, by default of this build, that the settings want."""
        known = ort.get_available_providers() if present is None else present
        chain = []
        if TENSORRT in known and settings.gpu_tensorrt:
            chain.append((TENSORRT, _tensorrt_options(settings)))
        if CUDA in known:
            chain.append((CUDA, _cuda_options(settings)))
        return cls(chain=(*chain, (CPU, {})))


ON_CPU = Providers(chain=((CPU, {}),))


def _cuda_options(settings: Settings) -> Options:
    return {
        "device_id": str(settings.gpu_device),
        # The default tries every algorithm for every new shape, while the first request of it waits.
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        # The default takes the next power of two.
        "arena_extend_strategy": "kSameAsRequested",
        **_memory_limit("gpu_mem_limit", settings),
    }


def _tensorrt_options(settings: Settings) -> Options:
    folder = settings.data_dir / "cache" / "tensorrt"
    return {
        "device_id": str(settings.gpu_device),
        # An engine takes long to build, and fits one version of TensorRT on one kind of GPU.
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        **_memory_limit("trt_max_workspace_size", settings),
    }


def _memory_limit(option: str, settings: Settings) -> Options:
    return {option: str(settings.gpu_memory_bytes)} if settings.gpu_memory_bytes else {}


def prepare(providers: Providers) -> None:
    """Make the folders that options name."""
    for _, options in providers.chain:
        if folder := options.get("trt_engine_cache_path"):
            Path(folder).mkdir(parents=True, exist_ok=True)
