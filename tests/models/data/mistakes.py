"""Mistakes that people make in data sets, per layout: what the file holds, and what has to be said of it."""

import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.models.data.pictures import folders, png


class Mistake(NamedTuple):
    """Contents of a zip, and the one problem that matters."""

    contents: dict[str, bytes]
    file: str
    words: str
    """Regular expression that message and hint match together."""
    line: int | None = None


def good(prefix: str = "") -> dict[str, bytes]:
    return folders("cats", "dogs", per_class=3, prefix=prefix)


FOLDERS: dict[str, Mistake] = {
    "cut short": Mistake(good() | {"cats/9.png": png(99)[:60]}, "cats/9.png", "damaged|short"),
    "empty file": Mistake(good() | {"dogs/9.png": b""}, "dogs/9.png", "empty"),
    "text called png": Mistake(good() | {"cats/9.png": b"<html>404</html>"}, "cats/9.png", "not an image"),
    "HEIC from a telephone": Mistake(
        good() | {"cats/9.jpg": b"\0\0\0\x18ftypheic" + bytes(40)}, "cats/9.jpg", "HEIC.*convert"
    ),
    "PDF": Mistake(good() | {"cats/scan.pdf": b"%PDF-1.7"}, "cats/scan.pdf", "PDF"),
    "notes in a class folder": Mistake(
        good() | {"cats/notes.txt": b"a few words"}, "cats/notes.txt", "not an image"
    ),
    "one class": Mistake(folders("cats", per_class=3), "data.zip", "one class, 'cats'"),
    "a class of one": Mistake(
        good() | {"birds/1.png": png(7)}, "birds/1.png", "only image of the class 'birds'"
    ),
    "image outside the classes": Mistake(good() | {"stray.png": png(8)}, "stray.png", "no class folder"),
    "image outside the classes of a split": Mistake(
        good("train/") | good("val/") | {"train/stray.png": png(8)}, "train/stray.png", "no class folder"
    ),
    "splits without classes": Mistake(
        {f"{split}/{n}.png": png(n + at) for at, split in enumerate(["train", "test"]) for n in range(3)},
        "train/0.png",
        "no class folder",
    ),
    "one picture in two classes": Mistake(good() | {"dogs/9.png": png(0)}, "dogs/9.png", "same image.*cats"),
    "empty class folder": Mistake(good() | {"birds/": b""}, "birds/", "holds no image"),
    "split misspelt": Mistake(good("train/") | good("tset/"), "tset/", "Did you mean 'test'"),
    "a class that training never sees": Mistake(
        good("train/") | folders("birds", per_class=3, prefix="test/", seed=500),
        "test/birds/0.png",
        "no image for training",
    ),
    "no image at all": Mistake({"readme.txt": b"hello"}, "data.zip", "no labelled image"),
    "sides beyond the limit": Mistake(
        good()
        | {
            "cats/9.bmp": b"BM"
            + bytes(12)
            + bytes([40, 0, 0, 0])
            + b"\xff\xff\0\0" * 2
            + b"\1\0\x18\0"
            + bytes(24)
        },
        "cats/9.bmp",
        "65535 x 65535",
    ),
}


ROWS = [("file_name", "label"), *((name, name.partition("/")[0]) for name in good())]


def csv_of(rows: list[tuple[str, ...]], name: str = "metadata.csv") -> dict[str, bytes]:
    return good() | {name: "\n".join(",".join(row) for row in rows).encode()}


def _csv(file_words_line: tuple[str, int | None], rows: list[tuple[str, ...]]) -> Mistake:
    words, line = file_words_line
    return Mistake(csv_of(rows), "metadata.csv", words, line)


