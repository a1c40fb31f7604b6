import gzip
import io
import json
import shutil
import subprocess
import tarfile
import zipfile

import pyarrow as pa
import pytest

from models.data.pack import Pack, Split
from models.data.validate import make_pack
from tests.models.data.mistakes import parquet_of, write_parquet
from tests.models.data.pictures import folders, png, write_tar, write_zip


def packed(path, **options):
    """The pack and the report of one file."""
    out = path.with_name("out.pack")
    report = make_pack([path], out, **options)
    return Pack(out), report


def labels_of(pack):
    return {item.name: pack.labels[item.label] for item in pack.items}


def test_class_folders_give_the_name_of_the_folder_as_label(tmp_path):
    contents = folders("cats", "dogs")
    pack, report = packed(write_zip(tmp_path / "pets.zip", contents))
    assert labels_of(pack) == {name: name.partition("/")[0] for name in contents}
    assert {item.name: pack.read(item) for item in pack.items} == contents
    assert (report.sources[0].layout, report.sources[0].file) == ("class_folders", "pets.zip")


def test_what_computers_leave_lying_about_is_looked_over(tmp_path):
    litter = ["__MACOSX/cats/._0.png", "cats/.DS_Store", "cats/Thumbs.db", ".git/config", "dogs/desktop.ini"]
    contents = folders("cats", "dogs") | dict.fromkeys(litter, b"litter")
    pack, report = packed(write_zip(tmp_path / "pets.zip", contents))
    assert (len(pack.items), report.left_out_count) == (20, 0)


@pytest.mark.parametrize("prefix", ["pets/", "a/b/", "train/", "cats and dogs/data/"])
def test_enclosing_folders_are_no_labels(tmp_path, prefix):
    contents = folders("cats", "dogs", prefix=prefix) | {f"{prefix}README.md": b"Pets."}
    pack, report = packed(write_zip(tmp_path / "pets.zip", contents))
    assert pack.labels == ("cats", "dogs")
    assert len(pack.of(Split.TEST)) == 2
    assert [left.file for left in report.left_out] == [f"{prefix}README.md"]


def test_the_class_is_the_folder_that_holds_the_image_however_deep(tmp_path):
    contents = folders("poodle", "husky", prefix="animals/dogs/") | folders(
        "siamese", prefix="animals/cats/", seed=9000
    )
    pack, _ = packed(write_zip(tmp_path / "pets.zip", contents))
    assert pack.labels == ("husky", "poodle", "siamese")


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Train", "valid", "Test"), ("training", "validation", "testing")]
)
@pytest.mark.parametrize("prefix", ["", "pets/"])
def test_split_folders_are_kept(tmp_path, names, prefix):
    contents = {}
    for at, name in enumerate(names):
        contents |= folders("cats", "dogs", per_class=4, prefix=f"{prefix}{name}/", seed=at * 5000)
    pack, _ = packed(write_zip(tmp_path / "pets.zip", contents))
    for name, split in zip(names, (Split.TRAIN, Split.VALIDATION, Split.TEST), strict=True):
        assert all(item.name.startswith(f"{prefix}{name}/") for item in pack.of(split))
        assert len(pack.of(split)) == 8


def test_classes_may_be_called_train_and_plane(tmp_path):
    pack, _ = packed(write_zip(tmp_path / "vehicles.zip", folders("train", "plane", "car")))
    assert pack.labels == ("car", "plane", "train")


def test_labels_that_are_numbers_are_ordered_as_numbers(tmp_path):
    pack, _ = packed(write_zip(tmp_path / "n.zip", folders(*(str(n) for n in range(12)), per_class=2)))
    assert pack.labels == tuple(str(n) for n in range(12))


def rows(contents, *, base=""):
    return [(name.removeprefix(base), name.split("/")[-2]) for name in contents]


