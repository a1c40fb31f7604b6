"""The caller, as every service and repository sees it."""

from dataclasses import dataclass

DEFAULT_TENANT = "default"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whose rows and objects a call may touch."""

    tenant_id: str = DEFAULT_TENANT
    key_id: str | None = None
    """Which key opened the door; None for the loopback default and for Athanor's own work."""

    @property
    def caller(self) -> str:
        """Whom work is done for, where callers share something: a key, or else the tenant."""
        return self.key_id or self.tenant_id


SYSTEM = Principal()
"""The default tenant itself: starters, loopback callers without keys, the supervisor."""
