"""`python -m app.healthcheck`: exit code 0 if the gateway of this container answers, else 1."""

import sys
import urllib.error
import urllib.request

from app.settings import Settings

_TIMEOUT_S = 4


def main() -> int:
    """Ask `/health/live` on this machine, with the bootstrap key if there is one."""
    settings = Settings()
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    request = urllib.request.Request(f"http://127.0.0.1:{settings.port}/health/live")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - our own address
            return 0
    except (urllib.error.URLError, TimeoutError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
