"""Ids that sort by the time they were made: `job_0v3k…`. 48 bits of milliseconds, 72 random bits."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case


def new_id(prefix: str) -> str:
    """Make `<prefix>_<24 characters>`."""
    number = (time.time_ns() // 1_000_000) << 72 | secrets.randbits(72)
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(115, -1, -5))
