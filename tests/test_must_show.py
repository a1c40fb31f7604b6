import ast
import tomllib
from pathlib import Path

PROMISES = tomllib.loads(Path("tests/must_show.toml").read_text())
LINES = {"serving": [*range(1, 11)], "training": [*range(1, 12)], "vision": [1, 3, 4, 5, 6, 8]}
"""Of vision those that are shown so far."""
ALL = {f"{part}.{name}": shown for part, promises in PROMISES.items() for name, shown in promises.items()}


def test_every_promise_names_what_shows_it():
    assert list(PROMISES) == list(LINES)
    for part, promises in PROMISES.items():
        assert [int(name.partition("-")[0]) for name in promises] == LINES[part]
    for name, shown in ALL.items():
        assert shown.get("tests") or shown.get("benchmarks"), name
        for test in shown.get("tests", []):
            path, _, function = test.partition("::")
            functions = [
                node.name for node in ast.parse(Path(path).read_text()).body if hasattr(node, "name")
            ]
            assert function in functions, test


def test_every_benchmark_that_shows_a_promise_has_committed_results():
    folders = {folder for shown in ALL.values() for folder in shown.get("benchmarks", [])}
    assert len(folders) >= 4
    for folder in folders:
        results = [path for path in Path(folder).rglob("*.jsonl") if path.stat().st_size]
        assert results, f"{folder} has no results: run it and commit what it measured"