@pytest.mark.parametrize(
    "columns", [("file_name", "label"), ("path", "class"), ("image", "Label"), (" File_Name ", "label")]
)
@pytest.mark.parametrize("prefix", ["", "pets/"])
def test_a_csv_gives_the_labels(tmp_path, columns, prefix):
    images = folders("a", "b", prefix=f"{prefix}images/")
    lines = [columns, *rows(images, base=prefix)]
    table = "\ufeff" + "\r\n".join(",".join(f'"{cell}"' for cell in line) for line in lines) + "\r\n\r\n"
    pack, report = packed(write_zip(tmp_path / "m.zip", images | {f"{prefix}labels.csv": table.encode()}))
    assert labels_of(pack) == {name: name.split("/")[-2] for name in images}
    assert report.sources[0].layout == "manifest"


def test_json_lines_give_labels_and_splits(tmp_path):
    images = {f"{n}.png": png(n) for n in range(12)}
    records = [
        {
            "file_name": f"./{n}.png",
            "label": n % 2,
            "split": ["train", "val", "test", None][n % 4],
            "more": [1],
        }
        for n in range(12)
    ]
    manifest = "\n".join(json.dumps(record) for record in records).encode()
    pack, _ = packed(write_zip(tmp_path / "m.zip", images | {"metadata.jsonl": manifest}))
    assert pack.labels == ("0", "1")
    splits = {item.name: item.split for item in pack.items}
    assert [splits[f"{n}.png"] for n in (0, 1, 2)] == [Split.TRAIN, Split.VALIDATION, Split.TEST]


def test_a_manifest_in_each_split_folder_is_read_with_its_split(tmp_path):
    contents = {}
    for at, split in enumerate(["train", "test"]):
        images = folders("x", "y", per_class=5, prefix=f"{split}/", seed=at * 5000)
        lines = ["file_name,label", *(",".join(row) for row in rows(images, base=f"{split}/"))]
        contents |= images | {f"{split}/metadata.csv": "\n".join(lines).encode()}
    pack, _ = packed(write_zip(tmp_path / "m.zip", contents))
    assert all(item.name.startswith("test/") for item in pack.of(Split.TEST))
    assert len(pack.of(Split.TEST)) == 10
    assert len(pack.of(Split.VALIDATION)) == 2


def test_a_table_for_each_split_is_read_with_its_split(tmp_path):
    images = {f"img/{n}.png": png(n) for n in range(12)}
    tables = {"train.csv": range(6), "val.csv": range(6, 8), "test.csv": range(8, 12)}
    manifests = {
        name: "\n".join(["path,label", *(f"img/{n}.png,{n % 2}" for n in numbers)]).encode()
        for name, numbers in tables.items()
    }
    pack, _ = packed(write_zip(tmp_path / "m.zip", images | manifests))
    assert [len(pack.of(split)) for split in Split] == [6, 2, 4]


def test_images_that_the_manifest_does_not_list_are_left_out_and_told(tmp_path):
    images = folders("a", "b") | {"extra.png": png(77)}
    lines = ["file_name,label", *(",".join(row) for row in rows(folders("a", "b")))]
    _, report = packed(write_zip(tmp_path / "m.zip", images | {"metadata.csv": "\n".join(lines).encode()}))
    assert [(left.file, left.reason) for left in report.left_out] == [
        ("extra.png", "The manifest does not list it.")
    ]


def test_parquet_of_hugging_face_gives_names_in_their_order_and_splits(tmp_path):
    contents = {
        "README.md": b"A card.",
        "data/train-00000-of-00002.parquet": parquet_of(names=["zebra", "ant", "unused"]),
        "data/train-00001-of-00002.parquet": parquet_of(
            images=[png(n) for n in range(10, 16)], names=["zebra", "ant", "unused"]
        ),
        "data/test-00000-of-00001.parquet": parquet_of(
            images=[png(n) for n in range(20, 26)], names=["zebra", "ant", "unused"]
        ),
    }
    pack, report = packed(write_zip(tmp_path / "hub.zip", contents))
    assert pack.labels == ("zebra", "ant")
    assert len(pack.of(Split.TEST)) == 6
    assert all(item.name.startswith("data/test-00000") for item in pack.of(Split.TEST))
    assert {source.layout for source in report.sources} == {"parquet"}
    assert "No image has the label 'unused'." in report.warnings
    assert [left.file for left in report.left_out] == ["README.md"]
    assert pack.read(pack.items[0]) == png(0)


