"""`athanor import`: bring one's own ONNX file."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from app.cli.output import Output
from app.cli.service import Url, service

cli = typer.Typer(add_completion=False)

_ReadableFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The file.")]
_Reference = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="safetensors with samples and the source's own outputs: certifies."
    ),
]
_Labels = Annotated[
    str | None,
    typer.Option(help="Labels in the order of the outputs: a file with one a line, or a,b,c."),
]
_Fit = Annotated[
    Literal["crop", "squash", "pad", "tiles"] | None,
    typer.Option(
        help="How pictures meet the size; classification: crop, segmentation: squash, "
        "super-resolution: tiles."
    ),
]
_Size = Annotated[
    str, typer.Option(help="Input size in pixels, of windows the largest: 224, or HEIGHTxWIDTH.")
]
_Interpolation = Annotated[
    Literal["bicubic", "bilinear", "lanczos", "nearest"], typer.Option(help="How pictures are resized.")
]
_Context = Annotated[
    int | None,
    typer.Option("--context", min=0, max=512, help="With tiles: pixels around a window, not used."),
]
_Overlap = Annotated[
    int | None, typer.Option(min=0, max=512, help="With tiles: pixels over which they are blended.")
]
_Layout = Annotated[
    Literal["nchw", "nhwc"] | None,
    typer.Option(help="Order of the input; found from its shape without it."),
]
_Activation = Annotated[
    Literal["sigmoid", "softmax"] | None,
    typer.Option(help="What makes shares of a segmenter's maps; found in the graph without it."),
]
_MAX_LABELS_BYTES = 16 * 2**20
_MAX_SIDE = 4096


@cli.command()
def import_(  # noqa: PLR0913 - each is an entry of the manifest
    context: typer.Context,
    file: _ReadableFile,
    *,
    name: Annotated[str, typer.Option(help="A new model, or one that gets a further version.")],
    labels: _Labels = None,
    size: _Size,
    task: Annotated[str, typer.Option(help="What it predicts.")] = "classification",
    mean: Annotated[str, typer.Option(help="Subtracted per channel, in 0..255: one number or three.")] = "0",
    std: Annotated[str, typer.Option(help="Divided by per channel, in 0..255: one number or three.")] = "1",
    fit: _Fit = None,
    crop: Annotated[float, typer.Option(help="Share of the central region that `crop` keeps.")] = 0.875,
    interpolation: _Interpolation = "bicubic",
    activation: _Activation = None,
    around: _Context = None,
    overlap: _Overlap = None,
    layout: _Layout = None,
    channels: Annotated[Literal["rgb", "bgr", "grey"], typer.Option(help="What the network takes.")] = "rgb",
    reference: _Reference = None,
    url: Url = None,
) -> None:
    """Check an ONNX file and publish it as a version of a model."""
    body: dict[str, Any] = {
        "name": name,
        "task": task,
        "labels": _labels(labels, task),
        "mean": _numbers(mean, option="--mean"),
        "std": _numbers(std, option="--std"),
        "crop": crop,
        "interpolation": interpolation,
        "channels": channels,
        **_sides(size),
    }
    chosen = {"fit": fit, "activation": activation, "layout": layout, "context": around, "overlap": overlap}
    body |= {option: value for option, value in chosen.items() if value is not None}
    with service(url) as client:
        from app.cli.follow import follow  # noqa: PLC0415 - 0.3 s that `--help` does not pay

        body["file"] = client.upload(file)["id"]
        if reference is not None:
            body["reference"] = client.upload(reference)["id"]
        ended = follow(client, client.add_model(body))
    output: Output = context.obj
    output.result(ended, f"{ended['result']['model']} is ready.")


def _labels(text: str | None, task: str) -> list[str] | None:
    if text is None:
        if task == "super-resolution":
            return None
        raise typer.BadParameter("each output needs one.", param_hint="--labels")
    path = Path(text)
    if "," in text and not path.is_file():
        return [part.strip() for part in text.split(",")]
    try:
        if path.stat().st_size > _MAX_LABELS_BYTES:
            raise typer.BadParameter(f"{text} has over {_MAX_LABELS_BYTES} bytes.", param_hint="--labels")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise typer.BadParameter(
            f"{text!r} is no readable UTF-8 file with a label a line, and no list such as cat,dog.",
            param_hint="--labels",
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _numbers(text: str, *, option: str) -> float | list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise typer.BadParameter(
            f"{text!r} is neither one number nor three, such as 123.7,116.3,103.5.", param_hint=option
        )
    return numbers[0] if len(numbers) == 1 else numbers


def _sides(text: str) -> dict[str, int]:
    sides = [int(side) if side.isascii() and side.isdigit() else 0 for side in text.lower().split("x", 1)]
    if not all(1 <= side <= _MAX_SIDE for side in sides):
        raise typer.BadParameter(
            f"{text!r} is no size from 1 to {_MAX_SIDE}, such as 224 or 224x320.", param_hint="--size"
        )
    return {"height": sides[0], "width": sides[-1]}
