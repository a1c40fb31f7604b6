"""Reports as a finished run would make them, of any number of classes and with any names."""

import io

import numpy as np
from PIL import Image

from models.evaluate.classification import evaluate
from models.evaluate.curves import curves_of
from models.evaluate.masks import MaskTally
from models.evaluate.picture_marks import PictureTally, cubic
from models.evaluate.report import (
    DatasetSummary,
    Environment,
    MaskReport,
    ParameterCounts,
    PictureReport,
    RunReport,
    TrainingReport,
)
from models.manifest import Agreement, Certificate, Level

HOSTILE = "<script src=//evil.test>alert('1')</script>\"'&amp;\x00\x1b[31m\u202e<img src=x onerror=1>"
"""What somebody may call a folder."""


def jpeg(*, size=(160, 120), seed=0):
    """A noisy picture: as large as a thumbnail gets."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=80)
    return out.getvalue()


def build_evaluation(
    *, labels=("rose", "tulip", "daisy"), pictures=60, name="{label}/{index}.jpg", noise=1.0
):
    rng = np.random.default_rng(len(labels))
    targets = np.arange(pictures) % len(labels)
    logits = rng.normal(size=(pictures, len(labels))).astype(np.float32) * noise
    logits[np.arange(pictures), targets] += 1.5
    names = [name.format(label=labels[target], index=index) for index, target in enumerate(targets)]
    return evaluate(logits, targets, labels, names)


def build_rows(*, steps=200, every=20):
    rows = []
    for step in range(1, steps + 1):
        values = {
            "train_loss": 2 / step + 0.1,
            "learning_rate": 1e-3 * (1 - step / steps),
            "epoch": step / every,
            "grad_norm": 1.0,
        }
        if step % every == 0:
            values |= {"valid_loss": 2 / step + 0.2, "valid_accuracy": 1 - 1 / step}
        rows.append((step, values))
    return rows


def build_report(*, evaluation=None, rows=None, **changes):
    facts = {
        "model": "flowers",
        "base": "efficientnet-lite0:1",
        "job_id": "job_06d4rkbb8zyq5xq2m8c7t5nn",
        "created_at": "2026-11-21T17:50:12Z",
        "split": "test",
        "evaluation": evaluation or build_evaluation(),
        "curves": curves_of(build_rows() if rows is None else rows),
        "steps": 200,
        "best_step": 160,
        "spec": {"task": "classification", "adapter": {"method": "lora", "parameters": {"r": 8}}},
        "dataset": DatasetSummary(reference="flowers:1", images={"train": 480, "test": 60}, labels=3),
        "parameters": ParameterCounts(total=3_413_024, trainable=121_344, skipped=("conv_dw: grouped",)),
        "times_s": {"training": 212.3, "evaluating": 1.14},
        "certificate": Certificate(
            level=Level.CERTIFIED,
            model_sha256="0" * 64,
            manifest_sha256="1" * 64,
            agreement=Agreement(samples=64, max_abs=3e-6, tolerance=1e-4, cosine=1.0, top1=1.0, decided=64),
            latency_ms=6.31,
            size_bytes=13_600_000,
            runtime="onnxruntime 1.31",
            created_at="2026-11-21T17:50:12Z",
        ),
        "environment": Environment(versions={"torch": "2.13.0"}, threads=2, seed=0),
    }
    return TrainingReport(**(facts | changes))


def build_mask_report(*, labels=("sky", "sea", "sand"), pictures=15, name="{index}.jpg"):
    """Of a segmenter that is right about two thirds of the pixels."""
    rng = np.random.default_rng(1)
    wanted = rng.integers(0, len(labels), (pictures, 12, 16), dtype=np.uint8)
    said = np.where(rng.random(wanted.shape) < 0.5, wanted, rng.integers(0, len(labels), wanted.shape))
    tally = MaskTally(len(labels))
    tally.add(said.astype(np.uint8), wanted)
    names = [name.format(index=index) for index in range(pictures)]
    plain = build_report()
    facts = {field: getattr(plain, field) for field in RunReport.model_fields}
    return MaskReport(**facts, evaluation=tally.evaluation(labels, names))


def build_picture_report(*, pictures=5, name="{index}.png", rows=None):
    """Of a network that comes nearer than cubic interpolation, to each picture by something else."""
    rng, tally = np.random.default_rng(2), PictureTally(2)
    for index in range(pictures):
        small = rng.integers(0, 256, (16, 18, 3), dtype=np.uint8)
        wanted = np.clip(cubic(small, 2) + rng.normal(0, 12, (32, 36, 3)), 0, 255).astype(np.uint8)
        made = np.clip(wanted + rng.normal(0, 2 + index, wanted.shape), 0, 255).astype(np.uint8)
        tally.add(made, wanted, small, name=name.format(index=index))
    plain = build_report(rows=rows)
    facts = {field: getattr(plain, field) for field in RunReport.model_fields}
    return PictureReport(**facts, evaluation=tally.evaluation())
