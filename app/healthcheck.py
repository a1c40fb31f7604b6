"""`python -m app.healthcheck`: exit code 0 if the gateway of this container answers, else 1."""

import sys
import urllib.error
import urllib.request

from app.settings import Settings

_TIMEOUT_S = 4


def main() -> int:
    """Ask `/health/live` on this machine."""
    url = f"http://127.0.0.1:{Settings().port}/health/live"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S):
            return 0
    except (urllib.error.URLError, TimeoutError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
