"""What every place that keeps objects must do: a folder, obstore's memory, a real S3-compatible server."""

import hashlib
import itertools
import os
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest

from app.access.principal import Principal
from app.errors import NotFound, StorageUnavailable
from app.settings import Settings
from app.storage.cache import ObjectCache
from app.storage.objects import ObjectStore

ALICE = Principal(tenant_id="alice")
BOB = Principal(tenant_id="bob")
LARGE_BYTES = 50 << 20


class Place:
    """One kind of place: makes stores over it and looks at its raw content."""

    def __init__(self, settings, s3_endpoint=None):
        self.settings = settings
        self.s3_endpoint = s3_endpoint
        self.store = ObjectStore.from_settings(settings)

    def overwrite(self, principal, sha256, data):
        """Damage an object behind the store's back."""
        key = f"{principal.tenant_id}/{sha256[:2]}/{sha256}"
        self.store._backend.delete(key)
        self.store._backend.put(key, iter((data,)), size_bytes=len(data))

    def unfinished(self):
        """What an interrupted write has left: temporary files, or uploads that nobody ended."""
        if self.s3_endpoint:
            bucket = self.settings.objects_url.split("/")[2]
            with urllib.request.urlopen(f"{self.s3_endpoint}/{bucket}?uploads") as answer:
                return answer.read().count(b"<Upload>")
        return len(list((self.settings.data_dir / "objects" / "tmp").glob("*")))


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return Place(Settings(data_dir=tmp_path / "data", _env_file=None))
    if request.param == "memory":
        return Place(Settings(data_dir=tmp_path / "data", objects_url="memory://", _env_file=None))
    server = request.getfixturevalue("s3")
    bucket = f"bucket-{uuid.uuid4().hex}"
    server.create_bucket(bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    settings = Settings(
        data_dir=tmp_path / "data",
        objects_url=f"s3://{bucket}/athanor/objects",
        objects_endpoint=server.endpoint,
        _env_file=None,
    )
    return Place(settings, server.endpoint)


@pytest.fixture
def store(place):
    return place.store


@pytest.fixture
def large_file(tmp_path):
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        for number in range(LARGE_BYTES >> 20):
            file.write(hashlib.sha256(bytes([number])).digest() * (1 << 15))
    return path


def test_what_was_put_is_read_back(store, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"hello furnace")
    stored = store.put_file(ALICE, path)
    assert stored.sha256 == hashlib.sha256(b"hello furnace").hexdigest()
    assert stored.size_bytes == 13
    assert path.exists()
    assert store.exists(ALICE, stored.sha256)
    assert store.read(ALICE, stored.sha256) == b"hello furnace"
    assert store.fetch(ALICE, stored.sha256).read_bytes() == b"hello furnace"
    assert store.put_bytes(ALICE, b"") == store.put_bytes(ALICE, b"")
    assert store.read(ALICE, store.put_bytes(ALICE, b"").sha256) == b""


def test_another_process_reads_it_too(place):
    if place.settings.objects_url == "memory://":
        return  # memory is one process's by nature
    stored = place.store.put_bytes(ALICE, b"shared")
    assert ObjectStore.from_settings(place.settings).read(ALICE, stored.sha256) == b"shared"


def test_a_file_given_away_is_gone_and_kept(store, tmp_path):
    for _ in range(2):  # the second time the store has the bytes already
        path = tmp_path / "given.bin"
        path.write_bytes(b"given away")
        stored = store.put_file(ALICE, path, move=True)
        assert not path.exists()
        assert store.read(ALICE, stored.sha256) == b"given away"


def test_the_same_content_is_one_object(store, tmp_path):
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"twice")
    first = store.put_file(ALICE, tmp_path / "a.bin")
    assert store.put_file(ALICE, tmp_path / "b.bin") == first
    assert store.put_bytes(ALICE, b"twice") == first
    store.delete(ALICE, first.sha256)
    assert not store.exists(ALICE, first.sha256)


def test_a_missing_object_is_not_found(store):
    missing = "0" * 64
    assert not store.exists(ALICE, missing)
    for act in (store.read, store.stream, store.fetch):
        with pytest.raises(NotFound):
            act(ALICE, missing)
    store.delete(ALICE, missing)
    with pytest.raises(NotFound):
        store.fetch(ALICE, "../../etc/passwd")


def test_tenants_do_not_see_each_other(store):
    stored = store.put_bytes(ALICE, b"mine")
    assert not store.exists(BOB, stored.sha256)
    with pytest.raises(NotFound):
        store.read(BOB, stored.sha256)
    store.put_bytes(BOB, b"mine")
    store.delete(BOB, stored.sha256)
    assert store.read(ALICE, stored.sha256) == b"mine"


