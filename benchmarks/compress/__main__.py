"""Models in float32, int8 and float16: `python -m benchmarks.compress --dataset SET:1 MODEL…`, on an idle
machine.

Models and data set are those of the settings' data directory, where nothing is changed: each precision goes
through what a `compress` job does, but is kept however slow it is. One line says how it compares on held-out
pictures (the share with the same label, of enlargers the PSNR of both with each other; accuracy, or PSNR,
where it is known what is right; bytes, and milliseconds of both graphs, in turns in one process, by threads
and batch), or why it was refused. A table ends it.
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

from app.access.principal import SYSTEM
from app.compression.plan import plan_compression
from app.compression.spec import CompressSpec
from app.datasets.service import DatasetService
from app.db.session import Database
from app.errors import AppError
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from benchmarks.machine import machine_facts
from benchmarks.results import Results
from models.manifest import Certificate, Precision
from workers.context import JobContext
from workers.kinds.compress import run

HERE = Path(__file__).parent


def compressed(settings: Settings, model: str, precision: Precision, dataset: str) -> Certificate:
    """The certificate of one model in one precision. Raises AppError where there is none."""
    objects, database = ObjectStore.from_settings(settings), Database(settings.sqlalchemy_url)
    asked = CompressSpec(model=model, precision=precision, dataset=dataset, keep="always")
    try:
        spec = plan_compression(
            SYSTEM, asked, registry=Registry(database, objects), datasets=DatasetService(database, objects)
        )
    finally:
        database.close()
    with tempfile.TemporaryDirectory() as folder:
        context = JobContext(
            spec=spec,
            work_dir=Path(folder),
            objects=objects,
            principal=SYSTEM,
            settings=settings,
            progress=lambda fraction, phase: None,
            message=lambda text: None,
        )
        publication = run(context).publish
    assert publication is not None
    return publication.certificate


def facts_of(certificate: Certificate) -> dict[str, object]:
    """What a line of results says."""
    agreement, compared = certificate.agreement, certificate.compared_with
    assert agreement is not None
    assert compared is not None
    return {
        "samples": agreement.samples,
        "same_label": agreement.same_label,
        "mean_iou": agreement.mean_iou,
        "psnr_db": agreement.psnr_db,
        "cosine": agreement.cosine,
        "bytes_before": compared.size_bytes,
        "bytes_after": certificate.size_bytes,
        "accuracy_before": compared.accuracy_before,
        "accuracy_after": compared.accuracy_after,
        "psnr_before_db": compared.psnr_before_db,
        "psnr_after_db": compared.psnr_after_db,
        "float_layers": compared.float_layers,
        "gain": compared.gain,
        "paces": [pace.model_dump() for pace in compared.paces],
    }


def table(rows: Iterable[tuple[str, Precision, Certificate]]) -> str:
    """Markdown."""
    lines = [
        "| model | precision | gain | size | kept | right |",
        "|---|---|---|---|---|---|",
    ]
    for model, precision, certificate in rows:
        agreement, compared = certificate.agreement, certificate.compared_with
        assert agreement is not None
        assert compared is not None
        right = "not known"
        if compared.accuracy_before is not None and compared.accuracy_after is not None:
            right = f"{compared.accuracy_before:.2%} → {compared.accuracy_after:.2%}"
        elif compared.psnr_before_db is not None and compared.psnr_after_db is not None:
            right = f"{compared.psnr_before_db:.2f} → {compared.psnr_after_db:.2f} dB"
        kept = (
            f"{agreement.psnr_db:.2f} dB" if agreement.same_label is None else f"{agreement.same_label:.2%}"
        )
        size = f"{compared.size_bytes / 1e6:.1f} → {certificate.size_bytes / 1e6:.1f} MB"
        lines.append(
            f"| {model} | {precision} | {compared.gain:.2f} | {size} | "
            f"{kept} of {agreement.samples} | {right} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, append, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--dataset", required=True, help="name or name:version")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    settings = Settings()
    results = Results(arguments.results, machine_facts("onnxruntime", "numpy"))
    rows = []
    for model in arguments.models:
        for precision in Precision:
            try:
                certificate = compressed(settings, model, precision, arguments.dataset)
            except AppError as error:
                results.write("refused", model=model, precision=precision, why=error.message)
                continue
            results.write("compressed", model=model, precision=precision, **facts_of(certificate))
            rows.append((model, precision, certificate))
    print(table(rows))


if __name__ == "__main__":
    main()
