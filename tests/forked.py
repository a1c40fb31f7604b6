"""What a forked process of tests does before it becomes what it is to be."""

import os
from pathlib import Path


def settle(environment: dict[str, str], *, out: Path, err: Path) -> None:
    """Take on an environment, and say all that is said into two files, or one."""
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
        opened = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_APPEND if number else 0), 0o600)
        os.dup2(opened, number)
        os.close(opened)
