import re

import pytest

from models.data.validate import DataRefused, DatasetOptions, make_pack
from tests.models.data.mistakes import LAYOUTS, PARQUET, csv_of, good, parquet_of
from tests.models.data.pictures import png, write_tar, write_zip

CASES = [(layout, name) for layout, mistakes in LAYOUTS.items() for name in mistakes]


def refusal(path, **options):
    with pytest.raises(DataRefused) as caught:
        make_pack([path], path.with_name("out.pack"), options=DatasetOptions(**options))
    assert not path.with_name("out.pack").exists()
    return caught.value.problems


def test_there_are_six_mistakes_and_more_for_each_layout():
    assert {layout: len(mistakes) for layout, mistakes in LAYOUTS.items()} == {
        "class folders": 17,
        "CSV": 20,
        "JSONL": 13,
        "Parquet": 13,
    }


@pytest.mark.parametrize(("layout", "name"), CASES)
def test_a_mistake_is_named_with_its_file_and_line(tmp_path, layout, name):
    mistake = LAYOUTS[layout][name]
    problems = refusal(write_zip(tmp_path / "data.zip", mistake.contents))
    told = [problem for problem in problems if re.search(mistake.words, f"{problem.message} {problem.hint}")]
    assert told, problems
    assert (mistake.file, mistake.line) in [(problem.file, problem.line) for problem in told], told


@pytest.mark.parametrize("name", PARQUET)
def test_a_parquet_file_on_its_own_is_judged_like_one_in_a_zip(tmp_path, name):
    mistake = PARQUET[name]
    ((file, data),) = mistake.contents.items()
    (tmp_path / file).write_bytes(data)
    problems = refusal(tmp_path / file)
    assert (mistake.file, mistake.line) in [(problem.file, problem.line) for problem in problems]


def test_every_mistake_of_a_set_is_named_at_once(tmp_path):
    contents = good() | {f"cats/bad{n}.png": png(n + 50)[: 20 + n] for n in range(25)} | {"stray.png": png(3)}
    problems = refusal(write_tar(tmp_path / "data.tar.gz", contents))
    assert {problem.file for problem in problems} == {f"cats/bad{n}.png" for n in range(25)} | {"stray.png"}
    assert all(problem.message and problem.hint for problem in problems)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("labels.csv", b"file_name,label\n1.png,cats\n", "A table alone holds no images"),
        ("cat.png", png(1), "a single PNG"),
        ("data.7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), "7-Zip"),
        ("data.zip", b"", "empty"),
        ("data.bin", b"hello" * 99, "no archive"),
    ],
)
def test_files_of_another_kind_are_called_what_they_are(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    (problem,) = refusal(tmp_path / name)
    assert problem.file == name
    assert re.search(words, problem.message)
    assert problem.hint


def test_broken_images_and_rows_can_be_left_out_and_are_listed(tmp_path):
    contents = csv_of([("file_name", "label"), *((name, name[:4]) for name in good()), ("gone.png", "cats")])
    contents["cats/2.png"] = b"broken"
    path = write_zip(tmp_path / "data.zip", contents)
    report = make_pack([path], tmp_path / "out.pack", options=DatasetOptions(skip_broken=True))
    assert report.images == 5
    assert {(left.file, left.reason) for left in report.left_out} == {
        ("metadata.csv:8", "There is no file 'gone.png'."),
        ("cats/2.png", "The bytes are not an image in a known format."),
    }
    assert report.left_out_count == 2


def test_what_cannot_be_left_out_is_refused_all_the_same(tmp_path):
    contents = good() | {"dogs/9.png": png(0), "cats/bad.png": b"broken"}
    problems = refusal(write_zip(tmp_path / "data.zip", contents), skip_broken=True)
    assert [problem.file for problem in problems] == ["dogs/9.png"]


def test_parquet_rows_that_are_broken_can_be_left_out(tmp_path):
    images = [png(n) for n in range(8)]
    images[3] = images[3][:40]
    (tmp_path / "data.parquet").write_bytes(
        parquet_of(images=images, labels=[0, 0, 0, 0, 1, 1, 1, None], names=["cats", "dogs"])
    )
    path = tmp_path / "data.parquet"
    report = make_pack([path], tmp_path / "out.pack", options=DatasetOptions(skip_broken=True))
    assert (report.images, report.left_out_count) == (6, 2)
    assert {left.file for left in report.left_out} == {"data.parquet:4", "data.parquet:8"}


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("metadata.csv", "file_name,label\n" + '"x\n",' * (1 << 18)),
        ("metadata.csv", "file_name," * (1 << 17)),
        ("metadata.jsonl", '{"file_name": [' + "1," * (1 << 20)),
    ],
)
def test_a_row_without_end_is_refused_before_it_is_held(tmp_path, name, manifest):
    (problem,) = refusal(write_zip(tmp_path / "data.zip", good() | {name: manifest.encode()}, kind=0))
    assert (problem.file, problem.message) == (name, "A row has more than 1048576 characters.")
    assert problem.line


def test_ten_thousand_problems_are_named_and_the_rest_counted(tmp_path):
    rows = [("file_name", "label"), *((f"{n}.png", "cats") for n in range(10_100))]
    with pytest.raises(DataRefused) as caught:
        make_pack([write_zip(tmp_path / "data.zip", csv_of(rows))], tmp_path / "out.pack")
    assert len(caught.value.problems) == 10_000
    assert caught.value.count >= 10_100
