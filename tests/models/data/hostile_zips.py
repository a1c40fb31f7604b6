"""Hostile zips, one maker per trick."""

import io
import stat
import unicodedata
import zipfile

from tests.models.data.hostile_parts import INVISIBLE, Hostile, a_way_out, a_zip, an_absolute_path
from tests.models.data.raw_archives import Z, ZipLies, unicode_path, zip64_sizes


def zip_traversal(rng):
    return Hostile(a_zip(rng, Z(a_way_out(rng))), "leads out", "evil.png")


def zip_absolute(rng):
    return Hostile(a_zip(rng, Z(an_absolute_path(rng))), "absolute", "evil.png")


def zip_link(rng):
    target = b"../" * rng.randint(1, 8) + b"etc/passwd"
    return Hostile(
        a_zip(rng, Z("cats/link.png", target, mode=stat.S_IFLNK | 0o777)), "a link", "cats/link.png"
    )


def zip_device(rng):
    kind = rng.choice([stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
    return Hostile(a_zip(rng, Z("cats/tty.png", mode=kind | 0o666)), "device", "cats/tty.png")


def zip_encrypted(rng):
    member = rng.choice(
        [
            Z("cats/secret.png", b"x" * 40, flags=1),
            Z("cats/secret.png", flags=1 << 6),
            Z("cats/secret.png", method=99),
        ]
    )
    return Hostile(a_zip(rng, member), "encrypted", "cats/secret.png")


def zip_ratio_bomb(rng):
    return Hostile(
        a_zip(rng, Z("cats/bomb.bmp", bytes(rng.randint(1 << 19, 1 << 20)))), "bomb", "cats/bomb.bmp"
    )


def zip_member_too_large(rng):
    member = Z("cats/large.bmp", rng.randbytes(1 << 10), size=rng.randint(3 << 20, 2**32 - 2))
    return Hostile(a_zip(rng, member), "claims|bomb", "cats/large.bmp")


def zip_total_bomb(rng):
    # Each is harmless, and all together are not.
    noise = rng.randbytes(1 << 16)
    members = [Z(f"cats/{n}.bmp", noise + bytes(7 << 17)) for n in range(4)]
    return Hostile(a_zip(rng, *members), "claim|bomb", ".bmp")


def zip_count_bomb(rng):
    return Hostile(a_zip(rng, *[Z(f"cats/{n}.txt") for n in range(rng.randint(300, 400))]), "members")


def zip_nested(rng):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.bin", bytes(1 << 20))
    name = f"cats/inner.{rng.choice(['zip', 'tar', 'tar.gz', 'tgz', '7z', 'ZIP', 'rar', 'xz'])}"
    return Hostile(a_zip(rng, Z(name, inner.getvalue())), "archive inside an archive", name)


def zip_overlap(rng):
    shared = [Z(f"cats/{n}.bmp", rng.randbytes(99), where=0) for n in range(rng.randint(1, 20))]
    return Hostile(a_zip(rng, lies=ZipLies(extra_entries=shared)), "shares its bytes")


def zip_same_name(rng):
    twin = rng.choice(["cats/1.png", "./cats/1.png", "cats//1.png", "cats\\1.png", "cats/./1.png"])
    return Hostile(a_zip(rng, Z(twin, b"another")), "twice", "cats/1.png")


def zip_same_name_unicode(rng):
    name = f"cats/{rng.choice(['café', 'naïve', 'Ångström', '한글', 'Žluťoučký'])}.png"
    forms = [Z(unicodedata.normalize(form, name), form.encode()) for form in ("NFC", "NFD")]
    return Hostile(a_zip(rng, *forms), "twice", "cats/")


def zip_nul_name(rng):
    return Hostile(a_zip(rng, Z(f"cats/1{rng.randint(0, 9)}.png\0.txt")), r"U\+0000", "cats/1")


def zip_control_name(rng):
    bad = chr(rng.choice([*range(1, 32), *range(127, 160)]))
    return Hostile(a_zip(rng, Z(f"cats/evil{bad}.png")), "invisible character", "cats/evil")


def zip_unicode_trick(rng):
    if rng.random() < 0.3:
        slash = rng.choice(["\uff0f", "/"])
        return Hostile(a_zip(rng, Z(f"\uff0e\uff0e{slash}evil.png")), "leads out", "evil.png")
    return Hostile(
        a_zip(rng, Z(f"cats/evil{rng.choice(INVISIBLE)}gnp.png")), "invisible character", "cats/evil"
    )


def zip_second_name(rng):
    shown = b"cats/7.png"
    real = a_way_out(rng).encode()
    return Hostile(a_zip(rng, Z(shown, extra=unicode_path(shown, real))), "leads out", "evil.png")


def zip_bad_utf8(rng):
    raw = b"cats/" + rng.choice([b"\xc0\xae\xc0\xae", b"\xff\xfe", b"\xed\xa0\x80", b"\xe2\x82"]) + b".png"
    return Hostile(a_zip(rng, Z(raw, flags=1 << 11)), "not the UTF-8", "cats/")


def zip_truncated(rng):
    whole = a_zip(rng)
    return Hostile(whole[: rng.randint(30, len(whole) - 1)], "cut short|not where|damaged")


def zip_lying_size(rng):
    data = rng.randbytes(600)
    size = rng.choice([0, 1, 599, 601, 5000])
    return Hostile(a_zip(rng, Z("cats/9.png", data, size=size)), "It says", "cats/9.png")


def zip_lying_header(rng):
    member = Z("cats/9.png", rng.randbytes(600), local_size=rng.randint(0, 599))
    return Hostile(a_zip(rng, member), "contradict", "cats/9.png")


def zip_bad_checksum(rng):
    member = Z("cats/9.png", rng.randbytes(600), crc32=rng.randrange(2**32))
    return Hostile(a_zip(rng, member), "checksum", "cats/9.png")


def zip_damaged_data(rng):
    member = Z("cats/9.png", b"x" * 600, packed=b"\x07" + rng.randbytes(99))
    return Hostile(a_zip(rng, member), "damaged", "cats/9.png")


def zip_unknown_method(rng):
    method = rng.choice([1, 6, 9, 12, 14, 93, 95, 98])
    return Hostile(a_zip(rng, Z("cats/9.png", b"x", method=method)), f"method {method}", "cats/9.png")


def zip_many_parts(rng):
    return Hostile(a_zip(rng, lies=ZipLies(disk=rng.randint(1, 60_000))), "several parts")


def zip_directory_elsewhere(rng):
    return Hostile(a_zip(rng, lies=ZipLies(start=rng.randint(0, 99))), "not where it says|damaged")


def zip_wrong_count(rng):
    return Hostile(a_zip(rng, lies=ZipLies(count=rng.choice([0, 1, 5, 7, 200]))), "lists")


def zip_hidden_tail(rng):
    return Hostile(a_zip(rng, Z("cats/9.png", b"x" * 99, tail=rng.randbytes(80))), "behind", "cats/9.png")


def zip_stored_twice_sized(rng):
    member = Z("cats/9.png", b"x" * 99, method=0, size=rng.randint(100, 9000))
    return Hostile(a_zip(rng, member), "two sizes", "cats/9.png")


def zip_long_sizes(rng):
    huge = rng.randint(2**40, 2**63)
    member = Z("cats/9.png", b"x", size=0xFFFFFFFF, extra=zip64_sizes(huge))
    return Hostile(a_zip(rng, member), "claims", "cats/9.png")


def zip_long_sizes_missing(rng):
    extra = rng.choice([b"", zip64_sizes(), b"\1\0\x08\0\0"])
    return Hostile(
        a_zip(rng, Z("cats/9.png", b"x", size=0xFFFFFFFF, extra=extra)), "does not tell", "cats/9.png"
    )


def zip_long_name(rng):
    name = rng.choice(["cats/" + "n" * rng.randint(300, 5000), "d/" * rng.randint(33, 100) + "1.png"])
    return Hostile(a_zip(rng, Z(name)), "too long|folders")
