"""Idempotency keys. Those of the service's own begin with what they are for, which no client's key may."""

from enum import StrEnum


class Own(StrEnum):
    """What the service makes jobs for that it must find again."""

    STARTER = "starter"
    CHECKPOINT = "checkpoint"
    REQUEST = "request"
    """A caller's job without a key."""

    def key(self, *parts: str) -> str:
        """A key, or, when parts are to follow, the beginning of keys."""
        return ":".join((self.value, *parts))


def is_own(key: str) -> bool:
    """Is it one that clients may not use?"""
    return key.partition(":")[0] in set(Own)
