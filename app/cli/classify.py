"""`athanor classify`: name what pictures show."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.console import FAILED, USAGE, Json, Url, fail, print_json, service

if TYPE_CHECKING:
    from app.client import Client

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Which files of a folder are pictures; a file that is named itself may be called anything."""
_AHEAD = 32
"""How many pictures are read ahead of the one whose answer is next."""
_PATIENCE_S = 120.0
"""How long a busy service is asked again."""
_OF_ONE_PICTURE = frozenset(
    {
        "image_undecodable",
        "image_too_large",
        "unsupported_media",
        "payload_too_large",
        "invalid_request",
        "inference_failed",
        "deadline_exceeded",
        "overloaded",
    }
)
"""Errors that say something about one picture; after any other the rest would meet it too."""

Answer = tuple[Path, Json]
"""A picture and the service's answer for it, or `{"error": {"code", "message", "hint"}}`."""


def classify(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Pictures, or folders of pictures.")],
    *,
    model: Annotated[
        str | None, typer.Option(help="NAME, NAME@ALIAS or NAME:VERSION; else the default.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, max=1000, help="How many labels a picture.")] = 5,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into sub-folders too.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: one row a label.")] = False,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines: one a picture.")] = False,
) -> None:
    """Name what each picture shows, in the order given. Exit code 1 if a picture had no answer."""
    if as_csv and as_json:
        fail("--csv and --json are two ways to say the same.", "Choose one.", code=USAGE)
    pictures = _pictures(paths, recursive=recursive)
    show = _printer("csv" if as_csv else "json" if as_json else "text", pictures)
    failures = 0
    with service(url) as client:
        for path, answer in _answers(client, pictures, model=model, top_k=top_k):
            show(path, answer)
            if "error" in answer:
                failures += 1
                sys.stderr.write(f"athanor: {path}: {answer['error']['message']}\n")
    if failures:
        sys.stderr.write(f"athanor: {failures} of {len(pictures)} had no answer.\n")
        raise typer.Exit(FAILED)


def _pictures(paths: list[Path], *, recursive: bool) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            entry
            for entry in (path.rglob("*") if recursive else path.iterdir())
            if entry.suffix.lower() in SUFFIXES and entry.is_file()
        )
        if not inside:
            fail(f"There is no picture in {path}.", None if recursive else "--recursive looks deeper.")
        found += inside
    return found


def _answers(client: "Client", pictures: list[Path], *, model: str | None, top_k: int) -> Iterator[Answer]:
    """Ask over several connections at once; answers come in the order of the pictures."""
    from app.client import CONNECTIONS  # noqa: PLC0415 - `--help` should not wait for it

    waiting: deque[tuple[Path, Future[Json]]] = deque()
    rest = iter(pictures)
    executor = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="classify")
    try:
        while True:
            while len(waiting) < _AHEAD and (path := next(rest, None)) is not None:
                waiting.append((path, executor.submit(_ask, client, path, model=model, top_k=top_k)))
            if not waiting:
                return
            path, future = waiting.popleft()
            yield path, future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _ask(client: "Client", path: Path, *, model: str | None, top_k: int) -> Json:
    from app.client import RequestFailed  # noqa: PLC0415 - as above

    try:
        image = path.read_bytes()
    except OSError as error:
        return _failure("unreadable", error.strerror or str(error))
    gives_up_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return client.classify(image, model=model, top_k=top_k)
        except RequestFailed as error:
            if error.code == "overloaded" and time.monotonic() < gives_up_s:
                time.sleep(error.retry_after_s or 1.0)
            elif error.code in _OF_ONE_PICTURE and error.param != "model":
                return _failure(error.code, error.message, error.hint)
            else:
                raise


def _failure(code: str, message: str, hint: str | None = None) -> Json:
    return {"error": {"code": code, "message": message, "hint": hint}}


def _printer(form: Literal["text", "csv", "json"], pictures: list[Path]) -> Callable[[Path, Json], None]:
    if form == "json":
        return lambda path, answer: print_json({"path": str(path), **answer}, indent=False)
    if form == "csv":
        return _csv_printer()
    width = min(max((len(str(path)) for path in pictures), default=0), 60)

    def show(path: Path, answer: Json) -> None:
        if "error" not in answer:
            labels = " · ".join(f"{each['label']} {each['score']:.2f}" for each in answer["predictions"])
            sys.stdout.write(f"{path!s:<{width}}  {labels}\n")

    return show


def _csv_printer() -> Callable[[Path, Json], None]:
    import csv  # noqa: PLC0415 - as above

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "model", "rank", "label", "score", "error"])

    def show(path: Path, answer: Json) -> None:
        if "error" in answer:
            writer.writerow([path, "", "", "", "", answer["error"]["code"]])
            return
        for rank, each in enumerate(answer["predictions"], 1):
            writer.writerow([path, answer["model"], rank, each["label"], f"{each['score']:.6f}", ""])

    return show
