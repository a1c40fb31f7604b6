"""Hostile tars and gzips, one maker per trick."""

import gzip

from tests.models.data.hostile_parts import GOOD, INVISIBLE, Hostile, a_tar, a_way_out, an_absolute_path
from tests.models.data.raw_archives import TAR_END, pax, tar_member


def tar_traversal(rng):
    return Hostile(a_tar(rng, tar_member(a_way_out(rng), b"x")), "leads out", "evil.png")


def tar_absolute(rng):
    return Hostile(a_tar(rng, tar_member(an_absolute_path(rng), b"x")), "absolute", "evil.png")


def tar_link(rng):
    kind = rng.choice([b"1", b"2"])
    return Hostile(a_tar(rng, tar_member("cats/link.png", kind=kind)), "link", "cats/link.png")


def tar_device(rng):
    kind = rng.choice([b"3", b"4", b"6"])
    return Hostile(a_tar(rng, tar_member("cats/tty.png", kind=kind)), "device|pipe", "cats/tty.png")


def tar_unknown_kind(rng):
    kind = rng.choice([b"D", b"M", b"N", b"V", b"X", b"A", b"Z", b"9"])
    return Hostile(a_tar(rng, tar_member("cats/odd.png", kind=kind)), "of a kind", "cats/odd.png")


def tar_sparse(rng):
    size = rng.randint(2**30, 2**33 - 1)
    return Hostile(
        a_tar(rng, tar_member("cats/holes.png", kind=b"S", size_field=b"%011o\0" % size)), "sparse"
    )


def tar_pax_sparse(rng):
    key = rng.choice(["GNU__sparse__map", "GNU__sparse__realsize", "GNU__sparse__major"])
    return Hostile(a_tar(rng, pax(**{key: str(rng.randint(0, 2**62))}) + tar_member("cats/9.png")), "sparse")


def tar_pax_path(rng):
    bad = rng.choice([a_way_out(rng), an_absolute_path(rng)])
    return Hostile(
        a_tar(rng, pax(path=bad) + tar_member("cats/9.png", b"x")), "leads out|absolute", "evil.png"
    )


def tar_pax_size(rng):
    return Hostile(
        a_tar(rng, pax(size=str(rng.randint(2, 9999))) + tar_member("cats/9.png", b"x")), "contradict"
    )


def tar_pax_huge_size(rng):
    size = str(rng.randint(2**34, 2**62))
    return Hostile(a_tar(rng, pax(size=size) + tar_member("cats/9.png", b"x")), "claims", "cats/9.png")


def tar_pax_global(rng):
    told = rng.choice([{"path": "cats/all.png"}, {"size": "1"}])
    return Hostile(a_tar(rng, pax(b"g", **told)), "global header")


def tar_pax_damaged(rng):
    body = rng.choice(
        [b"99 path=x\n", b"path=x\n", b"-5 path=x\n", b"9999999999999999999 a=b\n", b"8 path\n\n"]
    )
    return Hostile(a_tar(rng, tar_member("pax", body, kind=b"x") + tar_member("cats/9.png")), "damaged")


def tar_pax_bomb(rng):
    size = rng.randint(2 << 20, 2**33 - 1)
    return Hostile(
        a_tar(rng, tar_member("pax", kind=rng.choice([b"x", b"g", b"L"]), size=size)), "extended header"
    )


def tar_extension_chain(rng):
    kind = rng.choice([b"x", b"g"])
    return Hostile(a_tar(rng, pax(kind, comment="c") * rng.randint(9, 200)), "in a row")


def tar_long_name(rng):
    long = tar_member("././@LongLink", a_way_out(rng).encode() + b"\0", kind=b"L")
    return Hostile(a_tar(rng, long + tar_member("cats/9.png", b"x")), "leads out", "evil.png")


def tar_long_name_nul(rng):
    long = tar_member("././@LongLink", b"cats/a\0b.png\0", kind=b"L")
    return Hostile(
        a_tar(rng, long + tar_member("cats/9.png", b"x" * rng.randint(0, 9))), r"U\+0000", "cats/a"
    )


