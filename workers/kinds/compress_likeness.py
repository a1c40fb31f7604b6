"""How alike a version and what it was compressed to are: of candidates, to choose among them, and of the
chosen one, to certify it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.compression.spec import CompressSpec
from models.export.decisions import mean_iou, psnr_db
from models.export.parity import Kept, SampleResult, masks_kept, pictures_kept, share_kept
from models.export.reference import Reference, labels_sha256
from workers.kinds.compress_subject import Subject

_SPARE_DB = 1.0
"""What is held out will do somewhat worse."""
_ALLOWED = 1.25
"""Times the largest difference that was measured: other processors round otherwise."""


class Both(NamedTuple):
    """A mark before and after, where the right answers are known."""

    before: float | None
    after: float | None

    def told(self, name: str, form: str = ".2%") -> Iterator[str]:
        """What a message says of it, if anything."""
        if self.before is not None and self.after is not None:
            yield f"{name} {self.before:{form}} before and {self.after:{form}} after"


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """Held-out pictures through both graphs."""

    reference: Reference
    noun: str
    max_abs: float
    cosine: float
    accuracy: Both
    mean_iou: Both
    psnr_db: Both
    same_label: float | None
    """Each of these of both with each other, where there is such a thing."""
    masks_kept: float | None
    pictures_kept: float | None

    def __str__(self) -> str:
        compared = f"{len(self.reference.samples)} held-out {self.noun}"
        facts = [
            f"outputs differ by at most {self.max_abs:.3g}",
            f"cosine at least {self.cosine:.4f}",
            *([f"mean IoU of both {self.masks_kept:.2%}"] if self.masks_kept is not None else []),
            *self.accuracy.told("accuracy"),
            *self.mean_iou.told("mean IoU"),
            *self.psnr_db.told("PSNR in dB", ".2f"),
        ]
        of = f"the pixels of {compared}" if self.masks_kept is not None else compared
        if self.same_label is not None:
            said = f"the same label for {self.same_label:.2%} of {of}"
        else:
            said = f"a PSNR of {self.pictures_kept:.2f} dB of both over {of}"
        return f"{said} ({', '.join(facts)})"

    @property
    def what_is_kept(self) -> dict[str, float]:
        """By the field of the spec that asks for it."""
        found = {
            "least_agreement": self.same_label,
            "least_iou": self.masks_kept,
            "least_psnr_db": self.pictures_kept,
        }
        return {name: kept for name, kept in found.items() if kept is not None}


class Tried(NamedTuple):
    """A candidate on the pictures that choose."""

    error: float
    """Mean squared, of outputs: it tells more than a few labels that happen to change."""
    same: float | None = None
    """Share that keeps its label."""
    masks_kept: float | None = None
    pictures_kept: float | None = None

    @classmethod
    def of(cls, errors: Sequence[float], kept: Sequence[Kept]) -> "Tried":
        """Of all pictures, from what each gave."""
        shares = [one.share for one in kept if one.share is not None]
        return cls(
            error=fmean(errors),
            same=fmean(shares) if shares else None,
            masks_kept=mean_iou(one.overlap for one in kept if one.overlap is not None),
            pictures_kept=psnr_db(one.squared_error for one in kept if one.squared_error is not None),
        )

    def is_enough(self, spec: CompressSpec) -> bool:
        """By half more than is asked: what is held out will do somewhat worse."""
        return (
            self.error < np.inf
            and (self.same is None or self.same >= (1 + spec.least_agreement) / 2)
            and (self.masks_kept is None or self.masks_kept >= (1 + spec.least_iou) / 2)
            and (self.pictures_kept is None or self.pictures_kept >= spec.least_psnr_db + _SPARE_DB)
        )

    def told(self, subject: Subject, of: int) -> str:
        """What the job says of it."""
        if self.pictures_kept is not None:
            made = f"what is made of {of} {subject.noun}"
            return f"{made} has a PSNR of {self.pictures_kept:.2f} dB with what float32 makes"
        pixels = "the pixels of " if subject.has_maps else ""
        return f"{self.same or 0.0:.1%} of {pixels}{of} pictures keep their label"


def reference_of(spec: CompressSpec, subject: Subject, before: list[NDArray[np.float32]]) -> Reference:
    """What the original gives for held-out pictures, and what must be left of it."""
    names, has_labels = subject.manifest.labels, not subject.makes_pictures
    is_named = has_labels and not subject.has_maps
    return Reference(
        samples=subject.held.samples,
        logits=np.stack(before),
        labels=tuple(names[int(subject.decision(one))] if is_named else "" for one in before),
        by=f"{subject.model}, which it was made from",
        all_labels_sha256=labels_sha256(names),
        least_same_label=spec.least_agreement if has_labels else None,
        least_iou=spec.least_iou if subject.has_maps else None,
        least_psnr_db=spec.least_psnr_db if subject.makes_pictures else None,
    )


def agreed_of(
    subject: Subject, reference: Reference, before: list[NDArray[np.float32]], results: list[SampleResult]
) -> Agreed:
    """The same, beside what the compressed graph gives."""
    worst, after = max(result.max_abs for result in results), [result.outputs for result in results]
    return Agreed(
        reference=replace(reference, allowed=_ALLOWED * worst),
        noun=subject.noun,
        max_abs=worst,
        cosine=min(result.cosine for result in results),
        accuracy=Both(subject.accuracy(before), subject.accuracy(after)),
        mean_iou=Both(subject.mean_iou(before), subject.mean_iou(after)),
        psnr_db=Both(subject.psnr_db(before), subject.psnr_db(after)),
        same_label=None if subject.makes_pictures else share_kept(results),
        masks_kept=masks_kept(results),
        pictures_kept=pictures_kept(results),
    )
