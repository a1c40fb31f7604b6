"""What a run promises: the same bits whenever it is run, and from wherever it is taken up."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.catalogue import CATALOGUE, Kind
from models.train.checkpoint import CheckpointMismatch, load_evaluated, read_checkpoint
from models.train.feed import TensorSource
from models.train.loop import Diverged, Hooks, Interrupted, TrainRun, train
from models.train.predict import predict, validation_metrics
from tests.models.train.tiny_runs import (
    Diary,
    TinyTrainable,
    bits,
    resolved,
    run_through,
    train_run,
)

EVERYTHING = {
    "optimizer": "adamw",
    "accumulate_steps": 2,
    "batch_size": 5,
    "clip_norm": 0.5,
    "ema_decay": 0.9,
    "mixing": {"method": "mixup", "share": 0.7},
    "augmentation": ["flip", "random_resized_crop", "colour_jitter", "rand_augment", "random_erasing"],
    "sampler": "square_root_balanced",
    "class_weights": "balanced",
    "loss": "label_smoothing",
    "early_stopping": {"patience_epochs": 2},
    "checkpoint_every_steps": 2,
    "n_epochs": 4,
}
CASES = {
    "everything": EVERYTHING,
    "plain": {"checkpoint_every_steps": 3},
    "frozen statistics": {"adapter": "head", "checkpoint_every_steps": 3},
    "bf16": {"precision": "bf16", "checkpoint_every_steps": 5},
    "cutmix, one cycle": {"mixing": "cutmix", "schedule": "one_cycle", "checkpoint_every_steps": 4},
    "ends inside an epoch": {"max_steps": 10, "n_epochs": None, "checkpoint_every_steps": 4},
}


@pytest.mark.parametrize("raw", CASES.values(), ids=CASES.keys())
def test_a_run_is_taken_up_from_any_checkpoint_to_the_same_bits(pack, tmp_path, raw):
    spec = resolved(pack, **raw)
    whole, diary, ended = run_through(pack, spec, tmp_path / "whole")
    again, _, _ = run_through(pack, spec, tmp_path / "again")
    assert bits(again.network) == bits(whole.network)
    assert len(diary.checkpoints) >= 3

    for step, path in diary.checkpoints.items():
        resumed, later, trained = run_through(pack, spec, tmp_path / f"from-{step}", resume=path)
        assert bits(resumed.network) == bits(whole.network), f"taken up from step {step}"
        assert (trained.best_step, trained.steps, trained.metrics) == (
            ended.best_step,
            ended.steps,
            ended.metrics,
        )
        assert trained.resumed_from_step == step
        assert trained.other_versions == ()
        assert later.rows == {at: row for at, row in diary.rows.items() if at > step}
        assert {at: path.read_bytes() for at, path in later.checkpoints.items()} == {
            at: path.read_bytes() for at, path in diary.checkpoints.items() if at > step
        }


@pytest.mark.parametrize("optimizer", [row.id for row in CATALOGUE.find(kind=Kind.OPTIMIZER)])
def test_every_optimiser_goes_on_to_the_same_bits(pack, tmp_path, optimizer):
    spec = resolved(pack, optimizer=optimizer, n_epochs=2, checkpoint_every_steps=3)
    whole, diary, _ = run_through(pack, spec, tmp_path / "whole")
    resumed, _, _ = run_through(pack, spec, tmp_path / "resumed", resume=diary.checkpoints[3])
    assert bits(resumed.network) == bits(whole.network)
    assert bits(whole.network) != bits(TinyTrainable().network)


@pytest.mark.parametrize("log_every_steps", [1, 4])
def test_a_run_that_is_asked_to_stop_at_any_moment_goes_on_to_the_same_bits(pack, tmp_path, log_every_steps):
    """After a step, and between two batches of validation."""
    spec = resolved(pack, **{**EVERYTHING, "checkpoint_every_steps": 1000, "n_epochs": 2})
    spec = spec.model_copy(update={"log_every_steps": log_every_steps})
    whole, diary, _ = run_through(pack, spec, tmp_path / "whole")
    stops = []
    for stop_after in itertools.count(1):
        stopping = Diary(stop_after=stop_after)
        run = train_run(pack, spec, tmp_path / f"stopped-{stop_after}")
        try:
            train(run, stopping.hooks())
        except Interrupted as interrupted:
            stops.append(interrupted.step)
        else:
            break
        (path,) = stopping.checkpoints.values()
        assert list(stopping.checkpoints) == stops[-1:]
        resumed, later, _ = run_through(pack, spec, tmp_path / f"resumed-{stop_after}", resume=path)
        assert bits(resumed.network) == bits(whole.network), f"stopped at {stop_after}"
        assert not stopping.rows.keys() & later.rows.keys()
        assert {**stopping.rows, **later.rows} == diary.rows, f"stopped at {stop_after}"
    batches = len(run.validation.batch_sizes)
    # Asked after each step but the last, which ends the run anyway, and after each batch of validation.
    assert len(stops) == spec.total_steps - 1 + 2 * batches
    assert set(stops) == set(range(1, spec.total_steps + 1))


def test_a_finished_run_taken_up_again_takes_no_step(pack, tmp_path):
    spec = resolved(pack)
    whole, diary, ended = run_through(pack, spec, tmp_path / "whole")
    again, later, trained = run_through(
        pack, spec, tmp_path / "again", resume=diary.checkpoints[spec.total_steps]
    )
    assert again.calls == []
    assert later.rows == {}
    assert later.checkpoints == {}
    assert bits(again.network) == bits(whole.network)
    assert trained.metrics == ended.metrics


def test_another_seed_gives_another_network(pack, tmp_path):
    one, _, _ = run_through(pack, resolved(pack), tmp_path / "one")
    other, _, _ = run_through(pack, resolved(pack, seed=1), tmp_path / "other")
    assert bits(one.network) != bits(other.network)


def test_the_loss_falls_and_validation_is_learnt(pack, tmp_path):
    spec = resolved(pack, n_epochs=12, learning_rate=3e-3)
    _, diary, trained = run_through(pack, spec, tmp_path)
    losses = [row["train_loss"] for row in diary.rows.values()]
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])
    assert trained.metrics["valid_accuracy"] >= 0.9
    assert diary.fractions[-1] == 1.0
    assert sorted(diary.fractions) == diary.fractions


def test_the_network_ends_with_the_best_weights_of_validation(pack, tmp_path):
    """A network that knows the stripes is taught wrong names for them: its first epoch is its best."""
    good, _, _ = run_through(pack, resolved(pack, n_epochs=12, learning_rate=3e-3), tmp_path / "good")
    spec = resolved(pack, n_epochs=4, learning_rate=1e-3, schedule="constant", adapter="head")
    trainable = TinyTrainable(is_full=False)
    trainable.network.load_state_dict(good.network.state_dict())
    run, diary = train_run(pack, spec, tmp_path, trainable=trainable), Diary()
    batches = list(run.batches.stream(0, len(run.batches.batch_sizes)))
    images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    wrong = TensorSource(images, (targets + 1) % 3, batch_size=8, shuffle_seed=0)

    trained = train(replace(run, batches=wrong), diary.hooks())

    validated = {step: row for step, row in diary.rows.items() if "valid_loss" in row}
    assert len(validated) == 4
    assert trained.best_step == spec.steps_per_epoch
    assert trained.metrics["valid_loss"] < validated[spec.total_steps]["valid_loss"]
    assert validation_metrics(*predict(trainable.network, run.validation)) == trained.metrics


def test_training_ends_when_validation_stops_improving(pack, tmp_path):
    raw = {"n_epochs": 40, "learning_rate": 1e-9, "early_stopping": {"patience_epochs": 3, "min_delta": 0.01}}
    spec = resolved(pack, **raw)
    _, diary, trained = run_through(pack, spec, tmp_path)
    assert trained.stopped_early
    assert trained.steps == 4 * spec.steps_per_epoch
    assert read_checkpoint(diary.checkpoints[trained.steps]).facts["is_over"]


def test_frozen_parameters_and_statistics_keep_their_bits(pack, tmp_path):
    trainable, diary, _ = run_through(pack, resolved(pack, adapter="head"), tmp_path)
    before, after = bits(TinyTrainable().network), bits(trainable.network)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"3.weight", "3.bias", "8.weight", "8.bias"}
    last = read_checkpoint(max(diary.checkpoints.items())[1])
    assert last.section("buffers") == {}
    assert set(last.section("weights")) == changed


def test_full_training_moves_the_statistics_of_batch_norms(pack, tmp_path):
    trainable, _, _ = run_through(pack, resolved(pack), tmp_path)
    assert not torch.equal(trainable.network[1].running_mean, torch.zeros(8))


def test_the_method_is_called_around_each_step(pack, tmp_path):
    spec = resolved(pack, max_steps=3, n_epochs=None, accumulate_steps=2)
    trainable, _, _ = run_through(pack, spec, tmp_path)
    assert trainable.calls == ["penalty", 0, "penalty", 1, "penalty", 2]


def test_accumulated_batches_make_the_step_of_one_large_batch(pack, tmp_path):
    """Batches of different sizes count by their pictures."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.standard_normal((10, 3, 16, 16)).astype(np.float32))
    targets = torch.from_numpy(random.integers(0, 3, 10))
    ends = []
    for batch_size, accumulate_steps in ((10, 1), (4, 3)):
        raw = {"adapter": "head", "max_steps": 1, "class_weights": {"label-1": 3.0}, "optimizer": "sgd"}
        spec = resolved(pack, learning_rate=0.1, accumulate_steps=accumulate_steps, **raw)
        spec = spec.model_copy(update={"batch_size": batch_size, "steps_per_epoch": 1, "total_steps": 1})
        trainable = TinyTrainable(is_full=False)
        trainable.network[5].p = 0.0
        source = TensorSource(images, targets, batch_size=batch_size)
        assert len(source.batch_sizes) == accumulate_steps
        train(TrainRun(adapted=trainable, spec=spec, batches=source, work_dir=tmp_path), Hooks())
        ends.append(trainable.network[8].weight.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)