def tar_invisible_name(rng):
    name = f"cats/evil{rng.choice(INVISIBLE)}.png"
    member = pax(path=name) + tar_member("cats/9.png") if rng.random() < 0.5 else tar_member(name)
    return Hostile(a_tar(rng, member), "invisible", "cats/evil")


def tar_bad_utf8(rng):
    return Hostile(
        a_tar(rng, tar_member(b"cats/\xff" + rng.randbytes(1).hex().encode())), "not UTF-8", "cats/"
    )


def tar_same_name(rng):
    name = rng.choice(["cats/1.png", "./cats/1.png", "cats/./1.png"])
    return Hostile(a_tar(rng, tar_member(name, b"another")), "twice", "cats/1.png")


def tar_truncated(rng):
    whole = a_tar(rng, b"")
    if whole.startswith(b"\x1f\x8b"):
        return Hostile(whole[: rng.randint(20, len(whole) - 1)], "cut short")
    return Hostile(whole[: rng.randint(512, len(whole) - len(TAR_END) - 1)], "cut short|more than are there")


def tar_bad_checksum(rng):
    return Hostile(a_tar(rng, tar_member("cats/9.png", checksum=rng.randint(0, 999))), "checksum")


def tar_bad_number(rng):
    field = rng.choice([b"99999999999\0", b"-0000000001\0", b"0x000000010\0", b"\xff" * 12, b"1 1        \0"])
    return Hostile(a_tar(rng, tar_member("cats/9.png", size_field=field)), "number")


def tar_beyond_the_end(rng):
    size = rng.randint(1 << 18, 1 << 20)
    return Hostile(a_tar(rng, tar_member("cats/9.png", size=size)), "cut short|more than are there|bomb")


def tar_huge_size(rng):
    field = b"\x80" + rng.randint(2**40, 2**80).to_bytes(11, "big")
    return Hostile(a_tar(rng, tar_member("cats/9.png", size_field=field)), "claims", "cats/9.png")


def tar_nested(rng):
    name = f"cats/inner.{rng.choice(['zip', 'tar', 'tgz', 'tar.bz2'])}"
    return Hostile(a_tar(rng, tar_member(name, b"PK")), "archive inside an archive", name)


def tar_count_bomb(rng):
    members = b"".join(tar_member(f"cats/{n}.txt", kind=rng.choice([b"0", b"5"])) for n in range(310))
    return Hostile(a_tar(rng, members), "more than 300 members")


def tar_total_bomb(rng):
    noise = rng.randbytes(1 << 18)
    members = b"".join(tar_member(f"cats/{n}.bmp", noise * 4) for n in range(3))
    return Hostile(a_tar(rng, members), "claim", ".bmp")


def gzip_bomb(rng):
    return Hostile(gzip.compress(tar_member("cats/0.bmp", bytes(rng.randint(1 << 19, 1 << 20)))), "bomb")


def gzip_trailing_bomb(rng):
    whole = b"".join(tar_member(name, data) for name, data in GOOD.items())
    return Hostile(gzip.compress(whole + bytes(rng.randint(1 << 20, 2 << 20))), "bomb")


def gzip_bad_checksum(rng):
    whole = bytearray(
        gzip.compress(b"".join(tar_member(name, data) for name, data in GOOD.items()) + TAR_END)
    )
    whole[-rng.randint(1, 8)] ^= 1 + rng.randrange(255)
    return Hostile(bytes(whole), "cut short or damaged")


def gzip_of_something_else(rng):
    return Hostile(gzip.compress(b"file_name,label\n" * 99 + rng.randbytes(99)), "damaged|cut short")


def no_archive(rng):
    head = rng.choice(
        [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh9", b"\xfd7zXZ\0", b"%PDF-1.7", b"", b"GIF89a"]
    )
    return Hostile(head + (rng.randbytes(99) if head else b""), "The file is")
