"""`athanor datasets` as a person would type it, against one real `athanor serve` and its worker."""

import pytest

from app.client.sending import PART_BYTES
from tests.colour_models import COLOURS
from tests.packs import class_folders


@pytest.fixture(scope="module")
def archives(athanor):
    """Files in the person's folder."""
    (athanor.folder / "colours.zip").write_bytes(class_folders(per_label=20))
    (athanor.folder / "more.zip").write_bytes(class_folders(per_label=30))
    broken = tuple(f"red/{number}.png" for number in range(3))
    (athanor.folder / "broken.zip").write_bytes(class_folders(broken=broken))
    return athanor.folder


def test_create_uploads_waits_and_shows_the_report(athanor, archives):
    said = athanor("datasets", "create", "shades", "colours.zip", "--test-share", "0.2", "--seed", "3")
    assert said.code == 0, said
    lines = said.out.splitlines()
    assert lines[0].startswith("shades:1: 60 images, ")
    assert [line.split() for line in lines[1:6]] == [
        ["label", "train", "validation", "test"],
        *([colour, "14", "2", "4"] for colour in sorted(COLOURS)),
        ["all", "42", "6", "12"],
    ]
    assert lines[-1] == "shades:1 is ready."
    told = said.err.splitlines()
    assert told[0].startswith("colours.zip: ")
    assert told[-1] == "shades: succeeded (100%)"

    more = athanor("datasets", "create", "shades", "more.zip", "--base", "shades:1", "--json")
    assert (more.json["id"], more.json["report"]["images"]) == ("shades:2", 90)
    assert more.json["source"]["base"] == "shades:1"
    assert more.json["report"]["duplicate_count"] == 60

    [line] = [line for line in athanor("datasets").out.splitlines() if line.startswith("shades")]
    assert line.split()[:5] == ["shades", "classification", "ready", "1", "2"]
    [listed] = [each for each in athanor("datasets", "list", "--json").json["data"] if each["id"] == "shades"]
    assert listed["versions"] == [1, 2]
    shown = athanor("datasets", "show", "shades").out
    assert "shades:2: 90 images" in shown
    assert "60 copies of other images were left out" in shown
    assert "shades:1: 60 images" in athanor("datasets", "show", "shades:1").out
    assert athanor("datasets", "show", "shades:1", "--json").json["version"]["version"] == 1

    assert athanor("datasets", "delete", "shades:1", "--yes").out == "shades:1 is deleted.\n"
    assert "It has: 2." in athanor.refuses("datasets", "show", "shades:1")
    assert athanor("datasets", "delete", "shades", "-y", "--json").json["deleted"] is True
    assert "There is no data set 'shades'" in athanor.refuses("datasets", "show", "shades")


def test_create_names_what_is_wrong_with_every_file(athanor, archives):
    said = athanor("datasets", "create", "bad", "broken.zip")
    assert (said.code, said.out) == (1, "")
    for number in range(3):
        assert f"  red/{number}.png: " in said.err
    assert "athanor: red/0.png: " in said.err
    shown = athanor("datasets", "show", "bad").out
    assert shown.startswith("bad: classification, failed, versions none")
    assert "red/2.png" in shown
    as_json = athanor("datasets", "create", "bad", "broken.zip", "--json")
    assert '"code": "invalid_dataset"' in as_json.err.splitlines()[-1]
    skipped = athanor("datasets", "create", "bad", "broken.zip", "--skip-broken")
    assert "3 files were left out" in skipped.out


def test_a_long_file_goes_in_parts(athanor, archives):
    (archives / "long.zip").write_bytes(class_folders(ballast_bytes=PART_BYTES + 1))
    said = athanor("datasets", "create", "long", "long.zip")
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == "long:1 is ready."


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["create", "Shades", "colours.zip"], "A data set cannot be named 'Shades'", 1),
        (["create", "x", "nowhere.zip"], "nowhere.zip", 2),
        (["create", "x"], "FILE", 2),
        (["create", "x", "colours.zip", "--test-share", "2"], "--test-share", 2),
        (["create", "x", "colours.zip", "--base", "none:1"], "There is no data set 'none'", 1),
        (["show", "none"], "There is no data set 'none'", 1),
        (["show", "none:x"], "names no version", 2),
        (["delete", "none:1", "--yes"], "There is no data set 'none'", 1),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(athanor, archives, *, arguments, says, code):
    assert says in athanor.refuses("datasets", *arguments, code=code)