def test_the_head_moves_by_its_share_of_the_rate(pack, tmp_path):
    raw = {"optimizer": {"method": "sgd", "momentum": 0.0, "weight_decay": 0.0}, "schedule": "constant"}
    raw |= {"learning_rate": 0.1, "clip_norm": None, "max_steps": 1, "n_epochs": None, "ema_decay": None}
    before = TinyTrainable().network.state_dict()
    moved = {}
    for scale in (1.0, 0.25):
        _, diary, _ = run_through(pack, resolved(pack, head_rate_scale=scale, **raw), tmp_path / str(scale))
        weights = read_checkpoint(diary.checkpoints[1]).section("weights")
        moved[scale] = {name: weights[name] - before[name] for name in weights}
    assert {"8.weight", "8.bias", "0.weight"} <= moved[1.0].keys()
    for name, whole in moved[1.0].items():
        share = 0.25 if name.startswith("8.") else 1.0
        torch.testing.assert_close(moved[0.25][name], share * whole, rtol=1e-4, atol=1e-7)


def test_the_average_is_what_is_evaluated_saved_and_kept(pack, tmp_path):
    spec = resolved(pack, ema_decay=0.5, n_epochs=1, schedule="constant", adapter="head", learning_rate=0.01)
    trainable, diary, _ = run_through(pack, spec, tmp_path)
    last = read_checkpoint(diary.checkpoints[spec.total_steps])
    weights, average = last.section("weights")["8.weight"], last.section("average")["8.weight"]
    kept = trainable.network[8].weight.detach()
    assert torch.equal(kept, average)
    assert not torch.equal(kept, weights)
    fresh = TinyTrainable(is_full=False).network
    assert load_evaluated(fresh, diary.checkpoints[spec.total_steps]) == spec.total_steps
    assert bits(fresh) == bits(trainable.network)


