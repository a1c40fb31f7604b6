import gc
import random
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from models.data.validate import DataLimits, DataRefused, make_pack
from tests.models.data.hostile import MAKERS
from tests.models.data.hostile_parts import GOOD, LIMITS
from tests.models.data.pictures import write_tar, write_zip

SEEDS = 8
FLAT_BYTES = 24 << 20


def listing(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def world(tmp_path):
    """A data dir deep inside a folder of which every file is known."""
    data_dir = tmp_path / "home" / "user" / "data"
    data_dir.mkdir(parents=True)
    (tmp_path / "home" / "evil.png").write_bytes(b"untouched")
    return tmp_path, data_dir


def refusal(path, out):
    with pytest.raises(DataRefused) as caught:
        make_pack([path], out, limits=DataLimits(archive=LIMITS))
    return caught.value.problems


def test_there_are_more_than_five_hundred_hostile_files():
    kinds = Counter(name.partition("_")[0] for name in MAKERS)
    assert kinds == {"zip": 32, "tar": 27, "gzip": 4, "no": 1, "manifest": 14, "parquet": 8}
    assert len(MAKERS) * SEEDS == 688


@pytest.mark.parametrize("kind", MAKERS)
def test_hostile_files_are_refused_by_name_and_leave_nothing(world, kind):
    root, data_dir = world
    path, out = data_dir / "upload", data_dir / "out.pack"
    for seed in range(SEEDS):
        hostile = MAKERS[kind](random.Random(f"{kind}:{seed}"))
        path.write_bytes(hostile.data)
        before = listing(root)
        problems = refusal(path, out)
        told = [problem for problem in problems if re.search(hostile.words, problem.message)]
        assert told, (seed, hostile.words, problems[:3])
        assert any((hostile.name or "") in problem.file for problem in told), (seed, hostile.name, told[:3])
        assert all(str(problem).isprintable() for problem in problems)
        assert listing(root) == before
        assert (root / "home" / "evil.png").read_bytes() == b"untouched"


def test_memory_and_open_files_stay_flat_under_all_of_them(world):
    _, data_dir = world
    path, out = data_dir / "upload", data_dir / "out.pack"
    make_pack([write_zip(data_dir / "good.zip", GOOD)], data_dir / "good.pack")  # what is loaded on first use
    gc.collect()
    files = len(list(Path("/proc/self/fd").iterdir()))
    peaks = {}
    for kind, maker in MAKERS.items():
        hostile = maker(random.Random(kind))
        path.write_bytes(hostile.data)
        del hostile
        peaks[kind] = peak_bytes(lambda: refusal(path, out))
    gc.collect()
    assert len(peaks) == len(MAKERS)
    assert max(peaks.values()) < FLAT_BYTES, max(peaks, key=peaks.get)
    assert pa.default_memory_pool().max_memory() < FLAT_BYTES  # ever, in this process
    assert len(list(Path("/proc/self/fd").iterdir())) == files


@pytest.mark.parametrize("name", ["good.zip", "good.tar", "good.tar.gz"])
def test_the_same_limits_let_good_archives_pass(world, name):
    _, data_dir = world
    write = write_zip if name.endswith("zip") else write_tar
    path = write(data_dir / name, GOOD)
    report = make_pack([path], data_dir / "out.pack", limits=DataLimits(archive=LIMITS))
    assert report.images == len(GOOD) == 6
