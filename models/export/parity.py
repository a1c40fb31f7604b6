"""The proof: a served graph, through the codec, against outputs that somebody else has computed.

    samples (encoded bytes) → codec → uint8 → served session → logits  ⟷  reference logits and labels

It holds when the largest difference is within `tolerance` and each decided sample (its two best reference
outputs are further apart than twice that difference) gets its expected label. Of maps, differences alone
decide. A compressed graph, which its manifest says it is, must come as near to the one it was made from as
its reference says, and give as large a share of all samples, or of their pixels, the same label; masks must
overlap with those before, and pictures have a PSNR with those before, as much as it says.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.export.decisions import Overlap, mean_iou, overlap, psnr_db, same_share, squared_error
from models.export.reference import (
    Reference,
    ReferenceInvalid,
    labels_sha256,
    read_reference,
)
from models.export.served import ServedGraphError, ServedSession, runtime_name
from models.manifest import Agreement, Certificate, Level, Manifest, Task, sha256_hex
from models.sources.base import file_sha256
from models.tasks.classification import Prediction
from models.tasks.codecs import codec_of
from models.tasks.images import ImageError, ImageLimits

SessionRun = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_NAMED_SAMPLES = 3
_ROUNDINGS = 8


class Codec(Protocol):
    """What the comparison needs of a codec."""

    def decode(self, data: bytes, /) -> NDArray[np.uint8]:
        """Encoded bytes to (H, W, 3)."""


@runtime_checkable
class NamingCodec(Codec, Protocol):
    """A codec of a task whose answers are labels."""

    def encode(self, logits: NDArray[np.float32], top_k: int) -> list[Prediction]:
        """Logits (C,) to labels."""


@runtime_checkable
class DecidingCodec(Codec, Protocol):
    """A codec of a task whose answers are a label for each pixel."""

    def decisions(self, logits: NDArray[np.float32], /) -> NDArray[Any]:
        """Maps (C, h, w) to what they say of each pixel."""


class ParityError(Exception):
    """The graph does not reproduce its reference; the message names samples and numbers."""

    def __init__(self, message: str, *, hint: str, agreement: Agreement | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.agreement = agreement


class Kept(NamedTuple):
    """How much of what was said of a sample before is said by a compressed graph; of each what was asked."""

    share: float | None = None
    """Share of it that keeps its label: none or all of a picture, some pixels of a map."""
    overlap: Overlap | None = None
    """Of its masks with the expected ones."""
    squared_error: float | None = None
    """Of the picture that is made of it."""


@dataclass(frozen=True, kw_only=True)
class SampleResult:
    """One sample's comparison."""

    position: int
    max_abs: float
    drift: float | None
    """Between alone and in a batch."""
    cosine: float
    expected: str
    got: str
    is_decided: bool
    kept: Kept
    outputs: NDArray[np.float32]
    """Of it alone."""


def compare(
    run: SessionRun, codec: Codec, reference: Reference, *, max_batch: int | None = None
) -> Agreement:
    """Agreement over all samples, each alone and all in batches of eight; the worse one counts."""
    return _agreement(reference, compare_samples(run, codec, reference, max_batch=max_batch))


def compare_samples(
    run: SessionRun, codec: Codec, reference: Reference, *, max_batch: int | None = None
) -> list[SampleResult]:
    """The comparison sample by sample.

    Raises:
        ParityError: a sample cannot be decoded, or the graph gives another number of outputs.

    """
    try:
        images = np.stack([codec.decode(sample) for sample in reference.samples])
    except ImageError as error:
        raise ParityError(
            f"A sample of the reference cannot be decoded: {error}", hint="Store images that Athanor reads."
        ) from error
    sizes = {1} if max_batch == 1 else {1, min(8, max_batch or 8)}
    passes = [
        np.concatenate([run(images[start : start + size]) for start in range(0, len(images), size)])
        for size in sorted(sizes)
    ]
    if passes[0].shape != reference.logits.shape:
        raise ParityError(
            f"The graph gives {_listed(passes[0])} outputs, the reference has {_listed(reference.logits)}.",
            hint="Give the reference that belongs to this network.",
        )
    differences = np.max([_worst(outputs - reference.logits) for outputs in passes], axis=0)
    worst = float(differences.max())
    drifts = _worst(passes[-1] - passes[0]) if len(passes) > 1 else None
    return [
        SampleResult(
            position=position,
            max_abs=float(differences[position]),
            drift=None if drifts is None else float(drifts[position]),
            cosine=_cosine(passes[0][position], expected),
            expected=reference.labels[position],
            got=codec.encode(passes[0][position], 1)[0]["label"] if isinstance(codec, NamingCodec) else "",
            is_decided=isinstance(codec, NamingCodec) and _is_decided(expected, 2 * worst),
            kept=_kept(codec, passes[0][position], reference, position),
            outputs=passes[0][position],
        )
        for position, expected in enumerate(reference.logits)
    ]


