"""What only some places do: caching what is far away, cleaning what a killed process left."""

import os
import time
import uuid

import pytest

from app.access.principal import SYSTEM
from app.errors import StorageUnavailable
from app.settings import Settings
from app.storage.objects import ObjectStore


@pytest.fixture
def remote(s3, tmp_path, monkeypatch):
    """A store on S3, and its settings."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    s3.create_bucket(bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    settings = Settings(
        data_dir=tmp_path, objects_url=f"s3://{bucket}", objects_endpoint=s3.endpoint, _env_file=None
    )
    return ObjectStore.from_settings(settings), settings


def test_a_local_object_is_fetched_where_it_lies(settings):
    store = ObjectStore.from_settings(settings)
    stored = store.put_bytes(SYSTEM, b"graph")
    path = store.fetch(SYSTEM, stored.sha256)
    assert path.is_relative_to(settings.data_dir / "objects" / "default")
    assert not (settings.data_dir / "cache").exists()


def test_a_file_that_changed_after_its_first_fetch_is_checked_again(settings):
    store = ObjectStore.from_settings(settings)
    stored = store.put_bytes(SYSTEM, b"graph")
    path = store.fetch(SYSTEM, stored.sha256)
    path.write_bytes(b"grape")
    with pytest.raises(StorageUnavailable, match="do not match"):
        store.fetch(SYSTEM, stored.sha256)


def test_a_remote_object_is_downloaded_once_and_then_read_without_the_network(remote):
    store, settings = remote
    stored = store.put_bytes(SYSTEM, b"graph")
    path = store.fetch(SYSTEM, stored.sha256)
    assert path.is_relative_to(settings.data_dir / "cache")
    cut_off = ObjectStore.from_settings(
        settings.model_copy(update={"objects_endpoint": "http://127.0.0.1:1"})
    )
    assert cut_off.fetch(SYSTEM, stored.sha256) == path
    assert path.read_bytes() == b"graph"


def test_a_damaged_cache_is_filled_again(remote):
    store, settings = remote
    stored = store.put_bytes(SYSTEM, b"graph")
    store.fetch(SYSTEM, stored.sha256).write_bytes(b"rotten")
    for reader in (store, ObjectStore.from_settings(settings)):
        assert reader.fetch(SYSTEM, stored.sha256).read_bytes() == b"graph"


def test_the_copy_that_was_fetched_longest_ago_leaves_for_a_new_one(remote):
    store, settings = remote
    small = ObjectStore.from_settings(settings.model_copy(update={"object_cache_bytes": 3000}))
    hashes = [store.put_bytes(SYSTEM, bytes([number]) * 1000).sha256 for number in range(4)]
    paths = [small.fetch(SYSTEM, sha256) for sha256 in hashes[:3]]
    for hours, path in zip((30, 50, 40), paths, strict=True):
        last_fetched(path, hours)
    newcomer = small.fetch(SYSTEM, hashes[3])
    assert [path.exists() for path in (*paths, newcomer)] == [True, False, True, True]
    assert small.fetch(SYSTEM, hashes[1]).read_bytes() == bytes([1]) * 1000
    assert [path.exists() for path in paths] == [True, True, False]


def test_copies_stay_for_a_day_after_their_last_fetch_whatever_the_bound(remote):
    store, settings = remote
    none = ObjectStore.from_settings(settings.model_copy(update={"object_cache_bytes": 0}))
    hashes = [store.put_bytes(SYSTEM, bytes([number])).sha256 for number in range(3)]
    first, second = (none.fetch(SYSTEM, sha256) for sha256 in hashes[:2])
    for path in (first, second):
        last_fetched(path, 25)
    written_ns = first.stat().st_mtime_ns
    assert none.fetch(SYSTEM, hashes[0]) == first
    assert first.stat().st_mtime_ns == written_ns  # or it would be hashed again
    none.fetch(SYSTEM, hashes[2])
    assert [path.exists() for path in (first, second)] == [True, False]


def test_what_is_open_is_read_to_its_end_though_its_copy_leaves(remote):
    store, settings = remote
    none = ObjectStore.from_settings(settings.model_copy(update={"object_cache_bytes": 0}))
    old, new = (store.put_bytes(SYSTEM, data).sha256 for data in (b"old", b"new"))
    path = none.fetch(SYSTEM, old)
    with path.open("rb") as file:
        last_fetched(path, 25)
        none.fetch(SYSTEM, new)
        assert not path.exists()
        assert file.read() == b"old"


def last_fetched(path, hours_ago):
    """Says so, and leaves alone when it was written."""
    os.utime(path, ns=(time.time_ns() - hours_ago * 3600 * 10**9, path.stat().st_mtime_ns))


def test_deleting_empties_the_cache_too(remote):
    store, _ = remote
    stored = store.put_bytes(SYSTEM, b"graph")
    path = store.fetch(SYSTEM, stored.sha256)
    store.delete(SYSTEM, stored.sha256)
    assert not path.exists()


def test_what_a_killed_process_left_is_removed_after_a_day(settings):
    folder = settings.data_dir / "objects" / "tmp"
    folder.mkdir(parents=True)
    (folder / "old").write_bytes(b"half")
    (folder / "being-written").write_bytes(b"half")
    yesterday = time.time() - 25 * 3600
    os.utime(folder / "old", (yesterday, yesterday))
    ObjectStore.from_settings(settings)
    assert [path.name for path in folder.iterdir()] == ["being-written"]


def test_a_folder_elsewhere_is_named_by_url(tmp_path):
    settings = Settings(
        data_dir=tmp_path / "data", objects_url=(tmp_path / "my objects").as_uri(), _env_file=None
    )
    store = ObjectStore.from_settings(settings)
    stored = store.put_bytes(SYSTEM, b"graph")
    assert store.fetch(SYSTEM, stored.sha256).is_relative_to(tmp_path / "my objects")
