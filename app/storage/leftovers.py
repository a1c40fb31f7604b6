"""Temporary files that a killed process could not remove."""

import time
from pathlib import Path

_AGE_S = 24 * 3600


def drop_leftovers(folder: Path) -> None:
    """Remove the files in a folder that nobody has written to for a day. A missing folder is fine."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        try:
            if time.time() - path.stat().st_mtime > _AGE_S:
                path.unlink()
        except FileNotFoundError:  # another process was quicker
            continue
