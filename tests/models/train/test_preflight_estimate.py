"""What is measured before a run, and that measuring leaves no trace."""

import time

import pytest
import torch

from models.train.feed import even_sizes
from models.train.loop import Hooks, train
from models.train.measure import measure
from models.train.memory import available_bytes, peak_bytes, reset_peak, resident_bytes
from tests.models.train.tiny_runs import (
    PREPROCESSING,
    TinyTrainable,
    bits,
    resolved,
    run_through,
    train_run,
)


@pytest.mark.parametrize("adapter", ["full", "head"])
def test_measuring_leaves_no_trace(pack, tmp_path, adapter):
    spec = resolved(pack, adapter=adapter, ema_decay=0.9)
    untouched, _, _ = run_through(pack, spec, tmp_path / "one")
    trainable = TinyTrainable(is_full=adapter == "full")
    before = bits(trainable.network)
    estimate = measure(trainable, spec, pack, PREPROCESSING)
    assert bits(trainable.network) == before
    assert all(one.grad is None for one in trainable.network.parameters())
    train(train_run(pack, estimate.applied_to(spec), tmp_path / "two", trainable=trainable), Hooks())
    assert bits(trainable.network) == bits(untouched.network)


def test_the_estimate_is_near_what_the_run_takes(pack, tmp_path):
    """Wide bounds: the machine has other things to do. The benchmark holds the narrow ones."""
    spec = resolved(pack, n_epochs=15)
    estimate = measure(TinyTrainable(), spec, pack, PREPROCESSING)
    assert estimate.steps == spec.total_steps
    assert estimate.fits
    reset_peak()
    began_s = time.perf_counter()
    run_through(pack, estimate.applied_to(spec), tmp_path)
    took_s = time.perf_counter() - began_s
    assert took_s / 20 < estimate.seconds < took_s * 5
    assert 0.7 < estimate.peak_bytes / peak_bytes() < 1.5


def test_checkpoints_are_written_often_enough_for_the_time_steps_take(pack):
    spec = resolved(pack, n_epochs=1000)
    estimate = measure(TinyTrainable(), spec, pack, PREPROCESSING)
    assert estimate.applied_to(spec).checkpoint_every_steps == min(
        spec.checkpoint_every_steps, max(1, round(30 / estimate.step_s))
    )


def test_a_batch_that_does_not_fit_is_halved_and_accumulated(pack, monkeypatch):
    spec = resolved(pack, batch_size=16)
    # Two pictures keep some 60 kB for the backward pass of this network.
    monkeypatch.setattr("models.train.measure.available_bytes", lambda: 400_000)
    estimate = measure(TinyTrainable(), spec, pack, PREPROCESSING)
    assert estimate.batch_size < 16
    assert estimate.batch_size * estimate.accumulate_steps == 16
    smaller = estimate.applied_to(spec)
    assert smaller.total_steps == spec.total_steps
    batches = len(even_sizes(spec.training_images, smaller.batch_size))
    assert -(-batches // smaller.accumulate_steps) == spec.steps_per_epoch


def test_a_run_for_which_there_is_no_memory_does_not_fit(pack, monkeypatch):
    monkeypatch.setattr("models.train.measure.available_bytes", lambda: 1000)
    estimate = measure(TinyTrainable(), resolved(pack), pack, PREPROCESSING)
    assert (estimate.batch_size, estimate.accumulate_steps) == (1, 8)
    assert not estimate.fits


def test_memory_is_what_the_system_says():
    assert 0 < resident_bytes() < available_bytes() + resident_bytes()
    reset_peak()
    before = peak_bytes()
    held = torch.ones(60_000_000)
    assert peak_bytes() - before > 200_000_000
    del held
