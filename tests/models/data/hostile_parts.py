"""What the hostile files of the tests share."""

import gzip
import random
from typing import NamedTuple

from models.data.archive import ArchiveLimits
from tests.models.data.pictures import folders
from tests.models.data.raw_archives import TAR_END, Z, ZipLies, raw_zip, tar_member

LIMITS = ArchiveLimits(
    max_members=300, max_total_bytes=2 << 20, max_member_bytes=1 << 20, free_bytes=1 << 18, max_name_bytes=300
)
GOOD = folders("cats", "dogs", per_class=3)


class Hostile(NamedTuple):
    data: bytes
    words: str
    """Regular expression that one problem's message matches."""
    name: str | None = None
    """What one problem's file contains."""


def a_zip(rng: random.Random, *bad: Z, lies: ZipLies | None = None) -> bytes:
    members = [Z(name, data) for name, data in GOOD.items()]
    at = rng.randrange(len(members) + 1)
    return raw_zip(members[:at] + list(bad) + members[at:], lies)


def a_tar(rng: random.Random, bad: bytes, *, end: bytes = TAR_END) -> bytes:
    members = [tar_member(name, data) for name, data in GOOD.items()]
    at = rng.randrange(len(members) + 1)
    whole = b"".join(members[:at]) + bad + b"".join(members[at:]) + end
    return gzip.compress(whole, 1) if rng.random() < 0.5 else whole


def a_way_out(rng: random.Random) -> str:
    deep = "../" * rng.randint(1, 9)
    return rng.choice(
        [
            f"{deep}evil.png",
            f"cats/{deep}../evil.png",
            "..\\..\\evil.png",
            "cats/.. /evil.png",
            "cats/.../evil.png",
        ]
    )


def an_absolute_path(rng: random.Random) -> str:
    return rng.choice(
        [
            "/etc/evil.png",
            "C:\\evil.png",
            "c:/evil.png",
            "//host/share/evil.png",
            "\\\\host\\evil.png",
            "/evil.png",
        ]
    )


INVISIBLE = "\u202e\u2066\u200b\ufeff\u2028\u200f\u2060\U000e0041\uffff"
