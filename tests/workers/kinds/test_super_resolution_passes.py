"""Passes of a picture through a network that are interrupted, and gone on with from what was kept."""

import shutil

import numpy as np
import pytest

from app.access.principal import SYSTEM
from app.settings import Settings
from models.manifest import TileFacts
from models.tasks.tiles import TileGrid
from workers.context import Interrupted, JobContext, ResumePoint
from workers.kinds import super_resolution_passes
from workers.kinds.super_resolution_passes import Passes

TILES = TileFacts(scale=2, side=32, context=4, overlap=8)
PIXELS = np.random.default_rng(5).integers(0, 256, (50, 40, 3), np.uint8)
WINDOWS = [grid.rows * grid.columns for grid in (TileGrid(50, 40, TILES), TileGrid(100, 80, TILES))]


class Doubling:
    """A network that repeats each pixel, and counts its windows."""

    def __init__(self):
        self.windows = 0

    def run(self, batch):
        self.windows += 1
        shares = batch.transpose(0, 3, 1, 2).astype(np.float32) / 255
        return shares.repeat(2, 2).repeat(2, 3)


class Job:
    """Attempts of one job: each has a folder of its own, and finds the newest checkpoint."""

    def __init__(self, folder, *, count=2):
        self.folder, self.count = folder, count
        self.settings = Settings(_env_file=None, data_dir=folder)
        self.network = Doubling()
        self.attempts = 0
        self.resume = None
        self.kept, self.messages, self.progress = [], [], []

    def keep(self, step, path, metrics):
        self.kept.append(step)
        stored = self.folder / "stored"
        shutil.copyfile(path, stored)
        path.unlink()
        self.resume = ResumePoint(step=step, path=stored, metrics=metrics)

    def attempt(self, *, leave_at=None, tiles=TILES):
        """Asked to leave off before that many further windows are done."""
        begun = self.network.windows
        self.attempts += 1
        work_dir = self.folder / f"attempt-{self.attempts}"
        work_dir.mkdir()
        context = JobContext(
            spec={},
            work_dir=work_dir,
            objects=None,
            principal=SYSTEM,
            settings=self.settings,
            progress=lambda share, phase: self.progress.append(share),
            message=self.messages.append,
            resume=self.resume,
            checkpoint=self.keep,
            stop_asked=lambda: leave_at is not None and self.network.windows - begun >= leave_at,
        )
        return Passes(context, self.network, tiles, PIXELS, count=self.count, enlarged=0.9)


def enlarged(times):
    return PIXELS.repeat(times, 0).repeat(times, 1)


@pytest.mark.parametrize("stride", [1, 3, 5])
def test_each_window_is_run_once_however_often_it_is_interrupted(tmp_path, stride):
    job, interruptions = Job(tmp_path), 0
    while True:
        try:
            rows = list(job.attempt(leave_at=stride).rows())
        except Interrupted:
            interruptions += 1
        else:
            break
    assert interruptions == (sum(WINDOWS) - 1) // stride
    assert np.array_equal(np.concatenate(rows), enlarged(4))
    (tmp_path / "other").mkdir()
    undisturbed = Job(tmp_path / "other").attempt().rows()
    assert [len(strip) for strip in rows] == [len(strip) for strip in undisturbed]  # so a PNG has its bytes
    assert job.network.windows == sum(WINDOWS) == job.kept[-1] + (sum(WINDOWS) - 1) % stride + 1
    assert job.kept == sorted(set(job.kept))
    assert job.progress == sorted(job.progress)
    assert 0.8 < job.progress[-1] < 0.9


def test_what_is_made_smaller_afterwards_goes_on_too(tmp_path):
    job = Job(tmp_path)
    with pytest.raises(Interrupted):
        job.attempt(leave_at=WINDOWS[0] + 2).whole()
    assert np.array_equal(job.attempt().whole(), enlarged(4))
    assert job.network.windows == sum(WINDOWS)


def test_one_that_is_asked_to_leave_before_its_first_window_keeps_nothing(tmp_path):
    job = Job(tmp_path, count=1)
    for _ in range(2):
        with pytest.raises(Interrupted):
            list(job.attempt(leave_at=0).rows())
    assert job.kept == []
    with pytest.raises(Interrupted):
        list(job.attempt(leave_at=2).rows())
    with pytest.raises(Interrupted):
        list(job.attempt(leave_at=0).rows())
    assert job.kept == [2]


def test_a_killed_one_goes_on_after_what_was_kept_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(super_resolution_passes, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(super_resolution_passes, "_LEAST_WORK", 0)
    job = Job(tmp_path, count=1)
    rows = job.attempt().rows()
    next(rows)
    rows.close()
    assert job.kept == list(range(1, job.network.windows))
    lost = job.network.windows - job.kept[-1]
    assert np.array_equal(np.concatenate(list(job.attempt().rows())), enlarged(2))
    assert job.network.windows == WINDOWS[0] + lost
    assert job.messages == []


def test_a_full_disk_costs_the_checkpoint_and_not_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(super_resolution_passes, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(super_resolution_passes, "_LEAST_WORK", 0)
    job = Job(tmp_path)
    job.settings = Settings(_env_file=None, data_dir=tmp_path, min_free_disk_bytes=2**60)
    assert np.array_equal(np.concatenate(list(job.attempt().rows())), enlarged(4))
    assert job.kept == []
    assert ["no room" in message for message in job.messages] == [True]


def test_one_that_is_too_large_to_be_kept_quickly_leaves_off_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(super_resolution_passes, "_QUICK_BYTES", 0)
    job = Job(tmp_path)
    with pytest.raises(Interrupted):
        list(job.attempt(leave_at=WINDOWS[0]).rows())
    assert job.kept == []


def test_it_hears_that_it_shall_leave_off_while_it_takes_up_what_was_kept(tmp_path):
    job = Job(tmp_path, count=1)
    with pytest.raises(Interrupted):
        list(job.attempt(leave_at=WINDOWS[0] - 1).rows())
    with pytest.raises(Interrupted):
        job.attempt(leave_at=0)
    assert np.array_equal(np.concatenate(list(job.attempt().rows())), enlarged(2))
    assert job.network.windows == WINDOWS[0]


@pytest.mark.parametrize("spoil", ["other windows", "no head", "later pass"])
def test_what_was_kept_of_another_version_is_begun_anew_and_said_so(tmp_path, spoil):
    job = Job(tmp_path)
    with pytest.raises(Interrupted):
        list(job.attempt(leave_at=WINDOWS[0] + 1).rows())
    job.network.windows = 0
    tiles = TILES
    if spoil == "other windows":
        tiles = TILES.model_copy(update={"side": 48})
    elif spoil == "no head":
        job.resume.path.write_bytes(b"{}\n" + bytes(100))
    else:
        job.count = 1
    rows = np.concatenate(list(job.attempt(tiles=tiles).rows()))
    assert np.array_equal(rows, enlarged(2**job.count))
    assert ["begun anew" in message for message in job.messages] == [True]
