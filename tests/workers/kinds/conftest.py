import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.importing import imports_in


@pytest.fixture
def imports(tmp_path):
    return imports_in(tmp_path / "data")


@pytest.fixture
def run_python():
    """Runs a script in a fresh interpreter at the repository's root; returns what it prints."""

    def run(script, **environment):
        root = Path(__file__).parents[3]
        return subprocess.check_output(
            [sys.executable, "-c", textwrap.dedent(script)], cwd=root, text=True, env=os.environ | environment
        ).strip()

    return run
