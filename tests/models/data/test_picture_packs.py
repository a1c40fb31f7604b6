"""Pictures, alone or in pairs, become packs for super-resolution; every mistake is named with its file."""

import re

import pytest

from models.data.pack import Pack, PackDamaged, PackWriter, Split
from models.data.picture_pack import make_picture_pack
from models.data.validate import DataRefused, DatasetOptions
from tests.models.data.pictures import png, write_tar, write_zip

SIDE = 48


def made(folder, contents, *, name="photos.zip", previous=None, file_splits=None, **options):
    write = write_zip if name.endswith("zip") else write_tar
    out = folder / f"{name}.pack"
    path = write(folder / name, contents)
    report = make_picture_pack(
        [path], out, previous=previous, options=DatasetOptions(**options), file_splits=file_splits
    )
    return Pack(out), report


def refused(folder, contents, **options):
    with pytest.raises(DataRefused) as caught:
        made(folder, contents, **options)
    assert list(folder.glob("*.pack")) == []
    return caught.value.problems


def pairs(count=6, *, ratio=2, prefix="", seed=0):
    contents = {}
    for at in range(count):
        contents[f"{prefix}hr/{at}.png"] = png(seed + at, side=SIDE)
        contents[f"{prefix}lr/{at}.png"] = png(seed + 100 + at, side=SIDE // ratio)
    return contents


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.tar.gz"])
def test_pictures_in_any_folders_are_a_data_set(tmp_path, name):
    contents = {f"set/{'ab'[at % 2]}/deep/{at}.png": png(at, side=SIDE) for at in range(10)}
    pack, report = made(tmp_path, contents | {"set/readme.txt": b"mine"}, name=name)
    assert {item.name: pack.read(item) for item in pack.items} == contents
    assert pack.ratio is report.ratio is None
    assert {split: len(pack.of(split)) for split in Split} == {
        Split.TRAIN: 8,
        Split.VALIDATION: 1,
        Split.TEST: 1,
    }
    assert [source.layout for source in report.sources] == ["pictures"]
    assert [left.file for left in report.left_out] == ["set/readme.txt"]
    assert (report.sides.min_width, report.labels) == (SIDE, ("picture",))
    with pytest.raises(PackDamaged, match="no small picture"):
        pack.read_small(pack.items[0])


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_each_large_picture_finds_its_small_one(tmp_path, ratio):
    contents = pairs(ratio=ratio, prefix="DIV/")
    pack, report = made(tmp_path, contents)
    assert pack.ratio == report.ratio == ratio
    assert len(pack.items) == 6
    for item in pack.items:
        assert pack.read(item) == contents[item.name]
        assert pack.read_small(item) == contents[item.name.replace("hr/", "lr/")]


@pytest.mark.parametrize("inside", [False, True])
def test_folders_and_files_say_what_pictures_are_for(tmp_path, inside):
    contents = {}
    for split in ("train", "valid"):
        for at in range(2):
            for role, side in (("hr", SIDE), ("lr", SIDE // 2)):
                path = f"{role}/{split}" if inside else f"{split}/{role}"
                contents[f"{path}/{at}.png"] = png(len(contents), side=side)
    pack, _ = made(tmp_path, contents)
    said = {item.name: item.split for item in pack.items}
    assert len(said) == 4
    assert all(
        split is (Split.TRAIN if "train" in name else Split.VALIDATION) for name, split in said.items()
    )
    plain = {f"{split}/{at}.png": png(at, side=SIDE) for at, split in enumerate(("train", "test", "valid"))}
    pack, _ = made(tmp_path, plain, name="plain.zip")
    assert sorted(str(item.split) for item in pack.items) == ["test", "train", "validation"]
    told, _ = made(tmp_path, plain, name="told.zip", file_splits=[Split.TRAIN], validation_share=0)
    assert {item.split for item in told.items} == {Split.TRAIN}


def test_pictures_are_added_to_a_version_and_stay_in_their_splits(tmp_path):
    first, _ = made(tmp_path, pairs(4), name="one.zip")
    second, report = made(tmp_path, pairs(3, seed=50), name="two.zip", previous=first)
    assert (len(second.items), report.added, second.ratio) == (7, 3, 2)
    for old, new in zip(first.items, second.items, strict=False):
        assert (new.name, new.split, second.read(new)) == (old.name, old.split, first.read(old))
        assert second.read_small(new) == first.read_small(old)


WRONG = {
    "no large one": ({"lr/lonely.png": png(9, side=24)}, "lr/lonely.png: There is no picture for it in hr/"),
    "no small one": ({"hr/lonely.png": png(9, side=48)}, "hr/lonely.png: There is no picture for it in lr/"),
    "another size": (
        {"lr/0.png": png(9, side=23)},
        r"lr/0.png: It is 23 x 23 pixels, its large picture 48 x 48. .* 1/2, 1/3, 1/4",
    ),
    "another ratio": ({"lr/0.png": png(9, side=12)}, "hr/0.png: It is 4 times as large .* others 2 times"),
    "too small": (
        {"hr/0.png": png(9, side=46), "lr/0.png": png(9, side=23)},
        "hr/0.png: It is 46 x 46 pixels. Both sides must have 48",
    ),
    "broken": ({"lr/0.png": png(9, side=24)[:60]}, "lr/0.png: "),
    "empty": ({"hr/0.png": b""}, "hr/0.png: It is empty"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_by_file_and_may_be_skipped(tmp_path, wrong):
    changed, message = WRONG[wrong]
    contents = pairs() | changed
    problems = refused(tmp_path, contents)
    assert len(problems) == 1
    assert re.match(message, str(problems[0]))
    pack, report = made(tmp_path, contents, skip_broken=True)
    assert len(pack.items) == 6 - ("lonely" not in message)
    assert report.left_out_count == 1


def test_pairs_and_single_pictures_do_not_mix(tmp_path):
    first, _ = made(tmp_path, pairs(4), name="one.zip")
    (problem, *_) = refused_beside(tmp_path, {f"{at}.png": png(70 + at, side=SIDE) for at in range(2)}, first)
    assert "without a small picture" in problem.message
    alone, _ = made(tmp_path, {f"{at}.png": png(at, side=SIDE) for at in range(3)}, name="alone.zip")
    (problem, *_) = refused_beside(tmp_path, pairs(2, seed=20), alone)
    assert "with a small picture, others without" in problem.message


def refused_beside(folder, contents, previous):
    with pytest.raises(DataRefused) as caught:
        made(folder, contents, name="more.zip", previous=previous)
    return caught.value.problems


def test_a_copy_is_left_out_unless_its_small_picture_is_another(tmp_path):
    twin = {"hr/again.png": pairs()["hr/0.png"], "lr/again.png": pairs()["lr/0.png"]}
    pack, report = made(tmp_path, pairs() | twin)
    assert (len(pack.items), report.duplicate_count) == (6, 1)
    other = twin | {"lr/again.png": png(999, side=24)}
    (tmp_path / "other").mkdir()
    (problem,) = refused(tmp_path / "other", pairs() | other)
    assert "with another small one" in problem.message


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"notes.txt": b"x"}, "The archive holds no picture"),
        ({"one.png": png(1, side=SIDE)}, "There is one picture"),
        ({"test/a.png": png(1, side=SIDE), "test/b.png": png(2, side=SIDE)}, "No picture is for training"),
        (
            {"hr/a.png": png(1, side=48), "hr/a.jpg": png(2, side=48), "lr/a.png": png(3, side=24)},
            "hr/a.png has the same name",
        ),
    ],
)
def test_what_makes_no_set_is_refused(tmp_path, contents, message):
    assert any(message in problem.message for problem in refused(tmp_path, contents))


def test_packs_without_small_pictures_keep_the_bytes_of_releases_that_knew_none(tmp_path):
    for name, ratio in (("one", None), ("two", 2)):
        with PackWriter(tmp_path / name, ["picture"], ratio=ratio) as writer:
            where = writer.add_beside(b"small") if ratio else None
            writer.add(b"large", name="a", label=0, split=Split.TRAIN, width=8, height=8, beside=where)
            writer.finish()
    plain, paired = ((tmp_path / name).read_bytes() for name in ("one", "two"))
    assert b"ratio" not in plain
    assert b"null" not in plain
    assert b'"ratio":2' in paired
    assert Pack(tmp_path / "two").read_small(Pack(tmp_path / "two").items[0]) == b"small"