def test_parquet_files_that_are_sent_one_by_one_are_one_data_set(tmp_path):
    names = [
        "train-00000-of-00001.parquet",
        "validation-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
    ]
    for at, name in enumerate(names):
        (tmp_path / name).write_bytes(parquet_of(images=[png(n + at * 10) for n in range(6)]))
    report = make_pack([tmp_path / name for name in names], tmp_path / "out.pack")
    assert {split: sum(of.values()) for split, of in report.counts.items()} == dict.fromkeys(Split, 6)


@pytest.mark.parametrize(
    "table",
    [
        {"image": pa.array([png(n) for n in range(8)]), "label": [n % 2 for n in range(8)]},
        {"img": pa.array([png(n) for n in range(8)], pa.large_binary()), "class": ["1", "0"] * 4},
        {
            "image": [png(n) for n in range(8)],
            "label": pa.array(["1", "0"] * 4).dictionary_encode(),
            "id": range(8),
        },
    ],
)
def test_parquet_of_other_writers_is_read_too(tmp_path, table):
    (tmp_path / "data.parquet").write_bytes(write_parquet(pa.table(table)))
    pack, _ = packed(tmp_path / "data.parquet")
    assert pack.labels == ("0", "1")
    assert len(pack.items) == 8


def zip64(path, contents):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)


class Pipe(io.RawIOBase):
    """What cannot seek makes a zip whose members tell their sizes afterwards."""

    def __init__(self, path):
        self._file = path.open("wb")

    def writable(self):
        return True

    def write(self, data):
        return self._file.write(data)

    def close(self):
        self._file.close()
        super().close()


def streamed_zip(path, contents):
    with Pipe(path) as pipe, zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def stored_zip_with_comment(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir(next(iter(contents)).rpartition("/")[0])
        for name, data in contents.items():
            archive.writestr(name, data)
        archive.comment = b"made by hand PK\x05\x06 or so"


def system_tar(path, contents, *options):
    for name, data in contents.items():
        file = path.with_suffix("") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    subprocess.run(["tar", "-C", path.with_suffix(""), *options, "-cf", path, "."], check=True)
    shutil.rmtree(path.with_suffix(""))


LONG = "a name of nearly a hundred bytes, as the oldest tars can hold in one of their fields; no more"
WRITERS = {
    "zip": write_zip,
    "zip64": zip64,
    "zip through a pipe": streamed_zip,
    "stored zip": stored_zip_with_comment,
    "pax tar": write_tar,
    "GNU tar": lambda path, contents: write_tar(path, contents, kind=tarfile.GNU_FORMAT),
    "tar.gz": lambda path, contents: path.write_bytes(
        gzip.compress(write_tar(path.with_name("x.tar"), contents).read_bytes())
    ),
    "tar of the system": system_tar,
    "pax tar of the system": lambda path, contents: system_tar(path, contents, "--format=posix"),
    "ustar of the system": lambda path, contents: system_tar(path, contents, "--format=ustar", "-z"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_archives_of_every_common_writer_are_read(tmp_path, name):
    contents = folders("cats", "žába", LONG, per_class=5, prefix=f"{LONG[:80]}/")
    path = tmp_path / "upload.archive"
    WRITERS[name](path, contents)
    pack, _ = packed(path)
    assert {item.name: pack.read(item) for item in pack.items} == contents
    assert len(WRITERS) == 10


def test_a_large_member_is_read_in_pieces_and_comes_out_whole(tmp_path):
    large = png(1, side=1100, kind="BMP")
    contents = folders("cats", "dogs") | {"cats/large.bmp": large}
    for path in (write_zip(tmp_path / "a.zip", contents), write_tar(tmp_path / "a.tar.gz", contents)):
        pack, report = packed(path)
        (item,) = [item for item in pack.items if item.name == "cats/large.bmp"]
        assert pack.read(item) == large
        assert (item.width, item.height) == (1100, 1100)
        assert report.sides.max_width == 1100
