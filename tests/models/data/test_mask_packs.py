"""Pictures with masks become packs; every mistake is named with its file."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from models.data.mask_pack import make_mask_pack
from models.data.masks import fit_mask, read_mask
from models.data.pack import Pack, Split
from models.data.validate import DataRefused, DatasetOptions
from models.tasks.image_facts import ImageLimits
from tests.models.data.masked import SIDE, halves, mask, pairs
from tests.models.data.pictures import png, write_tar, write_zip


def made(folder, contents, *, name="cells.zip", previous=None, **options):
    write = write_zip if name.endswith("zip") else write_tar
    out = folder / f"{name}.pack"
    path = write(folder / name, contents)
    report = make_mask_pack([path], out, previous=previous, options=DatasetOptions(**options))
    return Pack(out), report


def refused(folder, contents, **options):
    with pytest.raises(DataRefused) as caught:
        made(folder, contents, **options)
    assert list(folder.glob("*.pack")) == []
    return caught.value.problems


def masks_of(pack):
    return {item.name: read_mask(pack.read_mask(item), ImageLimits()) for item in pack.items}


@pytest.mark.parametrize("name", ["cells.zip", "cells.tar", "cells.tar.gz"])
def test_each_picture_finds_its_mask(tmp_path, name):
    contents = pairs(6, prefix="cells/") | {"cells/masks/5.png": mask(halves(0))}
    pack, report = made(tmp_path, contents, name=name)
    assert pack.labels == ("foreground",)
    assert sorted(masks_of(pack)) == [f"cells/images/{at}.png" for at in range(6)]
    for item, found in zip(pack.items, masks_of(pack).values(), strict=True):
        assert pack.read(item) == contents[item.name]
        np.testing.assert_array_equal(found, halves(0 if item.name.endswith("5.png") else 1))
    assert report.pixels == {"foreground": 5 * SIDE * SIDE // 2}
    assert report.ignored_pixels == 0
    assert sum(by_label["foreground"] for by_label in report.counts.values()) == 5
    assert [source.layout for source in report.sources] == ["images_and_masks"]


def test_white_is_the_one_label_unless_a_mask_has_ones(tmp_path):
    white, _ = made(tmp_path, pairs(4, number=255), name="white.zip")
    np.testing.assert_array_equal(masks_of(white)["images/0.png"], halves(1))
    contents = pairs(4) | {"masks/3.png": mask(halves(255))}
    mixed, report = made(tmp_path, contents, name="mixed.zip")
    np.testing.assert_array_equal(masks_of(mixed)["images/3.png"], halves(255))
    assert report.ignored_pixels == SIDE * SIDE // 2


@pytest.mark.parametrize(
    "labels",
    [
        {"labels.txt": b"sky\nsea\nsand\n"},
        {"classes.json": b'["sky", "sea", "sand"]'},
        {"classes.json": b'{"0": "sky", "2": "sand", "1": "sea"}'},
    ],
)
def test_numbers_are_indices_into_the_labels(tmp_path, labels):
    contents = pairs(4) | {"masks/2.png": mask(halves(2, rest=1), palette=True)} | labels
    pack, report = made(tmp_path, contents, validation_share=0.25, test_share=0)
    assert pack.labels == ("sky", "sea", "sand")
    half = SIDE * SIDE // 2
    assert report.pixels == {"sky": 3 * half, "sea": 4 * half, "sand": half}
    by_name = {item.name: item.label for item in pack.items}
    assert (by_name["images/0.png"], by_name["images/2.png"]) == (1, 1)


def test_without_labels_numbers_name_themselves(tmp_path):
    assert made(tmp_path, pairs(5, number=3))[0].labels == ("0", "1", "2", "3")


@pytest.mark.parametrize("order", ["{split}/{role}/{name}", "{role}/{split}/{name}"])
def test_split_folders_are_kept(tmp_path, order):
    contents = {}
    for at, split in enumerate(("train", "train", "valid", "test")):
        contents[order.format(split=split, role="images", name=f"{at}.jpg")] = png(at, kind="JPEG")
        contents[order.format(split=split, role="masks", name=f"{at}.png")] = mask(halves(1))
    pack, _ = made(tmp_path, contents)
    assert [item.split for item in sorted(pack.items)] == [
        Split.TEST,
        Split.TRAIN,
        Split.TRAIN,
        Split.VALIDATION,
    ]


def test_a_mask_is_of_the_picture_as_seen(tmp_path):
    lying = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(lying, "JPEG", exif=exif)
    contents = pairs(3) | {"images/lying.jpg": lying.getvalue(), "masks/lying.png": mask(np.ones((8, 4)))}
    assert len(made(tmp_path, contents)[0].items) == 4
    contents["masks/lying.png"] = mask(np.ones((4, 8)))
    (problem,) = refused_alone(tmp_path / "other", contents)
    assert problem.message == "The mask is 8 x 4 pixels, its picture, as seen, 4 x 8."


def refused_alone(folder, contents):
    folder.mkdir()
    return refused(folder, contents)


RGB = Image.new("RGB", (SIDE, SIDE))


def saved(image, kind="PNG"):
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


LABELLED = {"labels.txt": b"sky\nsea\n"}
MISTAKES = {
    "no mask": ({"masks/2.png": None}, "images/2.png", "no mask"),
    "no mask, a near name": (
        {"masks/2.png": None, "images/cell-2.png": png(99), "masks/cell-22.png": mask(halves(1))},
        "images/cell-2.png",
        "masks/cell-22",
    ),
    "no picture": ({"images/2.png": None}, "masks/2.png", "no picture"),
    "two pictures for a mask": ({"images/2.jpg": png(77, kind="JPEG")}, "images/2.jpg", "same name"),
    "another size": ({"masks/2.png": mask(halves(1, side=8))}, "masks/2.png", "8 x 8 pixels, its picture"),
    "colours": ({"masks/2.png": saved(RGB)}, "masks/2.png", "holds colours"),
    "transparency": ({"masks/2.png": saved(RGB.convert("LA"))}, "masks/2.png", "transparency"),
    "16 bits": ({"masks/2.png": saved(Image.new("I;16", (SIDE, SIDE)))}, "masks/2.png", "16 bits"),
    "a JPEG": ({"masks/2.png": saved(RGB, "JPEG")}, "masks/2.png", "must be a PNG"),
    "a cut mask": ({"masks/2.png": mask(halves(1))[:60]}, "masks/2.png", "cut short|decoded"),
    "an empty mask file": ({"masks/2.png": b""}, "masks/2.png", "must be a PNG"),
    "a broken picture": ({"images/2.png": png(2)[:60]}, "images/2.png", "cut short|decoded"),
    "an unknown number": (LABELLED | {"masks/2.png": mask(halves(7))}, "masks/2.png", "number 7.*2 labels"),
    "a number beside one label": (
        {"labels.txt": b"cell", "masks/2.png": mask(halves(9))},
        "masks/2.png",
        "one label, 'cell'",
    ),
    "nothing said": ({"masks/2.png": mask(halves(255, rest=255))}, "masks/2.png", "says nothing"),
    "another mask for the same picture": (
        {"images/again.png": png(2, side=SIDE), "masks/again.png": mask(halves(0, rest=1))},
        "images/again.png",
        "same picture",
    ),
    "labels twice": (LABELLED | {"classes.json": b'["a"]'}, "labels.txt", "names labels too"),
    "a label twice": ({"labels.txt": b"sea\nsea\n"}, "labels.txt", "'sea' is there twice"),
    "a gap in the labels": ({"classes.json": b'{"0": "sky", "2": "sea"}'}, "classes.json", "no index '1'"),
    "labels that are no JSON": ({"classes.json": b"{"}, "classes.json", "cannot be read"),
    "no label": ({"labels.txt": b"\n"}, "labels.txt", "1 to 255 labels"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_file(tmp_path, mistake):
    changes, file, words = MISTAKES[mistake]
    contents = {name: data for name, data in (pairs(4) | changes).items() if data is not None}
    problems = refused(tmp_path, contents)
    told = [one for one in problems if re.search(words, f"{one.message} {one.hint}", re.DOTALL)]
    assert file in [problem.file for problem in told], problems
    assert all(problem.hint for problem in problems)


def test_there_are_enough_mistakes():
    assert len(MISTAKES) == 21


@pytest.mark.parametrize("broken", ["no mask", "another size", "colours", "a broken picture", "nothing said"])
def test_broken_pairs_can_be_left_out(tmp_path, broken):
    changes, file, _ = MISTAKES[broken]
    contents = {name: data for name, data in (pairs(4) | changes).items() if data is not None}
    pack, report = made(tmp_path, contents, skip_broken=True)
    assert "images/2.png" not in [item.name for item in pack.items]
    assert len(pack.items) == 3
    assert file in [one.file for one in report.left_out]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"cats/1.png": png(1), "cats/2.png": png(2)}, "no pictures with masks"),
        (pairs(4, number=0), "All masks are empty"),
        (pairs(1), "one pair"),
    ],
)
def test_what_is_wrong_with_the_whole_is_said_of_the_archive(tmp_path, contents, words):
    (problem,) = refused(tmp_path, contents)
    assert words in problem.message
    assert problem.file == "cells.zip"


def test_a_label_that_training_never_sees_is_refused(tmp_path):
    contents = LABELLED | pairs(2, number=0, prefix="train/") | pairs(2, prefix="valid/", seed=50)
    problem = refused(tmp_path, contents)[0]
    assert "No mask for training has the label 'sea'" in problem.message
    assert problem.file.startswith("valid/masks/")


def test_copies_are_left_out_once(tmp_path):
    contents = pairs(4) | {"images/again.png": png(2, side=SIDE), "masks/again.png": mask(halves(1))}
    pack, report = made(tmp_path, contents)
    assert (len(pack.items), report.duplicate_count) == (4, 1)


def test_a_version_is_added_to_and_keeps_what_it_was(tmp_path):
    first, _ = made(tmp_path, LABELLED | pairs(5), name="first.zip")
    more, report = made(tmp_path, pairs(5, seed=100), name="more.zip", previous=first)
    assert more.labels == first.labels
    assert (report.images, report.added) == (10, 5)
    old = {item.name: (item.split, item.label) for item in first.items}
    assert old.items() <= {item.name: (item.split, item.label) for item in more.items}.items()
    np.testing.assert_array_equal(masks_of(more)["images/0.png"], halves(1))
    other = {"labels.txt": b"sea\nsky\n"} | pairs(5, seed=200)
    with pytest.raises(DataRefused, match="'sea', 'sky', others 'sky', 'sea'"):
        made(tmp_path, other, name="other.zip", previous=first)


def test_the_same_files_give_the_same_bytes(tmp_path):
    contents = LABELLED | pairs(8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made(tmp_path / name, contents)
    assert len({path.read_bytes() for path in tmp_path.glob("*/*.pack")}) == 1
    assert len(list(tmp_path.glob("*/*.pack"))) == 2


def test_progress_rises_to_one_and_may_end_the_work(tmp_path):
    path, told = write_zip(tmp_path / "cells.zip", pairs(20)), []
    make_mask_pack([path], tmp_path / "out.pack", progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0

    def stop(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        make_mask_pack([path], tmp_path / "stopped.pack", progress=stop)
    assert not (tmp_path / "stopped.pack").exists()


def test_a_mask_is_fitted_without_mixing_its_numbers():
    fitted = fit_mask(mask([[0, 200], [7, 255]]), 4, 6)
    np.testing.assert_array_equal(fitted, np.repeat(np.repeat([[0, 200], [7, 255]], 2, 0), 3, 1))
