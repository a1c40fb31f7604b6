"""Where the service is, for a client on the same machine."""

from app.settings import Settings
from app.supervisor.lock import read_announcement


def service_url(settings: Settings, given: str | None = None) -> str:
    """The first of: what was given, `ATHANOR_URL`, what the `athanor serve` of this data directory wrote
    down, and the address in the settings."""
    return (
        given or settings.url or _announced(settings) or f"http://{_bracketed(settings.host)}:{settings.port}"
    )


def _announced(settings: Settings) -> str | None:
    try:
        announcement = read_announcement(settings.data_dir)
    except OSError:
        return None  # another user's folder
    return str(announcement["url"]) if announcement and announcement.get("url") else None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