def test_damaged_bytes_are_refused_and_can_be_put_again(place):
    stored = place.store.put_bytes(ALICE, b"a" * 3_000_000)
    place.overwrite(ALICE, stored.sha256, b"a" * 2_999_999 + b"b")
    cache = ObjectCache(place.settings.data_dir / "other", limit_bytes=0)
    reader = ObjectStore(place.store._backend, cache=cache)
    for act in (reader.fetch, reader.read):
        with pytest.raises(StorageUnavailable, match="do not match"):
            act(ALICE, stored.sha256)
    received = bytearray()
    with pytest.raises(StorageUnavailable):
        for chunk in reader.stream(ALICE, stored.sha256):
            received += chunk
    assert len(received) < 3_000_000
    place.store.delete(ALICE, stored.sha256)
    place.store.put_bytes(ALICE, b"a" * 3_000_000)
    assert reader.fetch(ALICE, stored.sha256).stat().st_size == 3_000_000


@pytest.mark.parametrize("size_bytes", [3, 20 << 20], ids=["small", "in parts"])
def test_an_interrupted_write_leaves_nothing(place, size_bytes):
    class PulledPlugError(RuntimeError):
        pass

    def chunks():
        yield from itertools.repeat(b"x" * (1 << 20), size_bytes >> 20)
        raise PulledPlugError

    backend = place.store._backend
    with pytest.raises(PulledPlugError):
        backend.put("alice/ab/cd", chunks(), size_bytes=size_bytes)
    assert backend.size("alice/ab/cd") is None
    assert place.unfinished() == 0


def test_an_interrupted_rewrite_keeps_what_was_there(place):
    def chunks():
        yield b"new"
        raise RuntimeError("pulled plug")

    backend = place.store._backend
    backend.put("alice/ab/cd", iter((b"old",)), size_bytes=3)
    with pytest.raises(RuntimeError, match="pulled plug"):
        backend.put("alice/ab/cd", chunks(), size_bytes=3)
    assert b"".join(backend.open("alice/ab/cd")) == b"old"


def test_a_large_file_streams_with_flat_memory(place, large_file):
    if place.settings.objects_url == "memory://":
        stored = place.store.put_file(ALICE, large_file)
        assert sum(map(len, place.store.stream(ALICE, stored.sha256))) == LARGE_BYTES
        return
    program = f"""
import sys
from pathlib import Path
from app.access.principal import Principal
from app.settings import Settings
from app.storage.objects import ObjectStore
def peak_mib():  # not getrusage: that counts the parent's memory before exec
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
settings = Settings.model_validate_json(sys.argv[1])
store, alice = ObjectStore.from_settings(settings), Principal(tenant_id="alice")
store.put_bytes(alice, b"warm")
before = peak_mib()
stored = store.put_file(alice, Path(sys.argv[2]))
after_put = peak_mib()
assert store.fetch(alice, stored.sha256).stat().st_size == {LARGE_BYTES}
assert sum(map(len, store.stream(alice, stored.sha256))) == {LARGE_BYTES}
after = peak_mib()
print(after_put - before, after - before)
"""
    command = [sys.executable, "-c", program, place.settings.model_dump_json(), str(large_file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    put_mib, all_mib = map(int, run.stdout.split())
    assert all_mib < 30, f"put took {put_mib} MiB, put and reads {all_mib} MiB, for a file of 50 MiB"


def test_bytes_are_on_disk_before_their_name_is(tmp_path, monkeypatch):
    store = ObjectStore.from_settings(Settings(data_dir=tmp_path, _env_file=None))
    store.put_bytes(ALICE, b"the folders exist now")
    steps = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(descriptor):
        steps.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def noted_rename(source, target, **options):
        steps.append(("rename", str(source), str(target)))
        rename(source, target, **options)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_rename)
    stored = store.put_bytes(ALICE, b"durable")
    target = store.fetch(ALICE, stored.sha256)
    rename_at = next(at for at, step in enumerate(steps) if step[0] == "rename")
    assert steps[rename_at][2] == str(target)
    assert ("fsync", steps[rename_at][1]) in steps[:rename_at]
    assert ("fsync", str(target.parent)) in steps[rename_at:]


def test_a_store_that_cannot_be_reached_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    settings = Settings(
        data_dir=tmp_path,
        objects_url="s3://bucket",
        objects_endpoint="http://127.0.0.1:1",
        _env_file=None,
    )
    store = ObjectStore.from_settings(settings)
    with pytest.raises(StorageUnavailable):
        store.put_bytes(ALICE, b"nowhere")
    with pytest.raises(StorageUnavailable):
        store.read(ALICE, "0" * 64)


def test_a_bucket_that_is_missing_says_so(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    settings = Settings(
        data_dir=tmp_path, objects_url="s3://no-such", objects_endpoint=s3.endpoint, _env_file=None
    )
    with pytest.raises(StorageUnavailable, match="bucket"):
        ObjectStore.from_settings(settings).put_bytes(ALICE, b"nowhere")


def test_a_place_of_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="s3://"):
        ObjectStore.from_settings(Settings(data_dir=tmp_path, objects_url="ftp://x/y", _env_file=None))