CSV: dict[str, Mistake] = {
    "file column named otherwise": _csv(
        ("no column file_name or path or image.*Rename 'filename'", 1), [("filename", "label"), *ROWS[1:]]
    ),
    "label column named otherwise": _csv(
        ("no column label or class.*Rename 'labels'", 1), [("file_name", "labels"), *ROWS[1:]]
    ),
    "no header": _csv(("no column.*'cats/0.png'", 1), ROWS[1:]),
    "semicolons": Mistake(
        good() | {"metadata.csv": "\n".join(";".join(row) for row in ROWS).encode()},
        "metadata.csv",
        "commas, not with ';'",
        1,
    ),
    "file that is not there": _csv(
        ("no file 'cats/0.jpg'.*Did you mean 'cats/0.png'", 3), [*ROWS[:2], ("cats/0.jpg", "cats"), *ROWS[2:]]
    ),
    "folder forgotten": _csv(("no file '2.png'.*2.png'", 8), [*ROWS, ("2.png", "dogs")]),
    "empty label": _csv(("label is missing", 4), [*ROWS[:3], ("cats/2.png", ""), *ROWS[4:]]),
    "empty file name": _csv(("file_name is missing", 8), [*ROWS, ("", "cats")]),
    "listed twice": _csv(("listed twice; first on line 2", 8), [*ROWS, ROWS[1]]),
    "two labels for one file": _csv(("as 'cats' and as 'dogs'", 8), [*ROWS, ("cats/0.png", "dogs")]),
    "a comma too many": _csv(("3 columns, the header 2.*quotes", 8), [*ROWS, ("dogs/0.png", "dogs", "big")]),
    "unknown split": _csv(
        ("no split 'trian'.*'train'", 2), [(*ROWS[0], "split"), *((*row, "trian") for row in ROWS[1:])]
    ),
    "column twice": _csv(
        ("'label' is there twice", 1), [(*ROWS[0], "label"), *((*row, "x") for row in ROWS[1:])]
    ),
    "open quote": _csv(("goes astray", 8), [*ROWS, ('"dogs/0.png', "dogs")]),
    "latin-1": Mistake(
        good() | {"metadata.csv": b"file_name,label\ncats/0.png,caf\xe9\n"}, "metadata.csv", "not UTF-8", 2
    ),
    "nothing in it": Mistake(good() | {"metadata.csv": b""}, "metadata.csv", "empty"),
    "header only": _csv(("lists no image", None), ROWS[:1]),
    "two tables": Mistake(
        good() | {"a.csv": b"x", "b.csv": b"y"}, "a.csv", "several tables could be the manifest: a.csv, b.csv"
    ),
    "broken image": Mistake(csv_of(ROWS) | {"cats/1.png": png(1)[:50]}, "cats/1.png", "damaged|short"),
    "one class": _csv(("one class, 'cats'", None), ROWS[:4])._replace(file="data.zip"),
}


def jsonl_of(*records: object) -> dict[str, bytes]:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    return good() | {"metadata.jsonl": "\n".join(lines).encode()}


RECORDS: list[dict[str, Any]] = [{"file_name": name, "label": label} for name, label in ROWS[1:]]


def _jsonl(words: str, line: int | None, *records: object) -> Mistake:
    return Mistake(jsonl_of(*records), "metadata.jsonl", words, line)


JSONL: dict[str, Mistake] = {
    "no JSON": _jsonl("no JSON", 2, RECORDS[0], "{file_name: cats/1.png}", *RECORDS[2:]),
    "no object": _jsonl("no JSON object", 7, *RECORDS, ["cats/0.png", "cats"]),
    "one list": _jsonl("one JSON list", 1, json.dumps(RECORDS)),
    "file key named otherwise": _jsonl(
        "no column file_name.*Rename 'fil_name'", 7, *RECORDS, {"fil_name": "x", "label": "y"}
    ),
    "label key missing": _jsonl(
        "no column label or class.*'file_name'", 7, *RECORDS, {"file_name": "cats/0.png"}
    ),
    "null label": _jsonl("label is missing", 1, RECORDS[0] | {"label": None}, *RECORDS[1:]),
    "list of labels": _jsonl(
        "label is a list", 3, *RECORDS[:2], RECORDS[2] | {"label": ["cats", "dogs"]}, *RECORDS[3:]
    ),
    "fraction": _jsonl("label is a fraction", 1, RECORDS[0] | {"label": 0.5}, *RECORDS[1:]),
    "true": _jsonl("label is true or false", 1, RECORDS[0] | {"label": True}, *RECORDS[1:]),
    "file that is not there": _jsonl(
        "no file 'cat/0.png'.*Did you mean", 1, RECORDS[0] | {"file_name": "cat/0.png"}, *RECORDS[1:]
    ),
    "listed twice": _jsonl("listed twice; first on line 1", 7, *RECORDS, RECORDS[0]),
    "unknown split": _jsonl("no split 'holdout'", 1, RECORDS[0] | {"split": "holdout"}, *RECORDS[1:]),
    "broken image": Mistake(jsonl_of(*RECORDS) | {"dogs/2.png": b"\x89PNG"}, "dogs/2.png", "first bytes"),
}


