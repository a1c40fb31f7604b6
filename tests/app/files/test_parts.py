import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.access.principal import Principal
from app.db.session import Database
from app.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge
from app.files.parts import LIFETIME_S, UploadService
from app.files.service import FileService
from app.files.sweeper import Sweeper
from app.settings import Settings
from app.storage.objects import ObjectStore

ALICE = Principal(tenant_id="alice")
BOB = Principal(tenant_id="bob")


class Clock:
    """Seconds since the epoch that pass when a test says so."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", max_file_bytes=4096, _env_file=None)


@pytest.fixture
def files(database, settings):
    return FileService(database, ObjectStore.from_settings(settings), settings)


@pytest.fixture
def uploads(database, settings, files, clock):
    return UploadService(database, ObjectStore.from_settings(settings), files, now=clock)


@pytest.fixture
def left_behind(settings):
    """Every file there is under the data dir."""
    return lambda: sorted(path for path in settings.data_dir.rglob("*") if path.is_file())


def begin(uploads, size_bytes, *, principal=ALICE, filename="a.zip"):
    return uploads.create(
        principal,
        filename=filename,
        purpose="fine-tune",
        mime_type="application/zip",
        size_bytes=size_bytes,
    ).id


def send(uploads, upload_id, data, *, principal=ALICE):
    with uploads.begin_part(principal, upload_id) as place:
        place.write(data)
        return uploads.add_part(principal, upload_id, place).id


def test_parts_become_one_file_in_the_order_of_their_ids(uploads, files, left_behind):
    upload_id = begin(uploads, 9)
    later, first = send(uploads, upload_id, b"later"), send(uploads, upload_id, b"frst")
    pending, parts = uploads.get(ALICE, upload_id)
    assert pending.status == "pending"
    assert [(part.id, part.size_bytes) for part in parts] == [(later, 5), (first, 4)]
    md5 = hashlib.md5(b"frstlater").hexdigest()
    completed, facts = uploads.complete(ALICE, upload_id, [first, later], md5=md5.upper())
    assert (completed.status, completed.file_id) == ("completed", facts.id)
    assert (facts.filename, facts.purpose, facts.size_bytes) == ("a.zip", "fine-tune", 9)
    assert b"".join(files.content(ALICE, facts.id)[1]) == b"frstlater"
    assert uploads.get(ALICE, upload_id) == (completed, [])
    assert len(left_behind()) == 1  # the file; its parts are gone
    assert uploads.complete(ALICE, upload_id, [first, later]) == (completed, facts)
    assert len(files.list(ALICE).files) == 1
    files.delete(ALICE, facts.id)
    assert uploads.complete(ALICE, upload_id, []) == (completed, None)
    assert left_behind() == []


def test_what_does_not_add_up_is_refused_and_can_be_mended(uploads, files):
    upload_id = begin(uploads, 6)
    part = send(uploads, upload_id, b"abc")
    for wrong, param in (([part], "part_ids"), ([], "part_ids"), ([part, "part_none"], "part_ids.1")):
        with pytest.raises(InvalidRequest) as refused:
            uploads.complete(ALICE, upload_id, wrong)
        assert refused.value.param == param
    with pytest.raises(InvalidRequest, match=hashlib.md5(b"abcabc").hexdigest()):
        uploads.complete(ALICE, upload_id, [part, part], md5="0" * 32)
    assert files.list(ALICE).files == []
    rest = send(uploads, upload_id, b"def")
    _, facts = uploads.complete(ALICE, upload_id, [part, rest])
    assert b"".join(files.content(ALICE, facts.id)[1]) == b"abcdef"


def test_a_part_of_another_upload_is_none_of_this_one(uploads):
    mine, other = begin(uploads, 3), begin(uploads, 3)
    part = send(uploads, other, b"abc")
    with pytest.raises(InvalidRequest, match="no part of"):
        uploads.complete(ALICE, mine, [part])


def test_a_cancelled_upload_gives_its_bytes_back_and_takes_no_more(uploads, left_behind):
    upload_id = begin(uploads, 100)
    for data in (b"one", b"two"):
        send(uploads, upload_id, data)
    assert len(left_behind()) == 2
    for _ in range(2):
        assert uploads.cancel(ALICE, upload_id).status == "cancelled"
    assert left_behind() == []
    for act in (
        lambda: uploads.begin_part(ALICE, upload_id),
        lambda: uploads.complete(ALICE, upload_id, []),
    ):
        with pytest.raises(Conflict, match="is cancelled"):
            act()


def test_bytes_that_are_also_a_file_survive_the_part(uploads, files):
    with files.begin() as place:
        place.write(b"shared")
        facts = files.commit(ALICE, place, filename="b")
    upload_id = begin(uploads, 6)
    send(uploads, upload_id, b"shared")
    uploads.cancel(ALICE, upload_id)
    assert b"".join(files.content(ALICE, facts.id)[1]) == b"shared"


def test_the_same_part_in_two_uploads_survives_the_end_of_one(uploads, files):
    first, second = begin(uploads, 6), begin(uploads, 6)
    send(uploads, first, b"shared")
    part = send(uploads, second, b"shared")
    uploads.cancel(ALICE, first)
    _, facts = uploads.complete(ALICE, second, [part])
    assert b"".join(files.content(ALICE, facts.id)[1]) == b"shared"


def test_an_upload_expires_after_an_hour_for_every_caller_at_once(uploads, clock, left_behind):
    upload_id = begin(uploads, 3)
    part = send(uploads, upload_id, b"abc")
    young = begin(uploads, 3, principal=BOB)
    clock.now += LIFETIME_S - 1
    assert uploads.expire_overdue() == 0
    uploads.begin_part(ALICE, upload_id).__exit__(None, None, None)
    clock.now += 1
    assert uploads.get(ALICE, upload_id)[0].status == "expired"
    for act in (
        lambda: uploads.begin_part(ALICE, upload_id),
        lambda: uploads.complete(ALICE, upload_id, [part]),
        lambda: uploads.cancel(ALICE, upload_id),
    ):
        with pytest.raises(Conflict, match="is expired"):
            act()
    late = begin(uploads, 3)
    assert uploads.expire_overdue() == 2
    assert left_behind() == []
    assert uploads.expire_overdue() == 0
    states = [
        uploads.get(who, each)[0].status for who, each in ((ALICE, upload_id), (BOB, young), (ALICE, late))
    ]
    assert states == ["expired", "expired", "pending"]


def test_a_part_that_arrives_after_the_hour_leaves_nothing(uploads, clock, left_behind):
    upload_id = begin(uploads, 3)
    with pytest.raises(Conflict, match="expired"), uploads.begin_part(ALICE, upload_id) as place:
        place.write(b"abc")
        clock.now += LIFETIME_S
        uploads.add_part(ALICE, upload_id, place)
    assert left_behind() == []


def test_the_sweeper_looks_at_once_and_stops(uploads, clock, left_behind):
    upload_id = begin(uploads, 3)
    send(uploads, upload_id, b"abc")
    clock.now += LIFETIME_S
    swept = threading.Event()
    expire = uploads.expire_overdue

    def watched():
        ended = expire()
        swept.set()
        return ended

    uploads.expire_overdue = watched
    sweeper = Sweeper(uploads)
    sweeper.start()
    assert swept.wait(10)
    sweeper.stop()
    assert left_behind() == []


def test_limits_hold_for_the_file_the_part_and_all_parts_together(uploads, left_behind):
    with pytest.raises(PayloadTooLarge, match="4096"):
        begin(uploads, 4097)
    upload_id = begin(uploads, 10)
    with pytest.raises(PayloadTooLarge, match="The part"):
        send(uploads, upload_id, b"x" * 11)
    with pytest.raises(PayloadTooLarge, match="The part"):
        uploads.begin_part(ALICE, upload_id, body_bytes=1 << 20)
    assert left_behind() == []
    for data in (b"0" * 10, b"0" * 10, b"0" * 10, b"1" * 10):  # a part that comes again takes no room
        send(uploads, upload_id, data)
    with pytest.raises(PayloadTooLarge, match="10 were announced"):
        send(uploads, upload_id, b"2")
    assert len(left_behind()) == 2
    assert len(uploads.get(ALICE, upload_id)[1]) == 4


def test_tenants_do_not_see_each_other(uploads):
    upload_id = begin(uploads, 3)
    part = send(uploads, upload_id, b"abc")
    for act in (
        lambda: uploads.get(BOB, upload_id),
        lambda: uploads.begin_part(BOB, upload_id),
        lambda: uploads.complete(BOB, upload_id, [part]),
        lambda: uploads.cancel(BOB, upload_id),
        lambda: uploads.get(ALICE, "upload_\0"),
    ):
        with pytest.raises(NotFound):
            act()
    assert uploads.get(ALICE, upload_id)[0].status == "pending"


@pytest.mark.parametrize("ends", ["complete", "cancel"])
def test_parts_that_go_while_they_are_read_went_to_whoever_ended_the_upload(uploads, monkeypatch, ends):
    upload_id = begin(uploads, 8)
    parts = [send(uploads, upload_id, data) for data in (b"half", b"more")]
    stream, others = ObjectStore.stream, []

    def slow(store, principal, sha256):
        if not others:
            others.append(None)
            rest = (parts,) if ends == "complete" else ()
            others.append(getattr(uploads, ends)(ALICE, upload_id, *rest))
        return stream(store, principal, sha256)

    monkeypatch.setattr(ObjectStore, "stream", slow)
    if ends == "cancel":
        with pytest.raises(Conflict):
            uploads.complete(ALICE, upload_id, parts)
    else:
        assert uploads.complete(ALICE, upload_id, parts)[1] == others[1][1]


def test_completions_at_the_same_moment_make_one_file(database_url, settings, clock):
    databases = [Database(database_url) for _ in range(5)]
    objects = ObjectStore.from_settings(settings)
    services = [
        UploadService(database, objects, FileService(database, objects, settings), now=clock)
        for database in databases
    ]
    upload_id = begin(services[0], 8)
    parts = [send(services[0], upload_id, data) for data in (b"half", b"more")]
    barrier = threading.Barrier(len(services))

    def complete(service):
        barrier.wait()
        return service.complete(ALICE, upload_id, parts)[1]

    with ThreadPoolExecutor(len(services)) as threads:
        made = {facts.id for facts in threads.map(complete, services)}
    files = FileService(databases[0], objects, settings)
    assert [facts.id for facts in files.list(ALICE).files] == list(made)
    assert b"".join(files.content(ALICE, made.pop())[1]) == b"halfmore"
    for database in databases:
        database.close()
