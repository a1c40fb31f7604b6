"""GPU providers, as far as they show without a GPU: what is asked of them, and what the CPU does alike."""

import ctypes

import numpy as np
import pytest

from app.runtime.pinned import PinnedBuffers
from app.runtime.plan import candidates, machine_key
from app.runtime.providers import CPU, CUDA, ON_CPU, TENSORRT, Providers
from app.runtime.session import OnnxSession
from app.settings import Settings
from tests.colour_models import SIDE, write_colour_model

ALL = (TENSORRT, CUDA, "AzureExecutionProvider", CPU)


def settings(tmp_path, **given):
    return Settings(_env_file=None, data_dir=tmp_path, **given)


def test_what_serves_is_the_best_that_is_present_and_wanted(tmp_path):
    def names(*present, **given):
        return Providers.of(settings(tmp_path, **given), present).names

    assert names(*ALL) == (CUDA, CPU)
    assert names(*ALL, gpu_tensorrt=True) == (TENSORRT, CUDA, CPU)
    assert names(CPU, gpu_tensorrt=True) == (CPU,)
    assert Providers.of(settings(tmp_path)).names[-1] == CPU
    assert not Providers.of(settings(tmp_path), [CPU]).is_accelerated
    assert Providers.of(settings(tmp_path), ALL).is_accelerated


def test_cuda_neither_searches_for_algorithms_nor_takes_more_memory_than_it_may(tmp_path):
    chain = dict(Providers.of(settings(tmp_path, gpu_device=1, gpu_memory_bytes=2**30), ALL).chain)
    assert chain[CUDA]["cudnn_conv_algo_search"] == "HEURISTIC"
    assert chain[CUDA]["arena_extend_strategy"] == "kSameAsRequested"
    assert chain[CUDA]["gpu_mem_limit"] == str(2**30)
    assert chain[CUDA]["device_id"] == "1"
    assert "gpu_mem_limit" not in dict(Providers.of(settings(tmp_path), ALL).chain)[CUDA]


def test_tensorrt_builds_one_engine_for_all_sizes_and_keeps_it(tmp_path):
    providers = Providers.of(settings(tmp_path, gpu_tensorrt=True), ALL)
    shaped = dict(providers.for_inputs("image", least=(1, 16, 16, 3), most=(64, 320, 256, 3)).chain)
    assert shaped[TENSORRT]["trt_engine_cache_path"].startswith(str(tmp_path))
    assert shaped[TENSORRT]["trt_profile_min_shapes"] == "image:1x16x16x3"
    assert shaped[TENSORRT]["trt_profile_max_shapes"] == "image:64x320x256x3"
    assert shaped[CUDA] == dict(providers.chain)[CUDA]


@pytest.mark.parametrize("size", [1, 3])
def test_bound_runs_give_what_plain_ones_give(tmp_path, size):
    write_colour_model(tmp_path / "model.onnx", work=2)
    batch = np.random.default_rng(0).integers(0, 256, (size, SIDE, SIDE, 3), np.uint8)
    bound = OnnxSession(tmp_path / "model.onnx", threads=1, is_bound=True)
    plain = OnnxSession(tmp_path / "model.onnx", threads=1)
    first = bound.run(batch, lambda _: True)
    assert np.array_equal(first, plain.run(batch, lambda _: True))
    bound.run(255 - batch, lambda _: True)
    assert np.array_equal(first, plain.run(batch, lambda _: True)), "an answer changed after it was given"


def test_plans_are_tried_and_kept_apart_from_those_of_the_cpu(tmp_path):
    on_gpu = Providers.of(settings(tmp_path), ALL)
    tried = candidates(8, None, is_accelerated=on_gpu.is_accelerated)
    assert {(plan.lanes, plan.threads) for plan in tried} == {(1, 1), (2, 1)}
    assert max(plan.batch for plan in tried) == 64
    assert max(plan.batch for plan in candidates(8, 4, is_accelerated=True)) == 4
    assert machine_key(8, on_gpu) != machine_key(8, ON_CPU) == machine_key(8)


class FakeRuntime:
    """Stands for CUDA's library: counts what is locked."""

    def __init__(self, code=0):
        self.code, self.locked = code, {}

    def cudaHostRegister(self, address, size_bytes, flags):
        ctypes.string_at(address, size_bytes)  # it is memory
        if not self.code:
            self.locked[address] = size_bytes
        return self.code

    def cudaHostUnregister(self, address):
        del self.locked[address]
        return 0


def test_buffers_are_locked_until_they_are_released():
    library = FakeRuntime()
    pinned = PinnedBuffers(lambda: library)
    buffers = [np.zeros((4, SIDE, SIDE, 3), np.uint8) for _ in range(2)]
    assert [pinned.lock(buffer) for buffer in buffers] == [True, True]
    assert sorted(library.locked.values()) == [buffers[0].nbytes] * 2
    pinned.release()
    pinned.release()
    assert library.locked == {}


@pytest.mark.parametrize("library", [None, FakeRuntime(code=2)])
def test_without_the_library_or_its_consent_buffers_stay_as_they_are(library):
    pinned = PinnedBuffers(lambda: library)
    assert not pinned.lock(np.zeros(64, np.uint8))
    pinned.release()


def test_this_machine_is_asked_for_the_library():
    pinned = PinnedBuffers()
    buffer = np.zeros(2**16, np.uint8)
    assert pinned.lock(buffer) in (True, False)
    pinned.release()
