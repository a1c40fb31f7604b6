"""`file:` is used where it lies, with its hash checked when one is given."""

import pytest

from models.sources import SourceCode, SourceError, parse_source


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"weights")
    return path


def test_a_file_is_neither_moved_nor_copied(file, context, sha256, tmp_path):
    fetched = parse_source(f"file:{file}").fetch(context(), expect_sha256=sha256(b"weights"))

    assert fetched.path == file
    assert file.read_bytes() == b"weights"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "case",
    [
        ("absent.onnx", {}, None, SourceCode.MISSING),
        ("net.onnx", {"limit_bytes": 3}, None, SourceCode.TOO_LARGE),
        ("net.onnx", {}, "0" * 64, SourceCode.HASH_MISMATCH),
    ],
)
def test_files_that_do_not_fit_are_refused(file, context, case):
    name, options, pin, code = case
    with pytest.raises(SourceError) as caught:
        parse_source(f"file:{file.parent / name}").fetch(context(**options), expect_sha256=pin)

    assert caught.value.code is code
    assert file.exists()
