"""`reference.safetensors`: samples, and what the source's own implementation gives for them.

tensors   `sample.0`, `sample.1`, …   uint8 [bytes]   an encoded image each, as a client would send it
          `logits`                    float32 [samples, C]; of segmentation [samples, C, h, w]
metadata  `format` "1"; `by`: who computed the logits; `labels`: JSON list, the expected first label of
          each sample; optionally `all_labels_sha256`: hash of all labels in the order of the outputs, and
          `rounding`: by how much the same network's outputs in float32 and float64 differ at most; of a
          compressed graph, whose reference is what the graph before it gives, `allowed`: by how much outputs
          may differ, `least_same_label`: the share of samples, or of maps' pixels, that must keep their
          label, and of maps `least_iou`: the mean IoU that masks must have with those of the reference; of
          one that makes pictures instead `least_psnr_db`: the PSNR that they must have with those of it
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

FORMAT = "1"
LOGITS = "logits"
MAX_BYTES = 512 * 2**20
MAX_SAMPLES = 4096
_LEAST = ("least_same_label", "least_iou", "least_psnr_db")
"""What a compressed graph must keep."""


class ReferenceInvalid(ValueError):
    """The file is not a reference."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Samples with expected outputs."""

    samples: tuple[bytes, ...]
    logits: NDArray[np.float32]
    """(samples, C), or (samples, C, h, w)"""
    labels: tuple[str, ...]
    """Expected first label of each sample; empty texts where labels have maps."""
    by: str
    all_labels_sha256: str | None = None
    rounding: float = 0.0
    """Largest difference between the network's outputs in float32 and float64; 0: nobody has looked."""
    allowed: float = 0.0
    """Largest difference that a compressed graph may make; 0: as for others."""
    least_same_label: float | None = None
    """Share of samples, 0..1, that a compressed graph must give the same label; None: as for others."""
    least_iou: float | None = None
    """Mean IoU, 0..1, that its masks must have with those of the graph before it; None: it has none."""
    least_psnr_db: float | None = None
    """PSNR, decibels, that its pictures must have with those of the graph before it; None: it makes none."""


def labels_sha256(labels: Sequence[str]) -> str:
    """Hash of all labels in the order of the outputs."""
    return hashlib.sha256(json.dumps(list(labels), ensure_ascii=False).encode()).hexdigest()


def write_reference(path: Path, reference: Reference) -> None:
    """Write the file; the same reference gives the same bytes."""
    tensors: dict[str, NDArray[np.generic]] = {
        f"sample.{position}": np.frombuffer(sample, np.uint8)
        for position, sample in enumerate(reference.samples)
    }
    tensors[LOGITS] = np.ascontiguousarray(reference.logits, np.float32)
    metadata = {
        "format": FORMAT,
        "by": reference.by,
        "labels": json.dumps(list(reference.labels), ensure_ascii=False),
    }
    if reference.all_labels_sha256 is not None:
        metadata["all_labels_sha256"] = reference.all_labels_sha256
    if reference.rounding:
        metadata["rounding"] = repr(float(reference.rounding))
    if reference.allowed:
        metadata["allowed"] = repr(float(reference.allowed))
    for name in _LEAST:
        if (least := getattr(reference, name)) is not None:
            metadata[name] = repr(float(least))
    save_file(tensors, path, metadata=metadata)


def read_reference(path: Path) -> Reference:
    """Read a file that anybody may have written. Raises ReferenceInvalid."""
    if path.stat().st_size > MAX_BYTES:
        raise ReferenceInvalid(f"The reference has more than {MAX_BYTES} bytes.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            count = len(names) - 1
            if LOGITS not in names or names != {LOGITS, *(f"sample.{i}" for i in range(count))}:
                raise ReferenceInvalid(
                    "The reference needs `logits`, and samples as `sample.0`, `sample.1`, …"
                )
            if not 1 <= count <= MAX_SAMPLES:
                raise ReferenceInvalid(f"The reference has {count} samples; 1 to {MAX_SAMPLES} are taken.")
            logits = file.get_tensor(LOGITS)
            samples = tuple(_sample_bytes(file.get_tensor(f"sample.{i}"), i) for i in range(count))
    except (SafetensorError, OSError, TypeError) as error:
        raise ReferenceInvalid(f"The reference is not a safetensors file: {str(error)[:200]}") from error
    if logits.dtype != np.float32 or logits.ndim not in {2, 4} or len(logits) != count or not logits.size:
        raise ReferenceInvalid(
            f"`logits` is {logits.dtype} {list(logits.shape)}; "
            f"it must be float32 [{count}, C], or [{count}, C, h, w]."
        )
    if not np.isfinite(logits).all():
        raise ReferenceInvalid("`logits` holds values that are not finite.")
    return Reference(
        samples=samples,
        logits=logits,
        labels=_labels(metadata, count),
        by=metadata.get("by", "the uploader")[:200],
        all_labels_sha256=metadata.get("all_labels_sha256"),
        rounding=_number(metadata, "rounding"),
        allowed=_number(metadata, "allowed"),
        **{name: _number(metadata, name) for name in _LEAST if name in metadata},
    )


def _sample_bytes(tensor: NDArray[np.generic], position: int) -> bytes:
    if tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise ReferenceInvalid(
            f"`sample.{position}` must hold the bytes of an encoded image: uint8, one dimension."
        )
    return tensor.tobytes()


def _number(metadata: dict[str, str], name: str) -> float:
    try:
        number = float(metadata.get(name, 0.0))
    except ValueError:
        number = -1.0
    if not (isfinite(number) and number >= 0):
        raise ReferenceInvalid(f"The metadata `{name}` must be a number, 0 or more.")
    return number


def _labels(metadata: dict[str, str], count: int) -> tuple[str, ...]:
    if metadata.get("format", FORMAT) != FORMAT:
        raise ReferenceInvalid(f"The reference is of format {metadata['format']!r}; {FORMAT!r} is known.")
    try:
        labels = json.loads(metadata.get("labels", ""))
    except ValueError:
        labels = None
    if not isinstance(labels, list) or len(labels) != count or not all(isinstance(x, str) for x in labels):
        raise ReferenceInvalid(
            f"The metadata `labels` must be a JSON list of {count} labels, the expected one of each sample."
        )
    return tuple(labels)
