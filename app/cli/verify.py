"""`athanor verify`: compute a version's certificate again, from what is stored with it and nothing else."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import Output
from app.cli.tables import table

if TYPE_CHECKING:
    from models.manifest import Certificate

cli = typer.Typer(add_completion=False)


@cli.command()
def verify(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@ALIAS or NAME:VERSION.")],
) -> None:
    """Prove a version again: its files, and its outputs on the stored samples.

    Reads the data directory, database and object store of the settings; no service need run.
    Exit code 1 if the certificate does not hold.
    """
    from app.cli.configuration import load_settings  # noqa: PLC0415 - 0.5 s that `--help` does not pay
    from app.registry.verification import verify as compute  # noqa: PLC0415 - as above

    done = compute(load_settings(), reference)
    agreement = done.computed.agreement
    facts = {
        "model": done.model,
        "holds": True,
        "stored": done.stored.model_dump(mode="json"),
        "computed": done.computed.model_dump(mode="json"),
    }
    verdict = (
        f"{done.model} holds: it reproduces {agreement.samples} samples by {done.computed.reference_by}."
        if agreement
        else f"{done.model} is unchanged and answers; nobody has given outputs to compare with."
    )
    comparison = table(("", "stored", "computed now"), _rows(done.stored, done.computed))
    output: Output = context.obj
    output.result(facts, f"{comparison}\n{verdict}")


def _rows(stored: "Certificate", computed: "Certificate") -> list[tuple[str, str, str]]:
    facts = [_facts(stored), _facts(computed)]
    return [(name, facts[0].get(name, ""), facts[1].get(name, "")) for name in facts[1]]


def _facts(certificate: "Certificate") -> dict[str, str]:
    facts = {"level": certificate.level.value}
    if (agreement := certificate.agreement) is not None:
        facts |= {
            "samples": str(agreement.samples),
            "largest difference": f"{agreement.max_abs:.3g}",
            "tolerance": f"{agreement.tolerance:.3g}",
            "smallest cosine": f"{agreement.cosine:.7f}",
        }
        if agreement.decided:
            facts["labels kept"] = f"{agreement.top1:.0%} of {agreement.decided}"
        if agreement.same_label is not None:
            facts["same label"] = (
                f"{agreement.same_label:.2%} of all (at least {agreement.least_same_label:.2%})"
            )
        if agreement.mean_iou is not None:
            facts["masks' mean IoU"] = f"{agreement.mean_iou:.2%} (at least {agreement.least_iou:.2%})"
        if agreement.psnr_db is not None:
            facts["pictures' PSNR"] = f"{agreement.psnr_db:.2f} dB (at least {agreement.least_psnr_db:g})"
    if certificate.latency_ms is not None:
        facts["one image"] = f"{certificate.latency_ms:.2f} ms"
    return facts | {"runtime": certificate.runtime, "at": certificate.created_at}
