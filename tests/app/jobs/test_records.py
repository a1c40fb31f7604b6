"""What runs write down on their way: under the token, once a step, and no more checkpoints than needed."""

import time

import pytest

from app.access.principal import SYSTEM, Principal
from app.errors import NotFound, StorageUnavailable
from app.jobs.job import Note
from app.jobs.records import RunRecords
from app.jobs.store import JobStore, LeaseLost
from app.storage.objects import Stored


@pytest.fixture
def records(database):
    return RunRecords(database)


@pytest.fixture
def claimed(database, jobs):
    job = jobs.create(SYSTEM, kind="count", spec={})
    return JobStore(database).claim(job.id, holder="w", lease_s=20)


@pytest.fixture
def keep(records, claimed):
    """Adds a checkpoint; returns the hashes that are not needed any more."""

    def add(step, *, note=None, is_kept=True, **metrics):
        stored = Stored(sha256=f"{step:064}", size_bytes=step)
        return records.add_checkpoint(
            claimed, note or Note(), step=step, stored=stored, metrics=metrics, is_kept=lambda: is_kept
        )

    return add


def test_metrics_of_a_step_that_is_run_again_take_the_place_of_the_first(jobs, records, claimed):
    records.write(claimed.id, claimed.token, Note(metrics={1: {"loss": 2.0}, 2: {"loss": 1.0}}))
    records.write(claimed.id, claimed.token, Note(metrics={2: {"loss": 1.5}, 3: {"loss": None}}))
    measured = jobs.metrics(SYSTEM, claimed.id)
    assert [(m.step, m.values["loss"]) for m in measured] == [(1, 2.0), (2, 1.5), (3, None)]
    assert [m.step for m in jobs.metrics(SYSTEM, claimed.id, after_step=1, limit=1)] == [2]


def test_facts_are_merged_and_the_estimate_is_by_the_databases_clock(jobs, records, claimed):
    records.write(claimed.id, claimed.token, Note(facts={"a": 1, "b": 1}))
    records.write(claimed.id, claimed.token, Note(facts={"b": 2}, progress=0.5, remaining_s=100.0))
    facts = jobs.get(SYSTEM, claimed.id).facts
    assert abs(facts.pop("estimated_finish") - time.time() - 100) < 5
    assert facts == {"a": 1, "b": 2}


def test_the_newest_three_checkpoints_and_the_best_are_kept(jobs, keep):
    accuracies = {10: 0.5, 20: 0.9, 30: 0.9, 40: 0.7, 50: 0.6, 60: 0.6}
    losses = {20: 0.3, 30: 0.4}
    dropped = [
        sha256
        for step, accuracy in accuracies.items()
        for sha256 in keep(step, valid_accuracy=accuracy, valid_loss=losses.get(step, 1.0))
    ]
    assert [int(sha256) for sha256 in dropped] == [10, 30]


def test_of_a_kind_that_only_goes_on_from_them_what_was_reached_last_is_kept(database, jobs):
    job = jobs.create(SYSTEM, kind="super_resolution", spec={})
    claimed = JobStore(database).claim(job.id, holder="w", lease_s=20)
    records = RunRecords(database)
    for step, dropped in ((40, []), (90, [40]), (10, [90])):  # 90 was damaged: it began anew
        stored = Stored(sha256=f"{step:064}", size_bytes=step)
        hashes = records.add_checkpoint(
            claimed, Note(), step=step, stored=stored, metrics={}, is_kept=lambda: True
        )
        assert hashes == [f"{one:064}" for one in dropped]
    assert [checkpoint.step for checkpoint in jobs.checkpoints(SYSTEM, job.id)] == [10]


def test_of_made_pictures_the_best_is_the_one_with_the_highest_psnr(jobs, keep):
    decibels = {10: 30.0, 20: 33.0, 30: 31.0, 40: 31.5, 50: 31.5, 60: 31.5}
    dropped = [
        sha256 for step, psnr in decibels.items() for sha256 in keep(step, valid_psnr=psnr, valid_loss=0.01)
    ]
    assert [int(sha256) for sha256 in dropped] == [10, 30]


def test_of_masks_the_best_is_the_one_with_the_highest_mean_iou(jobs, keep):
    overlaps = {10: 0.4, 20: 0.8, 30: 0.6, 40: 0.5, 50: 0.5, 60: 0.5}
    dropped = [
        sha256
        for step, overlap in overlaps.items()
        for sha256 in keep(step, valid_accuracy=step / 100, valid_miou=overlap, valid_loss=1.0)
    ]
    assert [int(sha256) for sha256 in dropped] == [10, 30]


def test_kept_checkpoints_are_listed_newest_first_and_each_is_an_event(jobs, keep, claimed):
    for step in (1, 2, 3, 4, 5):
        keep(step, train_loss=0.1)
    kept = jobs.checkpoints(SYSTEM, claimed.id)
    assert [(c.step, c.size_bytes, int(c.sha256)) for c in kept] == [(5, 5, 5), (4, 4, 4), (3, 3, 3)]
    events = [event for event in jobs.events(SYSTEM, claimed.id) if event.kind == "checkpoint"]
    assert [event.data["step"] for event in events] == [1, 2, 3, 4, 5]


def test_a_step_that_is_checkpointed_again_has_one_row(jobs, keep, claimed):
    keep(5, valid_accuracy=0.1)
    keep(5, valid_accuracy=0.2)
    [checkpoint] = jobs.checkpoints(SYSTEM, claimed.id)
    assert checkpoint.metrics == {"valid_accuracy": 0.2}


def test_what_was_measured_up_to_a_checkpoint_is_committed_with_it(jobs, keep, claimed):
    keep(2, note=Note(metrics={1: {"loss": 1.0}, 2: {"loss": 0.5}}, facts={"x": 1}))
    assert [m.step for m in jobs.metrics(SYSTEM, claimed.id)] == [1, 2]
    assert jobs.get(SYSTEM, claimed.id).facts["x"] == 1


def test_a_checkpoint_whose_bytes_were_reclaimed_meanwhile_gets_no_row(jobs, keep, claimed):
    with pytest.raises(StorageUnavailable):
        keep(5, is_kept=False)
    assert jobs.checkpoints(SYSTEM, claimed.id) == []


def test_a_run_that_lost_its_job_writes_neither_metrics_nor_checkpoints(
    database, jobs, keep, records, claimed
):
    store = JobStore(database)
    store.give_back(claimed.id, claimed.token, reason="-")
    store.claim(claimed.id, holder="w2", lease_s=20)
    with pytest.raises(LeaseLost):
        records.write(claimed.id, claimed.token, Note(metrics={1: {"loss": 1.0}}, facts={"x": 1}))
    with pytest.raises(LeaseLost):
        keep(5)
    assert jobs.metrics(SYSTEM, claimed.id) == jobs.checkpoints(SYSTEM, claimed.id) == []
    assert jobs.get(SYSTEM, claimed.id).facts == {}


def test_another_tenants_checkpoints_and_metrics_are_not_found(jobs, claimed):
    for look in (jobs.checkpoints, jobs.metrics):
        with pytest.raises(NotFound):
            look(Principal(tenant_id="b"), claimed.id)
