import hashlib
import os
import time

import pytest
from sqlalchemy import event

from app.access.principal import Principal
from app.db.session import Database
from app.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge, StorageUnavailable
from app.files.keeping import plain_filename
from app.files.service import FileService
from app.jobs.service import JobService
from app.registry.service import Registry
from app.settings import Settings
from tests.registry_world import publish

ALICE = Principal(tenant_id="alice")
BOB = Principal(tenant_id="bob")


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", max_file_bytes=4096, _env_file=None)


@pytest.fixture
def files(database, objects, settings):
    return FileService(database, objects, settings)


@pytest.fixture
def left_behind(settings):
    """Every file there is under the data dir."""
    return lambda: sorted(path for path in settings.data_dir.rglob("*") if path.is_file())


def upload(files, data, *, principal=ALICE, filename="a.bin", **options):
    with files.begin() as place:
        for start in range(0, len(data), 1000):
            place.write(data[start : start + 1000])
        return files.commit(principal, place, filename=filename, **options)


def test_an_uploaded_file_is_listed_read_and_deleted(files, left_behind):
    facts = upload(files, b"x" * 2500, filename="photos.zip", purpose="vision")
    assert (facts.filename, facts.purpose, facts.size_bytes) == ("photos.zip", "vision", 2500)
    assert facts.sha256 == hashlib.sha256(b"x" * 2500).hexdigest()
    assert files.get(ALICE, facts.id) == facts
    assert files.list(ALICE).files == [facts]
    assert b"".join(files.content(ALICE, facts.id)[1]) == b"x" * 2500
    assert len(left_behind()) == 1  # the object; the temporary file is gone
    files.delete(ALICE, facts.id)
    assert files.list(ALICE).files == []
    assert left_behind() == []
    for act in (files.get, files.content, files.delete):
        with pytest.raises(NotFound):
            act(ALICE, facts.id)


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(files, left_behind):
    upload(files, b"x" * 4096)
    before = left_behind()
    with pytest.raises(PayloadTooLarge, match="4096"):
        upload(files, b"y" * 4097)
    assert left_behind() == before
    with pytest.raises(PayloadTooLarge):
        files.begin(body_bytes=4096 + (1 << 20))
    assert left_behind() == before


def test_an_upload_that_is_given_up_leaves_nothing(files, left_behind):
    with pytest.raises(RuntimeError, match="hung up"), files.begin() as place:
        place.write(b"half")
        raise RuntimeError("the client hung up")
    with pytest.raises(InvalidRequest):
        upload(files, b"data", purpose="")
    assert left_behind() == []


def test_what_a_killed_process_left_is_removed_after_a_day(database, objects, settings):
    folder = settings.data_dir / "uploads"
    folder.mkdir(parents=True)
    (folder / "upload-old").write_bytes(b"half")
    (folder / "upload-new").write_bytes(b"half")
    os.utime(folder / "upload-old", (time.time() - 25 * 3600,) * 2)
    FileService(database, objects, settings)
    assert [path.name for path in folder.iterdir()] == ["upload-new"]


def test_a_row_that_cannot_be_written_leaves_no_bytes(files, objects, database, left_behind):
    kept = upload(files, b"kept")

    def refuse(connection, cursor, statement, *_):
        if statement.startswith("INSERT"):
            raise StorageUnavailable("the database has gone away")

    event.listen(database.db_engine, "before_cursor_execute", refuse)
    with pytest.raises(StorageUnavailable, match="gone away"):
        upload(files, b"lost")
    with pytest.raises(StorageUnavailable, match="gone away"):
        upload(files, b"kept")
    event.remove(database.db_engine, "before_cursor_execute", refuse)
    assert not objects.exists(ALICE, hashlib.sha256(b"lost").hexdigest())
    assert b"".join(files.content(ALICE, kept.id)[1]) == b"kept"
    assert len(left_behind()) == 1


def test_a_database_that_is_gone_is_storage_unavailable(objects, settings):
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(StorageUnavailable):
        FileService(database, objects, settings).list(ALICE)


def test_pages_follow_each_other_without_gap_or_repetition(files):
    made = [upload(files, bytes([n]), purpose="even" if n % 2 == 0 else "odd").id for n in range(7)]
    assert made == sorted(made), "ids sort by the time they were made"
    seen, after = [], None
    while True:
        page = files.list(ALICE, limit=3, after=after, order="asc")
        seen += [facts.id for facts in page.files]
        if not page.has_more:
            break
        after = seen[-1]
    assert seen == made
    assert [facts.id for facts in files.list(ALICE, limit=2).files] == made[:-3:-1]
    assert [facts.id for facts in files.list(ALICE, purpose="odd", order="asc").files] == made[1::2]


def test_the_same_bytes_twice_are_two_files_and_one_object(files, left_behind):
    first, second = upload(files, b"same"), upload(files, b"same")
    assert first.id != second.id
    assert len(left_behind()) == 1
    files.delete(ALICE, first.id)
    assert b"".join(files.content(ALICE, second.id)[1]) == b"same"


def test_bytes_that_a_version_needs_survive_their_file(files, objects, database, tmp_path):
    facts = upload(files, b"graph")
    publish(Registry(database, objects), ALICE, tmp_path / "staging", name="m", model=b"graph")
    files.delete(ALICE, facts.id)
    assert objects.read(ALICE, facts.sha256) == b"graph"


def test_a_file_that_an_unfinished_job_needs_is_not_deleted(files, database):
    facts = upload(files, b"graph")
    jobs = JobService(database, lambda job_id: None)
    job = jobs.create(ALICE, kind="import", spec={"source": f"file:{facts.id}"})
    with pytest.raises(Conflict, match=job.id):
        files.delete(ALICE, facts.id)
    assert files.get(ALICE, facts.id) == facts
    jobs.cancel(ALICE, job.id)
    files.delete(ALICE, facts.id)


def test_tenants_do_not_see_each_other(files):
    facts = upload(files, b"mine")
    assert files.list(BOB).files == []
    for act in (files.get, files.content, files.delete):
        with pytest.raises(NotFound):
            act(BOB, facts.id)


def test_an_id_that_no_database_takes_is_simply_unknown(files):
    with pytest.raises(NotFound):
        files.get(ALICE, "file_\0")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.onnx", "a.onnx"),
        ("../../etc/passwd", "passwd"),
        (r"C:\models\a.onnx", "a.onnx"),
        ("naïve 模型.onnx", "naïve 模型.onnx"),
        ("a\0b\r\n.onnx", "ab.onnx"),
        ("", "file"),
        ("dir/", "file"),
        ("x" * 300 + ".onnx", "x" * 250 + ".onnx"),
    ],
)
def test_a_filename_is_kept_as_far_as_it_is_harmless(given, kept):
    assert plain_filename(given) == kept
