"""`hf:` against a small stand-in for the Hub on loopback, through the real huggingface_hub."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from models.sources import SourceCode, SourceError, parse_source
from tests.hub import hub_server

MODEL = bytes(range(256)) * 500
URI = "hf:org/name@v1#onnx/model.onnx"


@pytest.fixture
def hub():
    with hub_server({("org/name", "v1", "onnx/model.onnx"): MODEL}) as server:
        yield server


def test_a_file_arrives_from_the_endpoint(hub, context, sha256):
    fetched = parse_source(URI).fetch(context(hub_endpoint=hub.url), expect_sha256=sha256(MODEL))

    assert fetched.path.read_bytes() == MODEL
    assert any(line == "GET /org/name/resolve/v1/onnx/model.onnx" for line in hub.asked)


def test_a_hash_is_not_needed_but_told(hub, context, sha256):
    assert parse_source(URI).fetch(context(hub_endpoint=hub.url)).sha256 == sha256(MODEL)


def test_a_second_fetch_asks_nobody(hub, context, sha256):
    parse_source(URI).fetch(context(hub_endpoint=hub.url), expect_sha256=sha256(MODEL))
    hub.asked.clear()

    parse_source(URI).fetch(context(hub_endpoint=hub.url), expect_sha256=sha256(MODEL))

    assert hub.asked == []


def test_other_bytes_are_refused(hub, context, sha256):
    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(hub_endpoint=hub.url), expect_sha256="0" * 64)

    assert caught.value.code is SourceCode.HASH_MISMATCH
    assert sha256(MODEL) in caught.value.message


@pytest.mark.parametrize("uri", ["hf:org/name@v1#absent.onnx", "hf:org/other@v1#onnx/model.onnx"])
def test_what_the_hub_does_not_have_is_said(hub, context, uri):
    with pytest.raises(SourceError, match="The Hub has no") as caught:
        parse_source(uri).fetch(context(hub_endpoint=hub.url))

    assert caught.value.code is SourceCode.MISSING


def test_a_file_over_the_limit_is_not_downloaded(hub, context):
    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(hub_endpoint=hub.url, limit_bytes=1000))

    assert caught.value.code is SourceCode.TOO_LARGE
    assert not any(line.startswith("GET") for line in hub.asked)


def test_a_hub_that_is_away_is_unavailable(context):
    with pytest.raises(SourceError) as caught:
        parse_source(URI).fetch(context(hub_endpoint="http://127.0.0.1:9"))

    assert caught.value.code is SourceCode.UNAVAILABLE


def test_the_endpoint_comes_from_hf_endpoint(hub, tmp_path):
    script = (
        "from pathlib import Path; from models.sources import *;"
        f"print(parse_source({URI!r}).fetch(FetchContext(work_dir=Path({str(tmp_path)!r}))).sha256)"
    )
    environment = {"HF_ENDPOINT": hub.url, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    told = subprocess.check_output(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[3], env=environment, text=True
    )

    assert told.strip() == hashlib.sha256(MODEL).hexdigest()