def parquet_of(
    *,
    images: list[bytes | None] | None = None,
    labels: list[Any] | None = None,
    names: list[str] | None = None,
    rename: Mapping[str, str] | None = None,
) -> bytes:
    """As `datasets` writes it; None for six pictures of two classes."""
    images = [png(n) for n in range(6)] if images is None else images
    labels = [0, 0, 0, 1, 1, 1] if labels is None else labels
    names = ["cats", "dogs"] if names is None else names
    cells = [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(images)]
    told = rename or {}
    table = pa.table(
        {
            told.get("image", "image"): pa.array(
                cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            ),
            told.get("label", "label"): pa.array(labels),
        }
    )
    label: dict[str, Any] = (
        {"names": names, "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    )
    features = {told.get("image", "image"): {"_type": "Image"}, told.get("label", "label"): label}
    if "label" in told:
        features.pop(told["label"])
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return write_parquet(table.replace_schema_metadata(metadata))


def write_parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


NAME = "train-00000-of-00001.parquet"


def _parquet(words: str, line: int | None, data: bytes) -> Mistake:
    return Mistake({NAME: data}, NAME, words, line)


PIXELS = [png(n) for n in range(6)]
PARQUET: dict[str, Mistake] = {
    "cut short": _parquet("damaged", None, b"PAR1" + parquet_of()[4:-40]),
    "image column named otherwise": _parquet(
        "no column image.*There are the columns 'label'",
        None,
        write_parquet(pa.table({"label": [0, 1]})),
    ),
    "paths instead of bytes": _parquet(
        "paths, not images.*embed",
        None,
        write_parquet(pa.table({"image": ["a.png", "b.png"], "label": [0, 1]})),
    ),
    "label column named otherwise": _parquet(
        "no column label or class.*Rename 'labels'", None, parquet_of(rename={"label": "labels"})
    ),
    "label out of range": _parquet(
        "label is 2, and there are 2 names", 6, parquet_of(labels=[0, 0, 0, 1, 1, 2])
    ),
    "no label": _parquet("label is missing", 3, parquet_of(labels=[0, 0, None, 1, 1, 1])),
    "unlabelled test set": _parquet("label is -1: the image has no label", 1, parquet_of(labels=[-1] * 6)),
    "fractions": _parquet("holds double", None, parquet_of(labels=[0.0, 0.0, 0.0, 1.0, 1.0, 1.0])),
    "image without bytes": _parquet("empty", 2, parquet_of(images=[PIXELS[0], None, *PIXELS[2:]])),
    "broken image": _parquet("damaged|short", 5, parquet_of(images=[*PIXELS[:4], PIXELS[4][:50], PIXELS[5]])),
    "two labels of one name": _parquet("same name", None, parquet_of(names=["cats", "cats"])),
    "no rows": _parquet("no rows", None, parquet_of(images=[], labels=pa.array([], pa.int64()))),
    "one picture with two labels": Mistake(
        {NAME: parquet_of(images=[*PIXELS[:5], PIXELS[0]])}, f"{NAME}/6", "same image.*cats"
    ),
}

LAYOUTS = {"class folders": FOLDERS, "CSV": CSV, "JSONL": JSONL, "Parquet": PARQUET}