def test_the_average_follows_its_formula(pack, tmp_path):
    spec = resolved(pack, ema_decay=0.3, max_steps=3, n_epochs=None, adapter="head", checkpoint_every_steps=1)
    _, diary, _ = run_through(pack, spec, tmp_path)
    expected = TinyTrainable().network[8].weight.detach().double()
    for step in (1, 2, 3):
        checkpoint = read_checkpoint(diary.checkpoints[step])
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * checkpoint.section("weights")["8.weight"].double()
        torch.testing.assert_close(checkpoint.section("average")["8.weight"].double(), expected)


def test_gradients_are_clipped_to_their_norm(pack, tmp_path):
    raw = {"optimizer": {"method": "sgd", "momentum": 0.0, "weight_decay": 0.0}, "schedule": "constant"}
    raw |= {"learning_rate": 1.0, "clip_norm": 0.01, "max_steps": 1, "n_epochs": None}
    spec = resolved(pack, **raw)
    _, diary, _ = run_through(pack, spec, tmp_path)
    before = TinyTrainable().network.state_dict()
    weights = read_checkpoint(diary.checkpoints[1]).section("weights")
    moved = math.sqrt(sum(float((weights[name] - before[name]).square().sum()) for name in weights))
    assert moved == pytest.approx(0.01, rel=1e-3)
    assert diary.rows[1]["grad_norm"] > 0.01


