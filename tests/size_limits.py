"""House rule: a file has at most 400 lines, a function at most 50. Run by `make check`."""

import ast
import subprocess
import sys
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50


def violations(path: Path) -> list[str]:
    """Say what in one Python file is longer than the house allows."""
    text = path.read_text()
    found = []
    if (lines := text.count("\n")) > MAX_FILE_LINES:
        found.append(f"{path}: {lines} lines, at most {MAX_FILE_LINES}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(
                    f"{path}:{node.lineno} {node.name}: {length} lines, at most {MAX_FUNCTION_LINES}"
                )
    return found


def main() -> int:
    """Check every Python file git knows or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [Path(line) for line in listing.stdout.splitlines() if Path(line).exists()]
    found = [message for path in paths for message in violations(path)]
    sys.stderr.write("".join(f"{message}\n" for message in found))
    sys.stdout.write(f"size limits: {len(paths)} files, {len(found)} over\n")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
