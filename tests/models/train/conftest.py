"""The data set of these tests."""

import pytest

from tests.models.train.tiny_runs import write_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    pack = write_pack(tmp_path_factory.mktemp("pack") / "stripes.pack")
    yield pack
    pack.close()
