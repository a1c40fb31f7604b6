"""`athanor import`: bring one's own ONNX file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.console import USAGE, AsJson, Json, Url, fail, print_json, service

_File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The ONNX file.")]
_MAX_LABELS_BYTES = 16 * 2**20


def import_(  # noqa: PLR0913 - each is an option that the manifest has
    file: _File,
    *,
    name: Annotated[str, typer.Option(help="A new model, or one that gets a further version.")],
    labels: Annotated[
        str, typer.Option(help="Labels in the order of the outputs: a file with one a line, or a,b,c.")
    ],
    size: Annotated[str, typer.Option(help="Input size in pixels: 224, or HEIGHTxWIDTH.")],
    task: Annotated[Literal["classification"], typer.Option(help="What it predicts.")] = "classification",
    mean: Annotated[str, typer.Option(help="Subtracted per channel, in 0..255: one number or three.")] = "0",
    std: Annotated[str, typer.Option(help="Divided by per channel, in 0..255: one number or three.")] = "1",
    fit: Annotated[
        Literal["crop", "squash", "pad"], typer.Option(help="How a picture meets the size.")
    ] = "crop",
    crop: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the central region that `crop` keeps.")
    ] = 0.875,
    interpolation: Annotated[
        Literal["bicubic", "bilinear", "lanczos", "nearest"], typer.Option(help="How pictures are resized.")
    ] = "bicubic",
    layout: Annotated[
        Literal["nchw", "nhwc"] | None,
        typer.Option(help="Order of the input; found from its shape if left out."),
    ] = None,
    channels: Annotated[Literal["rgb", "bgr", "grey"], typer.Option(help="What the network takes.")] = "rgb",
    reference: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="safetensors with samples and the source's own outputs: certifies.",
        ),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Check an ONNX file and publish it as a version of a model."""
    body: Json = {
        "name": name,
        "task": task,
        "labels": _labels(labels),
        "mean": _numbers("--mean", mean),
        "std": _numbers("--std", std),
        "fit": fit,
        "crop": crop,
        "interpolation": interpolation,
        "channels": channels,
        **_sides(size),
    }
    if layout is not None:
        body["layout"] = layout
    with service(url) as client:
        from app.cli.follow import follow  # noqa: PLC0415 - `--help` should not wait for it

        body["file"] = client.upload(file)["id"]
        if reference is not None:
            body["reference"] = client.upload(reference)["id"]
        ended = follow(client, client.add_model(body))
        if as_json:
            print_json(ended)
        else:
            print(f"{ended['result']['model']} is ready.")  # noqa: T201 - the answer


def _labels(text: str) -> list[str]:
    path = Path(text)
    if "," in text and not path.is_file():
        return [part.strip() for part in text.split(",")]
    try:
        if path.stat().st_size > _MAX_LABELS_BYTES:
            fail(f"--labels: {text} is over {_MAX_LABELS_BYTES} bytes.", "One label a line.", code=USAGE)
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        fail(
            f"--labels: there is no readable file {text!r}.",
            "Name a UTF-8 file with one label a line, or write the labels: cat,dog",
            code=USAGE,
        )
    return [line.strip() for line in lines if line.strip()]


def _numbers(option: str, text: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        fail(
            f"{option}: {text!r} is neither one number nor three.",
            "For example 123.7,116.3,103.5",
            code=USAGE,
        )
    return numbers[0] if len(numbers) == 1 else numbers


def _sides(text: str) -> Json:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(
        side.isascii() and side.isdigit() and 0 < int(side[:6]) <= 4096 for side in sides
    ):
        fail(
            f"--size: {text!r} is no size in pixels.",
            "224, or HEIGHTxWIDTH, each from 1 to 4096.",
            code=USAGE,
        )
    return {"height": int(sides[0]), "width": int(sides[-1])}