def kept_of(codec: Codec, outputs: NDArray[np.float32], before: NDArray[np.float32]) -> Kept:
    """How much the outputs of one picture keep of what was given before. Raises ValueError for what is not
    finite."""
    if isinstance(codec, NamingCodec):
        said, wanted = (codec.encode(logits, 1)[0]["label"] for logits in (outputs, before))
        return Kept(float(said == wanted))
    if isinstance(codec, DecidingCodec):
        masks, expected = codec.decisions(outputs), codec.decisions(before)
        return Kept(same_share(masks, expected), overlap(masks, expected, len(before)))
    if not np.isfinite(outputs).all():
        raise ValueError("the pixels are not finite")
    return Kept(squared_error=squared_error(outputs, before))


def _kept(codec: Codec, outputs: NDArray[np.float32], reference: Reference, at: int) -> Kept:
    """The same of a sample, as far as its reference asks for it."""
    makes_pictures = not isinstance(codec, NamingCodec | DecidingCodec)
    if (reference.least_psnr_db if makes_pictures else reference.least_same_label) is None:
        return Kept()
    if isinstance(codec, NamingCodec):
        return Kept(float(codec.encode(outputs, 1)[0]["label"] == reference.labels[at]))
    kept = kept_of(codec, outputs, reference.logits[at])
    return kept if reference.least_iou is not None else kept._replace(overlap=None)


def share_kept(results: list[SampleResult]) -> float:
    """Of all samples, that keeps its label; what is not known is not kept."""
    return sum(result.kept.share or 0.0 for result in results) / len(results)


def masks_kept(results: list[SampleResult]) -> float | None:
    """Mean IoU of all samples' masks with the expected ones; None without masks, or where nobody asked."""
    return mean_iou(result.kept.overlap for result in results if result.kept.overlap is not None)


def pictures_kept(results: list[SampleResult]) -> float | None:
    """PSNR of all samples' pictures with the expected ones, decibels; None where nobody asked."""
    errors = (result.kept.squared_error for result in results)
    return psnr_db(error for error in errors if error is not None)


def _listed(outputs: NDArray[np.float32]) -> str:
    return " x ".join(map(str, outputs.shape[1:]))


def _worst(differences: NDArray[np.float32]) -> NDArray[np.float32]:
    """(samples, …) to the largest of each, (samples,)."""
    largest: NDArray[np.float32] = np.abs(differences).reshape(len(differences), -1).max(axis=1)
    return largest


def _is_decided(logits: NDArray[np.float32], margin: float) -> bool:
    """Are the two best of logits (C,) further apart? Nothing is, by a margin that is not a number."""
    if len(logits) == 1:
        return not np.isnan(margin)
    second, best = np.sort(logits)[-2:]
    return bool(best - second > margin)


def tolerance(reference: NDArray[np.float32], rounding: float = 0.0) -> float:
    """Largest difference that certificates allow: max(1e-4, 1e-5 x max |reference|).

    Some networks, after few steps of training above all, magnify the rounding of float32 beyond that. Eight
    times what it is known to make is allowed, up to 1e-3 x max |reference|: kernels differ in how they sum.
    """
    largest = float(np.abs(reference).max())
    return max(1e-4, 1e-5 * largest, min(_ROUNDINGS * rounding, 1e-3 * largest))


