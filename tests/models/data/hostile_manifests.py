"""Hostile manifests in sound zips, one maker per trick."""

import json
import random

from tests.models.data.hostile_parts import GOOD, INVISIBLE, Hostile, a_way_out, a_zip, an_absolute_path
from tests.models.data.raw_archives import Z


def _with_manifest(rng: random.Random, name: str, manifest: bytes) -> bytes:
    return a_zip(rng, Z(name, manifest))


def _rows(rng: random.Random, *bad: tuple[str, str]) -> tuple[str, bytes, int]:
    """A CSV or JSONL manifest with bad rows among good ones; and the line of the first of them."""
    rows = [(name, name.partition("/")[0]) for name in GOOD]
    at = rng.randrange(len(rows) + 1)
    rows[at:at] = bad
    if rng.random() < 0.5:
        lines = ["file_name,label", *(f'"{file}","{label}"' for file, label in rows)]
        return "metadata.csv", "\n".join(lines).encode(), at + 2
    lines = [json.dumps({"file_name": file, "label": label}) for file, label in rows]
    return "metadata.jsonl", "\n".join(lines).encode(), at + 1


def manifest_traversal(rng):
    name, data, _ = _rows(rng, (a_way_out(rng), "cats"))
    return Hostile(_with_manifest(rng, name, data), "leads out", name)


def manifest_absolute(rng):
    name, data, _ = _rows(rng, (an_absolute_path(rng), "cats"))
    return Hostile(_with_manifest(rng, name, data), "absolute", name)


def manifest_invisible_path(rng):
    name, data, _ = _rows(rng, (f"cats/{rng.choice(INVISIBLE)}1.png", "cats"))
    return Hostile(_with_manifest(rng, name, data), "invisible", name)


def manifest_invisible_label(rng):
    name, data, _ = _rows(rng, ("cats/1.png", f"ca{rng.choice(INVISIBLE)}ts"))
    return Hostile(_with_manifest(rng, name, data), "cannot be seen", name)


def manifest_endless_label(rng):
    name, data, _ = _rows(rng, ("cats/1.png", "x" * rng.randint(201, 100_000)))
    return Hostile(_with_manifest(rng, name, data), "too long", name)


def manifest_endless_cell(rng):
    data = b"file_name,label\ncats/1.png,cats\n" + b"x" * rng.randint(140_000, 200_000)
    return Hostile(_with_manifest(rng, "metadata.csv", data), "goes astray", "metadata.csv")


def manifest_open_quote(rng):
    data = b'file_name,label\ncats/1.png,cats\n"' + b"cats/2.png,cats\n" * rng.randint(1, 50)
    return Hostile(_with_manifest(rng, "metadata.csv", data), "goes astray", "metadata.csv")


def manifest_nul(rng):
    name, data, _ = _rows(rng, ("cats/1.png", "NULNUL"))
    return Hostile(_with_manifest(rng, name, data.replace(b"NULNUL", b"\0")), "NUL", name)


def manifest_bad_utf8(rng):
    name, data, _ = _rows(rng, ("cats/1.png", "BADBAD"))
    bad = rng.choice([b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80"])
    return Hostile(_with_manifest(rng, name, data.replace(b"BADBAD", bad)), "not UTF-8", name)


def manifest_deep_json(rng):
    depth = rng.randint(2000, 50_000)
    data = b'{"file_name": ' + b"[" * depth + b"]" * depth + b"}"
    return Hostile(_with_manifest(rng, "metadata.jsonl", data), "no JSON", "metadata.jsonl")


def manifest_lone_surrogate(rng):
    data = b'{"file_name": "cats/\\ud8%02x.png", "label": "cats"}' % rng.randrange(256)
    return Hostile(_with_manifest(rng, "metadata.jsonl", data), "no JSON", "metadata.jsonl")


def manifest_huge_number(rng):
    data = b'{"file_name": "cats/1.png", "label": 1' + b"0" * rng.randint(400, 5000) + b"}"
    return Hostile(_with_manifest(rng, "metadata.jsonl", data), "no JSON|fraction", "metadata.jsonl")


def manifest_lists_itself(rng):
    name, data, _ = _rows(rng, ("metadata.csv", "cats"), ("metadata.jsonl", "dogs"))
    return Hostile(_with_manifest(rng, name, data), "no file", name)


def manifest_bomb(rng):
    data = b"file_name,label\n" + b"cats/1.png,cats\n" * rng.randint(40_000, 60_000)
    return Hostile(_with_manifest(rng, "metadata.csv", data), "bomb", "metadata.csv")
