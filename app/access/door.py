"""Who may come in: host, origin, key. Checked once per request, before anything else.

A page on another site must not be able to use a service on the reader's own machine, so `Host` must be
known (against DNS rebinding) and cross-site requests are refused, whether or not keys are in use.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from app.access.principal import SYSTEM, Principal
from app.errors import Forbidden, Unauthorized
from app.settings import Settings

_CACHED_HOSTS = 256


def _split(names: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in names.split(",") if name.strip())


def _host_name(authority: str) -> str:
    """The host of `host[:port]`, lower case, brackets kept off an IPv6 address."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").lower()
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def hash_key(key: str) -> str:
    """What is stored and compared instead of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


class Door:
    """Turns a request's headers into a principal, or refuses it."""

    def __init__(self, settings: Settings, keys: Callable[[], Mapping[str, Principal]]) -> None:
        """`keys` gives the registered keys by SHA-256, as the snapshot has them now."""
        self._hosts = _split(settings.allowed_hosts) | {settings.host.lower()}
        self._origins = _split(settings.cors_origins)
        secret = settings.api_key.get_secret_value() if settings.api_key else ""
        self._bootstrap = hash_key(secret) if secret else None
        self._is_open = settings.auth == "auto" and settings.binds_loopback and self._bootstrap is None
        self._keys = keys
        self._known_hosts: dict[bytes, bool] = {}

    def admit(self, headers: Mapping[bytes, bytes], *, needs_key: bool = True) -> Principal:
        """Check one request's headers (lower-case names). `needs_key`: False for what anybody may know who
        may ask this host.

        Raises:
            Forbidden: the host is unknown, or the request comes from another site.
            Unauthorized: a key is needed.

        """
        host = headers.get(b"host", b"")
        known = self._known_hosts.get(host)
        if known is None:
            known = self._knows(host)
        if not known:
            raise Forbidden(
                f"This service does not answer for the host {host.decode('latin-1')!r}.",
                param="Host",
                hint="Add it to ATHANOR_ALLOWED_HOSTS.",
            )
        if b"origin" in headers or b"sec-fetch-site" in headers:
            self._check_origin(headers, host)
        keys = self._keys()
        if not needs_key or (self._is_open and not keys):
            return SYSTEM
        return self._owner(headers, keys)

    def _knows(self, host: bytes) -> bool:
        name = _host_name(host.decode("latin-1"))
        known = _is_loopback(name) or name in self._hosts
        if len(self._known_hosts) < _CACHED_HOSTS:
            self._known_hosts[host] = known
        return known

    def _check_origin(self, headers: Mapping[bytes, bytes], host: bytes) -> None:
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin in self._origins:
            return
        same = not origin or urlsplit(origin).netloc == host.decode("latin-1").lower()
        if not same or headers.get(b"sec-fetch-site") == b"cross-site":
            raise Forbidden(
                f"Requests from {origin or 'another site'} are not allowed.",
                param="Origin",
                hint="Add the origin to ATHANOR_CORS_ORIGINS.",
            )

    def _owner(self, headers: Mapping[bytes, bytes], keys: Mapping[str, Principal]) -> Principal:
        scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        given = key.strip() if scheme.lower() == "bearer" else ""
        if not given:
            raise Unauthorized(
                "This service needs a key.", param="Authorization", hint="Send `Authorization: Bearer <key>`."
            )
        digest = hash_key(given)
        if self._bootstrap is not None and hmac.compare_digest(digest, self._bootstrap):
            return SYSTEM
        principal = keys.get(digest)
        if principal is None:
            raise Unauthorized(
                "The key is not valid.",
                param="Authorization",
                hint="Check it for typing errors or revocation.",
            )
        return principal
