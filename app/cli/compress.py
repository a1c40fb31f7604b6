"""`athanor compress`: a version in fewer bits, where that is really faster."""

from typing import Annotated, Any

import typer

from app.cli.output import Output
from app.cli.service import Url, service

cli = typer.Typer(add_completion=False)


@cli.command()
def compress(  # noqa: PLR0913 - each is a field of the spec
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@ALIAS or NAME:VERSION.")],
    *,
    precision: Annotated[str, typer.Option(help="int8, int8-dynamic or fp16.")],
    data: Annotated[
        str, typer.Option(help="A data set: pictures for training calibrate, held-out ones compare.")
    ],
    output_model: Annotated[
        str | None, typer.Option(help="The model that gets the version; without it, the same.")
    ] = None,
    always: Annotated[bool, typer.Option("--always", help="Keep it even if it is not faster.")] = False,
    least_gain: Annotated[
        float, typer.Option(help="How many times as many pictures per second it must give.")
    ] = 1.1,
    least_agreement: Annotated[
        float, typer.Option(help="Share of held-out pictures, or pixels, that must keep their label.")
    ] = 0.99,
    least_iou: Annotated[
        float, typer.Option(help="Of segmenters: mean IoU of masks before and after with each other.")
    ] = 0.95,
    least_psnr_db: Annotated[
        float, typer.Option(help="Of enlargers: PSNR of what is made before and after with each other.")
    ] = 40.0,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how it goes.")] = False,
    url: Url = None,
) -> None:
    """Make a version in int8 or fp16, certify it, and keep it if it is faster."""
    spec: dict[str, Any] = {
        "model": model,
        "precision": precision,
        "dataset": data,
        "output_model": output_model,
        "keep": "always" if always else "if_faster",
        "least_gain": least_gain,
        "least_agreement": least_agreement,
        "least_iou": least_iou,
        "least_psnr_db": least_psnr_db,
    }
    output: Output = context.obj
    with service(url) as client:
        job = client.create_job("compress", spec)
        if not watch:
            output.result(job, f"{job['id']} is queued; `athanor jobs watch {job['id']}` shows how it goes.")
            return
        from app.cli.follow import follow  # noqa: PLC0415 - 0.3 s that `--help` does not pay

        ended = follow(client, job)
    output.result(ended, _said(ended["result"], ended["spec"]["model"]))


def _said(result: dict[str, Any], before: str) -> str:
    slower = ", which is less than was asked" if result["kept_though_slower"] else ""
    if result["same_label"] is None:
        kept = f"pictures that have a PSNR of {result['psnr_db']:.1f} dB with those before"
    else:
        kept = f"the same label for {result['same_label']:.2%} of held-out {result['same_label_of']}"
    return (
        f"{result['model']} is {before} in {result['precision']}: {result['gain']:.2f} times as many "
        f"pictures per second{slower}, {kept}."
    )