def test_rows_are_the_mean_loss_since_the_last_row(pack, tmp_path):
    fine = resolved(pack, n_epochs=2)
    coarse = fine.model_copy(update={"log_every_steps": 4})
    assert fine.log_every_steps == 1
    _, each, _ = run_through(pack, fine, tmp_path / "fine")
    _, some, _ = run_through(pack, coarse, tmp_path / "coarse")
    assert list(some.rows) == [4, 6, 8, 12]
    wanted = np.mean([each.rows[step]["train_loss"] for step in (1, 2, 3, 4)])
    assert some.rows[4]["train_loss"] == pytest.approx(wanted, rel=1e-6)


def test_a_loss_that_is_not_finite_ends_the_run_without_a_checkpoint_of_it(pack, tmp_path):
    spec = resolved(
        pack, learning_rate=10.0, optimizer="sgd", clip_norm=None, n_epochs=50, checkpoint_every_steps=1
    )
    trainable = TinyTrainable()
    with torch.no_grad():
        trainable.network[8].weight.fill_(float("inf"))
    diary = Diary()
    with pytest.raises(Diverged, match="step 1"):
        train(train_run(pack, spec, tmp_path, trainable=trainable), diary.hooks())
    assert diary.checkpoints == {}


def test_a_checkpoint_of_another_spec_is_refused(pack, tmp_path):
    _, diary, _ = run_through(pack, resolved(pack), tmp_path / "one")
    path = diary.checkpoints[max(diary.checkpoints)]
    with pytest.raises(CheckpointMismatch, match="another spec"):
        run_through(pack, resolved(pack, seed=3), tmp_path / "two", resume=path)


def test_a_spec_that_only_saves_more_often_goes_on(pack, tmp_path):
    spec = resolved(pack, checkpoint_every_steps=6)
    whole, diary, _ = run_through(pack, spec, tmp_path / "one")
    often = resolved(pack, checkpoint_every_steps=5)
    resumed, _, _ = run_through(pack, often, tmp_path / "two", resume=diary.checkpoints[6])
    assert bits(resumed.network) == bits(whole.network)


def test_torch_is_as_it_was_after_a_run(pack, tmp_path):
    threads = torch.get_num_threads()
    trainable, _, _ = run_through(pack, resolved(pack), tmp_path)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert all(tensor.is_contiguous() for tensor in trainable.network.state_dict().values())
    assert not trainable.network.training
