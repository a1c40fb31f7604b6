"""Pictures too large to wait for: a job in a real child process, whose result is a file."""

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from app.access.principal import SYSTEM
from app.errors import Conflict, NotFound, StorageUnavailable
from app.files.service import FileService
from app.jobs.records import RunRecords
from app.jobs.states import JobStatus
from app.upscaling.enlargement import Enlargement
from app.upscaling.options import UpscaleOptions
from app.upscaling.submissions import UpscaleSubmissions
from models.manifest import TileFacts
from models.tasks.image_facts import ImageLimits
from models.tasks.tiles import TileGrid
from tests.colour_models import ENLARGER_MARGIN, enlarged, publish_enlarger
from workers.ending import drop_spent

TILES = TileFacts(scale=2, side=32, margin=ENLARGER_MARGIN)
RANDOM = np.random.default_rng(17)


class Desk:
    """Hands pictures in and looks at what comes out."""

    def __init__(self, bench, folder):
        self.bench = bench
        self.files = FileService(bench.database, bench.objects, bench.settings)
        self.submissions = UpscaleSubmissions(self.files, bench.jobs)
        publish_enlarger(bench.registry, folder / "quick", name="quick")
        publish_enlarger(bench.registry, folder / "slow", name="slow", work=60)
        publish_enlarger(bench.registry, folder / "slower", name="slower", work=300)

    def submit(self, data, *, model="quick:1", **options):
        enlargement = Enlargement.of(
            data,
            UpscaleOptions(model=model, **options),
            TILES,
            limits=ImageLimits(),
            max_result_pixels=10**9,
        )
        return self.submissions.submit(SYSTEM, data, model=model, enlargement=enlargement)

    def done(self, data, **options):
        job = self.submit(data, **options)
        self.bench.runner.answer(job.id)
        return self.bench.get(job.id)

    def result(self, job):
        facts, chunks = self.files.content(SYSTEM, job.result["file"])
        image = Image.open(io.BytesIO(b"".join(chunks)))
        image.load()
        return facts, image


@pytest.fixture
def desk(bench, tmp_path):
    return Desk(bench, tmp_path)


def wait_for(condition, timeout_s=30):
    ends_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_s, "it never came to pass"
        time.sleep(0.02)


def photo(height, width, channels=3):
    return RANDOM.integers(0, 256, (height, width, channels), np.uint8)


