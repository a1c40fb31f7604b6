"""`athanor classify`: name what pictures show."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import Output
from app.cli.service import Url, service

if TYPE_CHECKING:
    from app.client.client import Client

cli = typer.Typer(add_completion=False)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""Which files of a folder are pictures; a file that is named itself may be called anything."""
_AHEAD = 32
"""How many pictures are asked for ahead of the one whose answer is shown next."""
_PATIENCE_S = 120.0
"""How long a busy service is asked again."""
_WIDEST_PATH = 60
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
"""Errors that may be about one picture alone; after any other the rest would meet it too."""

Json = dict[str, Any]
"""The service's answer for a picture, or `{"error": {"code", "message", "hint"}}`."""


@cli.command()
def classify(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Pictures, or folders of pictures.")],
    *,
    model: Annotated[
        str | None, typer.Option(help="NAME, NAME@ALIAS or NAME:VERSION; the default classifier without it.")
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, max=1000, help="How many labels a picture.")] = 5,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into sub-folders too.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV: one row a label.")] = False,
    url: Url = None,
) -> None:
    """Name what each picture shows, in the order given. With --json one JSON line a picture.

    Exit code 1 if a picture had no answer; the others have theirs.
    """
    output: Output = context.obj
    if as_csv and output.as_json:
        raise typer.BadParameter("choose this or --json.", param_hint="--csv")
    pictures = _pictures(paths, recursive=recursive)
    show = _csv_rows() if as_csv else _lines(output, pictures)
    failures = 0
    with service(url) as client:
        for path, answer in _answers(client, pictures, model=model, top_k=top_k):
            name = _printable(path)
            show(name, answer)
            if "error" in answer:
                failures += 1
                sys.stderr.write(f"athanor: {name}: {answer['error']['message']}\n")
    if failures:
        sys.stderr.write(f"athanor: {failures} of {len(pictures)} had no answer.\n")
        raise typer.Exit(1)


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
            deeper = "" if recursive else " itself; --recursive looks deeper"
            raise typer.BadParameter(f"there is no picture in {path}{deeper}.")
        found += inside
    return found


def _answers(
    client: "Client", pictures: list[Path], *, model: str | None, top_k: int
) -> Iterator[tuple[Path, Json]]:
    """Ask over several connections at once; answers come in the order of the pictures."""
    from app.client.client import CONNECTIONS  # noqa: PLC0415 - 0.2 s that `--help` does not pay

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
        executor.shutdown(cancel_futures=True)


def _ask(client: "Client", path: Path, *, model: str | None, top_k: int) -> Json:
    from app.client.errors import RequestFailed  # noqa: PLC0415 - as above

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


def _printable(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "replace")  # file names may be any bytes


def _lines(output: Output, pictures: list[Path]) -> Callable[[str, Json], None]:
    width = min(max((len(str(path)) for path in pictures), default=0), _WIDEST_PATH)

    def show(path: str, answer: Json) -> None:
        if "error" in answer and not output.as_json:
            return
        labels = " · ".join(f"{each['label']} {each['score']:.2f}" for each in answer.get("predictions", ()))
        output.result({"path": path, **answer}, f"{path:<{width}}  {labels}")

    return show


def _csv_rows() -> Callable[[str, Json], None]:
    import csv  # noqa: PLC0415 - as above

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "model", "rank", "label", "score", "error"])

    def show(path: str, answer: Json) -> None:
        if "error" in answer:
            writer.writerow([path, "", "", "", "", answer["error"]["code"]])
        for rank, each in enumerate(answer.get("predictions", ()), 1):
            writer.writerow([path, answer["model"], rank, each["label"], f"{each['score']:.6f}", ""])
        sys.stdout.flush()

    return show
