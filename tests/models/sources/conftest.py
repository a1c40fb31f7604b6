import hashlib

import pytest

from models.sources import FetchContext


@pytest.fixture
def context(tmp_path):
    """Makes a fetch context with its own work folder and one shared cache."""
    count = 0

    def make(**options):
        nonlocal count
        count += 1
        work_dir = tmp_path / f"work-{count}"
        work_dir.mkdir()
        return FetchContext(work_dir=work_dir, cache_dir=tmp_path / "cache", **options)

    return make


@pytest.fixture
def sha256():
    return lambda data: hashlib.sha256(data).hexdigest()