def encoded(pixels, format_="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


def test_its_result_is_a_file_that_holds_the_larger_picture(desk):
    pixels = photo(150, 90)
    job = desk.done(encoded(pixels))
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert {key: job.result[key] for key in ("width", "height", "format", "upscaled_by")} == {
        "width": 180,
        "height": 300,
        "format": "png",
        "upscaled_by": "quick:1",
    }
    facts, image = desk.result(job)
    assert (facts.filename, facts.purpose) == ("upscaled.png", "super_resolution_result")
    assert np.array_equal(np.asarray(image), enlarged(pixels))


@pytest.mark.parametrize("format_", ["png", "webp"])
def test_scales_between_transparency_and_grey_are_as_in_an_answer_at_once(desk, format_):
    pixels = photo(40, 50, 4)
    job = desk.done(encoded(pixels), scale=3, format=format_, quality=100)
    _, image = desk.result(job)
    assert (image.mode, image.size) == ("RGBA", (150, 120))
    smaller = Image.fromarray(enlarged(enlarged(pixels[..., :3]))).resize(
        (150, 120), Image.Resampling.LANCZOS
    )
    alpha = Image.fromarray(pixels[..., 3]).resize((150, 120), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(image)[..., 3], np.asarray(alpha))
    if format_ == "png":
        assert np.array_equal(np.asarray(image)[..., :3], np.asarray(smaller))
    _, grey = desk.result(desk.done(encoded(photo(40, 50)[..., 0]), scale=4))
    assert (grey.mode, grey.size) == ("L", (200, 160))


def test_it_can_be_cancelled_between_two_windows_and_leaves_no_file(desk):
    job = desk.submit(encoded(photo(400, 400)), model="slow:1")
    thread = threading.Thread(target=desk.bench.runner.answer, args=(job.id,))
    thread.start()
    wait_for(lambda: desk.bench.get(job.id).phase == "enlarging")
    desk.bench.jobs.cancel(SYSTEM, job.id)
    thread.join(20)
    assert desk.bench.get(job.id).status is JobStatus.CANCELLED
    assert not desk.files.list(SYSTEM, purpose="super_resolution_result").files


def pause_at(desk, job, least):
    """Run it, and pause it when it is so far."""
    thread = threading.Thread(target=desk.bench.runner.answer, args=(job.id,))
    thread.start()
    wait_for(lambda: (now := desk.bench.get(job.id)).phase == "enlarging" and now.progress > least)
    desk.bench.jobs.pause(SYSTEM, job.id)
    thread.join(30)
    assert desk.bench.get(job.id).status is JobStatus.PAUSED


def events_of(desk, job):
    return desk.bench.jobs.events(SYSTEM, job.id)


def unreachable(principal, sha256):
    raise StorageUnavailable("The object store cannot answer now.", hint="Later.")


def test_a_paused_job_goes_on_with_the_next_window_and_leaves_nothing_behind(desk, monkeypatch):
    pixels = photo(300, 300)
    job = desk.submit(encoded(pixels), model="slower:1")
    for least in (0.1, 0.3):
        pause_at(desk, job, least)
        desk.bench.jobs.resume(SYSTEM, job.id)
    drop_spent(desk.bench.place)
    kept = desk.bench.jobs.checkpoints(SYSTEM, job.id)
    assert len(kept) == 1
    desk.bench.runner.answer(job.id)
    done = desk.bench.get(job.id)
    assert done.status is JobStatus.SUCCEEDED, done.error
    _, image = desk.result(done)
    assert np.array_equal(np.asarray(image), enlarged(pixels))
    far = [event.data["progress"] for event in events_of(desk, job) if event.kind == "progress"]
    assert far == sorted(far)
    windows = TileGrid(300, 300, TILES).rows ** 2
    assert 0.1 * windows < done.facts["resumed_from_step"] == kept[0].step < windows
    with monkeypatch.context() as away, pytest.raises(StorageUnavailable):
        away.setattr(desk.bench.objects, "delete", unreachable)
        drop_spent(desk.bench.place)
    assert desk.bench.jobs.checkpoints(SYSTEM, job.id) == kept
    drop_spent(desk.bench.place)
    assert desk.bench.jobs.checkpoints(SYSTEM, job.id) == []
    assert not desk.bench.objects.exists(SYSTEM, kept[0].sha256)


def test_only_what_serves_going_on_alone_is_taken_away_when_a_job_has_ended(bench):
    done = bench.run("count", steps=2, checkpoint_every=1)
    assert done.status is JobStatus.SUCCEEDED
    assert len(bench.jobs.checkpoints(SYSTEM, done.id)) == 2
    assert RunRecords(bench.database).spent() == []


def test_a_picture_that_cannot_be_decoded_fails_the_job_with_its_reason(desk):
    whole = bytearray(encoded(photo(50, 50)))
    whole[2000:2100] = bytes(100)
    job = desk.done(bytes(whole))
    assert job.status is JobStatus.FAILED
    assert job.error["code"] == "image_undecodable"


def test_a_job_that_cannot_be_made_leaves_no_file_behind(desk):
    desk.bench.registry.delete_model(SYSTEM, "quick")
    with pytest.raises(Conflict, match="which is not there"):
        desk.submit(encoded(photo(50, 50)))
    assert not desk.files.list(SYSTEM).files


def test_the_picture_of_a_job_that_waits_cannot_be_deleted(desk):
    job = desk.submit(encoded(photo(50, 50)))
    source = job.spec["source"].removeprefix("file:")
    with pytest.raises(Conflict, match=job.id):
        desk.files.delete(SYSTEM, source)
    desk.bench.jobs.cancel(SYSTEM, job.id)
    desk.files.delete(SYSTEM, source)
    with pytest.raises(NotFound):
        desk.files.get(SYSTEM, source)
