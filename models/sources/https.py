"""`https://host/path`: a file on a public host.

A worker must not become a way into the network it stands in. So the name is resolved once, every
address it has must be a public one, the connection goes to the very address that was checked (a second
resolution could answer otherwise), and each redirect starts from the beginning.
"""

import http.client
import ipaddress
import socket
import ssl
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

from models.sources.base import (
    FetchContext,
    Source,
    SourceCode,
    SourceError,
    copy_bounded,
    too_large,
)

_MAX_REDIRECTS = 5
_SOCKET_TIMEOUT_S = 30.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class HttpsSource(Source):
    """One URL; its SHA-256 has to be given."""

    uri: str

    @property
    def file_name(self) -> str:
        """Last segment of the path."""
        return PurePosixPath(unquote(urlsplit(self.uri).path)).name

    def bring(self, context: FetchContext, *, archive_sha256: str | None) -> Path:
        """Follow at most five redirects, each checked like the first address."""
        del archive_sha256
        url = self.uri
        for _ in range(_MAX_REDIRECTS + 1):
            target = context.work_dir / "download"
            redirect = _get(url, target, context)
            if redirect is None:
                return target
            url = urljoin(url, redirect)
            parse_https(url)
        raise SourceError(
            SourceCode.UNAVAILABLE,
            f"{self.uri} redirects more than {_MAX_REDIRECTS} times.",
            hint="Give the address of the file itself.",
        )


def parse_https(uri: str) -> HttpsSource:
    """A URL with a host and without user name, password or fragment."""
    try:
        parts = urlsplit(uri)
        is_fine = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fine = False
    if not is_fine or parts.username or parts.password or parts.fragment or not uri.isprintable():
        raise SourceError(
            SourceCode.INVALID,
            f"{uri!r} is not a plain https address.",
            hint="Write https://host/path, without credentials and fragment.",
        )
    return HttpsSource(uri=uri)


class _CheckedConnection(http.client.HTTPSConnection):
    """Connects to the address it is given; certificate and Host are the name's."""

    def __init__(self, host: str, port: int, *, address: str, tls: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=_SOCKET_TIMEOUT_S, context=tls)
        self._address = address
        self._tls = tls

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def _get(url: str, target: Path, context: FetchContext) -> str | None:
    """Download into the target and return None, or return where the host redirects to."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    address = _checked_address(host, port, context)
    tls = context.tls or ssl.create_default_context()
    connection = _CheckedConnection(host, port, address=address, tls=tls)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "athanor", "Accept-Encoding": "identity"})
        with closing(connection.getresponse()) as response:
            return _take(response, url, target, context)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(
            SourceCode.UNAVAILABLE, f"{url} cannot be read: {error}", hint="Check the address and try again."
        ) from error
    finally:
        connection.close()


def _take(response: http.client.HTTPResponse, url: str, target: Path, context: FetchContext) -> str | None:
    if response.status in _REDIRECTS and (location := response.getheader("Location")):
        return location
    if response.status != http.client.OK:
        code = SourceCode.MISSING if response.status in {404, 410} else SourceCode.UNAVAILABLE
        raise SourceError(code, f"{url} answers {response.status}.", hint="Check the address.")
    announced = response.length
    if announced is not None and announced > context.limit_bytes:
        raise too_large(url, context.limit_bytes)
    copy_bounded(response, target, what=url, context=context, total_bytes=announced)
    if announced is not None and target.stat().st_size != announced:
        raise SourceError(SourceCode.UNAVAILABLE, f"{url} broke off early.", hint="Try again.")
    return None


def _checked_address(host: str, port: int, context: FetchContext) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceError(
            SourceCode.UNAVAILABLE, f"{host} cannot be resolved: {error}", hint="Check the host name."
        ) from error
    addresses = [str(entry[4][0]) for entry in found]
    if host not in context.trusted_hosts:
        for address in addresses:
            if not is_public(address):
                raise SourceError(
                    SourceCode.FORBIDDEN,
                    f"{host} resolves to {address}, which is not a public address.",
                    hint="Only the operator can allow such a host.",
                )
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet, also when it is wrapped in IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if parsed.teredo is not None or parsed in ipaddress.ip_network("64:ff9b::/96"):
            return False
    return parsed.is_global and not parsed.is_multicast
