"""COCO's data sets become packs; every mistake is named with its file, annotation or image."""

import json
import re

import numpy as np
import pytest

from models.data import json_pieces
from models.data.coco_shapes import ShapeError, painted, read_shape
from models.data.json_pieces import ListSplitter, NotSplit
from models.data.mask_pack import make_mask_pack
from models.data.masks import read_mask
from models.data.pack import Pack, Split
from models.data.validate import DataRefused, DatasetOptions
from models.tasks.image_facts import ImageLimits
from tests.models.data.coco_sets import FILE, UPPER, annotation, contents, document
from tests.models.data.masked import SIDE, halves, pairs
from tests.models.data.pictures import png, write_zip

RUNS = [0, *[SIDE // 2] * (2 * SIDE)]
"""The upper half, down the columns."""
LEFT = [[0, 0, 6, 0, 6, SIDE, 0, SIDE]]


def made(folder, files, **options):
    path, out = write_zip(folder / "cells.zip", files), folder / "cells.pack"
    report = make_mask_pack([path], out, options=DatasetOptions(**options))
    return Pack(out), report


def masks_of(pack):
    return {item.name: read_mask(pack.read_mask(item), ImageLimits()) for item in pack.items}


def one_mask(folder, annotations, **changes):
    """Of the first picture, which these outline."""
    others = [annotation(at, category=at % 2 * 33 + 7) for at in range(1, 4)]
    pack, _ = made(folder, contents(document(annotations=[*annotations, *others], **changes)))
    return masks_of(pack)["images/0.png"]


def test_outlines_become_masks_whose_levels_are_categories_by_their_ids(tmp_path):
    told = document()
    told["annotations"][1]["category_id"] = 40
    del told["annotations"][3]
    pack, report = made(tmp_path, contents(told))
    assert pack.labels == ("background", "cell", "nucleus")
    assert report.sources[0].layout == "coco"
    found = masks_of(pack)
    for at, level in enumerate((1, 2, 1, 0)):
        np.testing.assert_array_equal(found[f"images/{at}.png"], halves(level))
    assert report.pixels["cell"] == SIDE * SIDE


def test_one_category_is_the_one_label(tmp_path):
    categories = [{"id": 0, "name": "Background"}, {"id": 7, "name": "cell"}]
    pack, _ = made(tmp_path, contents(document(categories=categories)))
    assert pack.labels == ("cell",)
    np.testing.assert_array_equal(masks_of(pack)["images/0.png"], halves(1))


@pytest.mark.parametrize(
    "segmentation",
    [
        UPPER,
        UPPER[0],
        [[0, 0, 5, 0, 5, 6, 0, 6], [4, 0, 12, 0, 12, 6, 4, 6]],
        [[-1.5, -1, 12.4, -1, 12.4, 6, -1.5, 6]],
        {"size": [SIDE, SIDE], "counts": RUNS},
        {"size": [SIDE, SIDE], "counts": "066" + "0" * (2 * SIDE - 2)},
    ],
    ids=["polygon", "bare polygon", "two polygons", "a little outside", "run lengths", "text"],
)
def test_the_same_half_in_every_notation(tmp_path, segmentation):
    np.testing.assert_array_equal(one_mask(tmp_path, [annotation(0, segmentation=segmentation)]), halves(1))


def test_smaller_things_lie_on_larger_ones_and_crowds_below_all(tmp_path):
    square = [[4, 4, 8, 4, 8, 8, 4, 8]]
    crowd = {"size": [SIDE, SIDE], "counts": [SIDE * 6, SIDE * 6]}
    given = [
        annotation(0, segmentation=square, category=40),
        annotation(0, segmentation=LEFT),
        annotation(0, segmentation=crowd, iscrowd=1),
    ]
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[:, 6:] = 255
    expected[:, :6] = 1
    expected[4:8, 4:8] = 2
    np.testing.assert_array_equal(one_mask(tmp_path, given), expected)


def test_a_pixel_is_covered_when_its_middle_is():
    points = np.random.default_rng(1).random((9, 2)) * (40, 30)
    mask = painted([(read_shape([points.ravel().tolist()], 40, 30), 3)], 40, 30)
    y, x = np.mgrid[:30, :40] + 0.5
    is_inside = np.zeros((30, 40), bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        is_between = (y0 <= y) != (y1 <= y)
        is_inside ^= is_between & (x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    np.testing.assert_array_equal(mask, 3 * is_inside.astype(np.uint8))
    assert 100 < is_inside.sum() < 1100


def test_files_of_splits_are_told_by_their_names(tmp_path):
    told = {}
    for at, split in enumerate(("train", "val", "test")):
        whole = document(2)
        told |= contents(
            whole, count=2, file=f"annotations/instances_{split}2017.json", folder=f"{split}2017/"
        )
        told |= {f"{split}2017/{n}.png": png(10 * at + n, side=SIDE) for n in range(2)}
    pack, _ = made(tmp_path, told)
    found = sorted((item.split, item.name) for item in pack.items)
    assert [split for split, _ in found] == [*[Split.TEST] * 2, *[Split.TRAIN] * 2, *[Split.VALIDATION] * 2]
    assert found[0] == (Split.TEST, "test2017/0.png")


def test_a_file_beside_its_pictures_and_ids_that_are_text(tmp_path):
    told = document(2)
    for image, outlined in zip(told["images"], told["annotations"], strict=True):
        image["id"] = outlined["image_id"] = f"image {image['id']}"
    told = {
        "annotations": told["annotations"],  # before the pictures that they are of
        "categories": told["categories"],
        "images": told["images"],
    }
    files = contents(told, count=2, file="train/_annotations.coco.json", folder="train/")
    files |= {f"valid/{n}.png": png(50 + n, side=SIDE) for n in range(2)}
    files["valid/_annotations.coco.json"] = json.dumps(document(2)).encode()
    pack, _ = made(tmp_path, files)
    assert [item.split for item in pack.items].count(Split.VALIDATION) == 2
    assert len(pack.items) == 4


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/instances_default.json", "images/default/"),
        ("result.json", "images/"),
        ("cells/annotations.json", "cells/"),
        ("Cells COCO.json", ""),
        ("our test of cells/annotations.json", "our test of cells/"),
    ],
)
def test_archives_of_other_tools_are_known(tmp_path, file, folder):
    files = contents(document(), file=file, folder=folder) | {"__MACOSX/._annotations.coco.json": b"?"}
    pack, _ = made(tmp_path, files)
    assert sorted(item.name for item in pack.items) == [f"{folder}{at}.png" for at in range(4)]


def test_masks_win_where_both_are_there(tmp_path):
    _, report = made(tmp_path, pairs(4) | {FILE: b"{}"})
    assert [one.layout for one in report.sources] == ["images_and_masks"]
    assert [one.file for one in report.left_out] == [FILE]


def changed(**changes):
    """The first annotation is another."""
    told = document()
    told["annotations"][0] = annotation(0, **changes)
    return told


def with_image(**changes):
    told = document()
    told["images"][0] |= changes
    return told


SIZED = {"size": [SIDE, SIDE]}
CATEGORY = {"id": 7, "name": "cell"}
DEEP = b'{"info": ' + b"[" * 40 + b"]" * 40 + b"}"
MISTAKES = {
    "not JSON": (b"hello", "no JSON object|no whole JSON"),
    "cut short": (json.dumps(document()).encode()[:-40], "ends too soon"),
    "a list": (b"[]", "It is a list"),
    "too deep": (DEEP, "nested more than 16 deep"),
    "brackets": (b'{"images": [}', "brackets do not match"),
    "an element that is no JSON": (b'{"images": [{"id": nope}]}', "is no JSON"),
    "numbers for images": (document(images=[1, 2]), "'1, 2' stands where an object should"),
    "lists for images": (document(images=[[1]]), "stands where an object should"),
    "images twice": (b'{"images": [], "images": []}', "`images` is there twice"),
    "an object of images": (document(images={"a": {}}), "`images` is an object"),
    "no categories": ({"images": [], "annotations": []}, "no list `categories`"),
    "no names": (document(categories=[]), "0 categories"),
    "too many categories": (
        document(categories=[{"id": at, "name": f"c{at}"} for at in range(300)]),
        "more than 255 categories",
    ),
    "a category without a name": (document(categories=[{"id": 7}]), "name of category 7"),
    "a category without an id": (document(categories=[{"name": "cell"}]), "category cell has no `id`"),
    "a category's id twice": (document(categories=[CATEGORY, {"id": 7, "name": "x"}]), "have the id 7"),
    "a category's name twice": (document(categories=[CATEGORY, {"id": 8, "name": "cell"}]), "name 'cell'"),
    "an image without an id": (with_image(id=None), "image 0.png has no `id`"),
    "an image's id twice": (with_image(id=11), "Two images have the id 11"),
    "an image without a file": (with_image(file_name=""), "Image 10: It has no `file_name`"),
    "an image without sides": (with_image(width=None), "Image 10: It has the sides None and 12"),
    "an image of no size": (with_image(width=0), "Image 10: .*0 x 12"),
    "an image too large": (with_image(width=70_000), "Image 10: .*70000 x 12"),
    "a picture that is not there": (with_image(file_name="9.png"), "Image 10 is '9.png', and .*no such file"),
    "a picture outside": (with_image(file_name="../../0.png"), r"Image 10 is '\.\./.*no such file"),
    "two images of one picture": (with_image(file_name="1.png"), "Image 11 is images/1.png, as image 10 is"),
    "an annotation of no image": (changed(image_id=None), "Annotation 100 has no `image_id`"),
    "an unknown image": (changed(image_id=99), "Annotation 100 is of image 99"),
    "an unknown category": (changed(category=8), "Annotation 100 has the category 8, and there are 7, 40"),
    "boxes alone": (changed(segmentation=[]), "Annotation 100 has no segmentation"),
    "an odd polygon": (changed(segmentation=[[0, 0, 5, 5, 0, 5, 1]]), "Annotation 100 has a polygon of 7"),
    "a line": (changed(segmentation=[[0, 0, 5, 5]]), "Annotation 100 has a polygon of 4"),
    "words in a polygon": (changed(segmentation=[["a"] * 6]), "Annotation 100 .*else than numbers"),
    "nothing in a polygon": (changed(segmentation=[[None] * 6]), "Annotation 100 .*else than numbers"),
    "points in a polygon": (
        changed(segmentation=[[[0, 0], [5, 0]] * 3]),
        "Annotation 100 .*polygon of lists",
    ),
    "a polygon outside": (
        changed(segmentation=[[0, 0, 90, 0, 0, 9]]),
        r"100 has the point \(90, 0\) outside",
    ),
    "runs of another size": (changed(segmentation={"size": [3, 4], "counts": [12]}), r"the size \[3, 4\]"),
    "runs that do not add up": (changed(segmentation=SIZED | {"counts": [5, 5]}), "of 10 pixels, not 144"),
    "negative runs": (changed(segmentation=SIZED | {"counts": [-5, 149]}), "no counts of pixels"),
    "runs of words": (changed(segmentation=SIZED | {"counts": ["a"]}), "no counts of pixels"),
    "foreign text": (changed(segmentation=SIZED | {"counts": "0é"}), "the character 'é'"),
    "cut text": (changed(segmentation=SIZED | {"counts": "P"}), "are cut short"),
    "only crowds": (
        document(annotations=[annotation(at, iscrowd=1) for at in range(4)]),
        "All its annotations are crowds",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_what_it_is_in(tmp_path, mistake):
    told, words = MISTAKES[mistake]
    with pytest.raises(DataRefused) as caught:
        made(tmp_path, contents(told))
    problems = caught.value.problems
    named = [one for one in problems if re.search(words, one.message, re.DOTALL)]
    assert [one.file for one in named] == [FILE], problems
    assert all(problem.hint for problem in problems)
    assert not (tmp_path / "cells.pack").exists()


def test_there_are_enough_mistakes_with_coco():
    assert len(MISTAKES) == 43


@pytest.mark.parametrize("mistake", ["an unknown category", "an odd polygon", "an image of no size"])
def test_pictures_with_broken_annotations_can_be_left_out(tmp_path, mistake):
    pack, report = made(tmp_path, contents(MISTAKES[mistake][0]), skip_broken=True)
    assert sorted(item.name for item in pack.items) == [f"images/{at}.png" for at in (1, 2, 3)]
    assert FILE in [one.file for one in report.left_out]


def test_a_picture_of_another_size_than_the_file_says_is_refused(tmp_path):
    told = document()
    told["images"][2] |= {"width": 20, "height": 10}
    told["annotations"][2]["segmentation"] = [[0, 0, 5, 0, 5, 5]]
    with pytest.raises(DataRefused) as caught:
        made(tmp_path, contents(told))
    (problem,) = caught.value.problems
    assert problem.file == f"{FILE}, image 12"
    assert "20 x 10 pixels, its picture, as seen, 12 x 12" in problem.message


def test_names_that_two_files_end_in_and_categories_that_differ_are_refused(tmp_path):
    files = contents(document(), folder="photos/") | {"more/0.png": png(90, side=SIDE)}
    with pytest.raises(DataRefused, match=r"photos/0\.png and more/0\.png both end so"):
        made(tmp_path, files)
    other = json.dumps(document(categories=[CATEGORY])).encode()
    with pytest.raises(DataRefused, match=r"not those of instances_a\.json"):
        made(tmp_path, {"instances_a.json": files[FILE], "instances_b.json": other} | contents(b"", file="x"))


def test_what_others_wrote_is_shown_in_brief_and_files_are_not_without_number(tmp_path):
    with pytest.raises(DataRefused) as caught:
        made(tmp_path, contents(with_image(file_name="x" * 5000)))
    assert len(caught.value.problems[0].message) < 200
    many = {f"instances_{at}.json": b"{}" for at in range(17)}
    with pytest.raises(DataRefused, match="17 COCO files"):
        made(tmp_path, many | contents(b"{}"[:0], file="instances_16.json"))


def test_an_outline_that_never_ends_is_refused_before_it_is_painted():
    zigzag = [value for at in range(40_000) for value in (at % 7, at % 2 * 900)]
    with pytest.raises(ShapeError, match="up and down without end"):
        read_shape([zigzag], 1000, 1000)


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_a_file_may_come_in_pieces_of_any_size(size):
    told = document(info={"text": 'a "quoted" [text] {with} \\'})
    for image, note in zip(told["images"], ("}", '{"', "}{}{", '\\"}'), strict=True):
        image["note"] = {"of": note}
    text = b"\n" + json.dumps(told, indent=1).encode() + b"\n"
    splitter = ListSplitter(("images", "annotations", "categories"))
    found = [
        (element.list_name, element.value)
        for element in splitter.split(text[at : at + size] for at in range(0, len(text), size))
    ]
    assert found == [(name, one) for name in ("images", "annotations", "categories") for one in told[name]]


def test_reading_the_text_may_end_the_work_before_any_picture_is_read(tmp_path):
    path = write_zip(tmp_path / "cells.zip", contents(document(10_000), count=1))
    asked = []

    def stop(share):
        asked.append(share)
        if len(asked) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        make_mask_pack([path], tmp_path / "stopped.pack", progress=stop)
    assert asked == [0.0, 0.0]


def test_memory_is_of_one_element_and_a_larger_one_is_refused(monkeypatch):
    monkeypatch.setattr(json_pieces, "MAX_ELEMENT_BYTES", 1000)
    splitter, held = ListSplitter(("annotations",)), []
    many = (b'{"annotations": [', *(b'{"a": [1, 2]},' for _ in range(5000)), b'{"a": [3]}]}')
    held = [len(element.text) + len(splitter._kept) for element in splitter.split(many)]
    assert (len(held), max(held) < 100) == (5001, True)
    with pytest.raises(NotSplit, match="more than 1000 bytes"):
        list(ListSplitter(("annotations",)).split([b'{"annotations": [{"a": "', *[b"x" * 100] * 20]))
