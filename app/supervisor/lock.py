"""One supervisor per data dir. The kernel drops the lock when its holder ends, however it ends."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import Conflict

SERVE_FILE = "serve.json"
"""{pid, url} of the supervisor that runs on this data dir."""
_LOCK_FILE = "serve.lock"


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data dir. Raises Conflict, naming who has it."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / _LOCK_FILE).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _taken(data_dir) from error
        try:
            yield
        finally:
            (data_dir / SERVE_FILE).unlink(missing_ok=True)


def announce(data_dir: Path, url: str) -> None:
    """Say who serves this data dir, for people, scripts and the next supervisor."""
    new = data_dir / f"{SERVE_FILE}.new"
    new.write_text(json.dumps({"pid": os.getpid(), "url": url}) + "\n")
    new.rename(data_dir / SERVE_FILE)


def read_announcement(data_dir: Path) -> dict[str, str | int] | None:
    """{pid, url}, or None when nobody says so."""
    try:
        announcement: dict[str, str | int] = json.loads((data_dir / SERVE_FILE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return announcement


def _taken(data_dir: Path) -> Conflict:
    who = read_announcement(data_dir)
    facts = f" (pid {who['pid']}, {who['url']})" if who else ""
    return Conflict(
        f"Another `athanor serve`{facts} already runs on {data_dir}.",
        hint="Use that one, stop it, or set ATHANOR_DATA_DIR to another folder.",
    )