def certify(
    model_path: Path,
    manifest: Manifest,
    reference_path: Path | None = None,
    *,
    limits: ImageLimits | None = None,
) -> Certificate:
    """The certificate of a graph: level `certified` with a reference that holds, `imported` without one.

    Needs no torch: what `athanor verify` calls, and what every import ends with.

    Raises:
        ParityError: the graph is not what the manifest says, or does not reproduce the reference.

    """
    session = _open(model_path, manifest)
    agreement, by = None, None
    if reference_path is not None:
        agreement, by = _hold_against(reference_path, session, manifest, limits or ImageLimits())
    return Certificate(
        level=Level.IMPORTED if agreement is None else Level.CERTIFIED,
        model_sha256=file_sha256(model_path),
        manifest_sha256=sha256_hex(manifest.to_json()),
        reference_sha256=None if reference_path is None else file_sha256(reference_path),
        reference_by=by,
        agreement=agreement,
        latency_ms=round(session.latency_ms(manifest.preprocessing), 3),
        size_bytes=model_path.stat().st_size,
        runtime=runtime_name(),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def verify(
    model_path: Path, manifest: Manifest, reference_path: Path | None, *, against: Certificate | None = None
) -> Certificate:
    """Compute a certificate again from stored samples alone, and hold it against the stored one.

    Raises:
        ParityError: a file is not the one the certificate speaks of, or the comparison fails now.

    """
    if against is not None:
        for what, stored, found in (
            ("model", against.model_sha256, file_sha256(model_path)),
            ("manifest", against.manifest_sha256, sha256_hex(manifest.to_json())),
            (
                "reference",
                against.reference_sha256,
                None if reference_path is None else file_sha256(reference_path),
            ),
        ):
            if stored != found:
                raise ParityError(
                    f"The {what} is not the certified one: SHA-256 {found}, the certificate says {stored}.",
                    hint="Import the model again.",
                )
    computed = certify(model_path, manifest, reference_path)
    # Who it was compared with may be gone by now, and its pace was that of another moment.
    return computed.model_copy(update={"compared_with": against.compared_with}) if against else computed


def _open(model_path: Path, manifest: Manifest) -> ServedSession:
    try:
        session = ServedSession(model_path)
        session.check(manifest)
    except ServedGraphError as error:
        raise ParityError(str(error), hint="Import the model again.") from error
    return session


def _hold_against(
    path: Path, session: ServedSession, manifest: Manifest, limits: ImageLimits
) -> tuple[Agreement, str]:
    codec: Codec = codec_of(manifest, limits)
    try:
        reference = read_reference(path)
    except ReferenceInvalid as error:
        raise ParityError(str(error), hint="docs/certificates.md shows how to write a reference.") from error
    wanted = reference.all_labels_sha256
    if wanted is not None and wanted != labels_sha256(manifest.labels):
        raise ParityError(
            "The labels, or their order, are not those the reference was made with.",
            hint="Give the labels in the order of the network's outputs.",
        )
    try:
        results = compare_samples(session.run, codec, reference, max_batch=manifest.max_batch)
    except (ServedGraphError, ValueError) as error:
        raise ParityError(f"The graph fails on a sample: {error}", hint="Export it again.") from error
    agreement = _agreement(reference, results)
    if manifest.precision is not None:
        agreement = _as_compressed(manifest, agreement, reference, results)
    _demand(agreement, results)
    return agreement, reference.by


def _as_compressed(
    manifest: Manifest, agreement: Agreement, reference: Reference, results: list[SampleResult]
) -> Agreement:
    """The same with what is allowed to, and demanded of, a compressed graph. Any other may not allow itself
    anything in its own reference."""
    makes_pictures = manifest.task is Task.SUPER_RESOLUTION
    if (reference.least_psnr_db if makes_pictures else reference.least_same_label) is None:
        return agreement
    return agreement.model_copy(
        update={
            "tolerance": max(agreement.tolerance, reference.allowed),
            "same_label": None if reference.least_same_label is None else share_kept(results),
            "least_same_label": reference.least_same_label,
            "mean_iou": masks_kept(results),
            "least_iou": reference.least_iou,
            "psnr_db": pictures_kept(results),
            "least_psnr_db": reference.least_psnr_db,
        }
    )


def _agreement(reference: Reference, results: list[SampleResult]) -> Agreement:
    decided = [result for result in results if result.is_decided]
    right = sum(result.got == result.expected for result in decided)
    return Agreement(
        samples=len(results),
        max_abs=max(result.max_abs for result in results),
        drift=max((result.drift for result in results if result.drift is not None), default=None),
        tolerance=tolerance(reference.logits, reference.rounding),
        cosine=min(result.cosine for result in results),
        top1=right / len(decided) if decided else 1.0,
        decided=len(decided),
    )


def _demand(agreement: Agreement, results: list[SampleResult]) -> None:
    """Raise ParityError unless the comparison holds."""
    if agreement.lost is not None:
        raise ParityError(
            f"{agreement.lost[:1].upper()}{agreement.lost[1:]}.",
            hint="Compress it again with another precision.",
            agreement=agreement,
        )
    # `not <=` rather than `>`: what is not a number must fail.
    far = [result for result in results if not result.max_abs <= agreement.tolerance]
    if far:
        far.sort(key=lambda result: -result.max_abs)
        named = "; ".join(
            f"sample {result.position} by {result.max_abs:.3g}"
            + (f" ({result.got!r} instead of {result.expected!r})" if result.got != result.expected else "")
            for result in far[:_NAMED_SAMPLES]
        )
        raise ParityError(
            f"{len(far)} of {len(results)} samples differ from the reference by more than "
            f"{agreement.tolerance:.3g}: {named}.",
            hint="Check mean, std, size, fit, crop, interpolation and channel order; then the weights.",
            agreement=agreement,
        )
    wrong = [result for result in results if result.is_decided and result.got != result.expected]
    if wrong:
        named = "; ".join(
            f"sample {result.position} is {result.got!r}, expected {result.expected!r}"
            for result in wrong[:_NAMED_SAMPLES]
        )
        raise ParityError(
            f"The outputs agree but {len(wrong)} labels do not: {named}.",
            hint="Give the labels in the order of the network's outputs.",
            agreement=agreement,
        )


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / lengths if lengths > 0 else float(np.array_equal(a, b))
