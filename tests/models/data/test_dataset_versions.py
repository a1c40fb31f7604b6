import hashlib
import subprocess
import sys
import tracemalloc
import zipfile

import pytest

from examples.digits import write_digits
from models.data.pack import Pack, PackDamaged, Split
from models.data.validate import DataRefused, DatasetOptions, make_pack
from tests.models.data.pictures import folders, png, write_tar, write_zip


def make(folder, contents, name="pets.zip", **options):
    folder.mkdir(exist_ok=True)
    out = folder / "out.pack"
    report = make_pack([write_zip(folder / name, contents)], out, **options)
    return Pack(out), report


def test_the_same_files_and_options_give_the_same_bytes(tmp_path):
    contents = folders("cats", "dogs")
    digests = set()
    for name in ("a", "b"):
        make(tmp_path / name, contents)
        digests.add(hashlib.sha256((tmp_path / name / "out.pack").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_adding_files_makes_the_next_version_and_moves_nothing(tmp_path):
    first, _ = make(tmp_path / "1", folders("cats", "dogs"))
    added = folders("ants", "dogs", seed=50_000)
    second, report = make(tmp_path / "2", added, previous=first)
    assert second.labels == ("cats", "dogs", "ants")
    old = [(item.name, item.label, item.split, item.sha256) for item in first.items]
    assert [(item.name, item.label, item.split, item.sha256) for item in second.items[: len(old)]] == old
    assert (report.images, report.added) == (40, 20)
    assert report.counts[Split.TEST] == {"cats": 1, "dogs": 2, "ants": 1}
    assert [second.read(item) for item in second.items[:20]] == [first.read(item) for item in first.items]


def test_a_class_of_the_version_before_may_grow_by_one_image(tmp_path):
    first, _ = make(tmp_path / "1", folders("cats", "dogs"))
    second, report = make(tmp_path / "2", {"cats/new.png": png(70_000)}, previous=first)
    assert (report.added, len(second.items)) == (1, 21)


def test_other_images_of_a_taken_name_get_another_one(tmp_path):
    first, _ = make(tmp_path / "1", folders("cats", "dogs"))
    second, _ = make(
        tmp_path / "2", folders("cats", "dogs", per_class=1, seed=50_000), name="more.zip", previous=first
    )
    third, _ = make(
        tmp_path / "3", folders("cats", per_class=1, seed=60_000), name="more.zip", previous=second
    )
    assert [item.name for item in third.items[20:]] == [
        "more/cats/0.png",
        "more/dogs/0.png",
        "more/cats/0.png (2)",
    ]
    assert len({item.name for item in third.items}) == len(third.items)


def test_what_is_in_the_version_before_is_not_added_again(tmp_path):
    first, _ = make(tmp_path / "1", folders("cats", "dogs"))
    again = folders("cats", "dogs") | {"cats/renamed.png": png(0), "cats/new.png": png(80_000)}
    second, report = make(tmp_path / "2", again, previous=first)
    assert (len(second.items), report.added, report.duplicate_count) == (21, 1, 21)
    assert ("cats/renamed.png", "cats/0.png") in [(one.name, one.same_as) for one in report.duplicates]


def test_a_label_that_contradicts_the_version_before_is_refused(tmp_path):
    first, _ = make(tmp_path / "1", folders("cats", "dogs"))
    with pytest.raises(DataRefused) as caught:
        make(tmp_path / "2", {"dogs/odd.png": png(0)}, previous=first)
    (problem,) = caught.value.problems
    assert problem.file == "dogs/odd.png"
    assert "cats/0.png" in problem.message


def test_duplicates_are_left_out_and_listed(tmp_path):
    contents = folders("cats", "dogs") | {"cats/copy.png": png(3)}
    pack, report = make(tmp_path, contents)
    (duplicate,) = report.duplicates
    assert (duplicate.name, duplicate.same_as, duplicate.is_across_splits) == (
        "cats/copy.png",
        "cats/3.png",
        False,
    )
    assert len(pack.items) == 20


@pytest.mark.parametrize(
    ("order"), [("test", "train", "val"), ("train", "val", "test"), ("val", "test", "train")]
)
def test_of_copies_in_two_splits_the_earlier_splits_stays(tmp_path, order):
    seeds = {"train": 0, "val": 20_000, "test": 30_000}
    contents = {}
    for split in order:
        contents |= folders("cats", "dogs", per_class=4, prefix=f"{split}/", seed=seeds[split])
        contents[f"{split}/cats/copy.png"] = png(90_000)
    pack, report = make(tmp_path, contents)
    assert {(one.name, one.same_as, one.is_across_splits) for one in report.duplicates} == {
        ("val/cats/copy.png", "train/cats/copy.png", True),
        ("test/cats/copy.png", "train/cats/copy.png", True),
    }
    assert [item.name for item in pack.items if item.name.endswith("copy.png")] == ["train/cats/copy.png"]


def test_the_report_tells_sizes_previews_and_what_looks_odd(tmp_path):
    contents = folders("Cats", "cats", "dogs") | {
        "dogs/wide.png": png(1, side=40),
        "dogs/tiny.jpg": png(1, side=3, kind="JPEG"),
    }
    pack, report = make(tmp_path, contents, options=DatasetOptions(test_share=0))
    assert (report.sides.min_width, report.sides.median_width, report.sides.max_height) == (3, 12, 40)
    assert report.size_bytes == sum(map(len, contents.values()))
    assert report.warnings == ("The labels 'Cats' and 'cats' are nearly the same.", "No image is for test.")
    trained = {item.name for item in pack.of(Split.TRAIN)}
    assert {label: len(names) for label, names in report.previews.items()} == {
        "Cats": 4,
        "cats": 4,
        "dogs": 4,
    }
    assert all(set(names) <= trained for names in report.previews.values())


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_what_progress_raises_ends_the_work_and_leaves_nothing(tmp_path, share):
    def stop(fraction):
        if fraction > share:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        make(tmp_path, folders("cats", "dogs"), progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["pets.zip"]


def test_progress_rises_to_one(tmp_path):
    told = []
    make(tmp_path, folders("cats", "dogs", per_class=100), progress=told.append)
    assert told == sorted(set(told))
    assert told[-1] == 1.0
    assert len(told) > 50


@pytest.mark.parametrize("name", ["big.zip", "big.tar", "big.tar.gz"])
def test_memory_does_not_grow_with_the_bytes_of_a_set(tmp_path, name):
    make(tmp_path / "warm-up", folders("cats", "dogs"))
    big = {
        f"{label}/{n}.bmp": png(n + at * 1000, side=320, kind="BMP")
        for at, label in enumerate(("cats", "dogs"))
        for n in range(120)
    }
    total = sum(map(len, big.values()))
    path = tmp_path / name
    if name.endswith("zip"):
        write_zip(path, big, kind=zipfile.ZIP_STORED)
    else:
        write_tar(path, big)
    del big
    tracemalloc.start()
    make_pack([path], tmp_path / "out.pack")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 70 << 20
    assert peak < total / 2


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_pack_that_is_cut_short_is_called_damaged(tmp_path, cut):
    make(tmp_path, folders("cats", "dogs"))
    whole = (tmp_path / "out.pack").read_bytes()
    (tmp_path / "cut.pack").write_bytes(whole[:cut])
    with pytest.raises(PackDamaged):
        Pack(tmp_path / "cut.pack")


def test_the_digits_example_makes_the_same_balanced_set_each_time(tmp_path):
    path = tmp_path / "digits.zip"
    subprocess.run([sys.executable, "examples/digits.py", path], check=True, capture_output=True)
    assert write_digits(tmp_path / "again.zip") == 1797
    assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()
    report = make_pack([path], tmp_path / "out.pack")
    assert report.labels == tuple("0123456789")
    assert (report.images, report.duplicate_count) == (1797, 0)
    assert (report.sides.min_width, report.sides.max_width) == (64, 64)


def test_no_digit_that_is_held_out_is_trained_on(tmp_path):
    write_digits(tmp_path / "digits.zip")
    make_pack([tmp_path / "digits.zip"], tmp_path / "out.pack")
    pack = Pack(tmp_path / "out.pack")
    train, validation, test = ({item.sha256 for item in pack.of(split)} for split in Split)
    assert len(train) + len(validation) + len(test) == 1797
    assert min(len(validation), len(test)) >= 150
    assert not train & validation | train & test | validation & test
