"""The report of a training run: what came out, how it got there, and what it takes to repeat it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from models.evaluate.classification import Evaluation
from models.evaluate.curves import Curve
from models.evaluate.masks import MaskEvaluation
from models.evaluate.picture_marks import PictureEvaluation
from models.manifest import Certificate

REPORT_JSON_FILE = "report.json"
REPORT_HTML_FILE = "report.html"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetSummary(_Frozen):
    """What it was trained and evaluated on."""

    reference: str
    """`name:number`"""
    images: dict[str, int]
    """Pictures by split."""
    labels: int = Field(ge=1)
    """How many there are."""
    duplicates: int | None = Field(default=None, ge=0)
    """Pictures that were there twice; None where nobody counted."""
    left_out: int | None = Field(default=None, ge=0)
    """Files that are in no split; None where nobody counted."""
    sha256: str | None = None
    """Of the pack."""


class ParameterCounts(_Frozen):
    """Numbers of weights."""

    total: int = Field(ge=0)
    trainable: int = Field(ge=0)
    skipped: tuple[str, ...] = ()
    """Layers that the adapter left alone, with the reason."""


class Environment(_Frozen):
    """Where the same spec gives the same bits."""

    versions: dict[str, str]
    """Libraries and what they ran on."""
    threads: int = Field(ge=1)
    seed: int = Field(ge=0)
    attempts: int = Field(default=1, ge=1)
    resumed_from_step: int | None = None


class Comparison(_Frozen):
    """Another way to the same task, marked on the same pictures."""

    name: str
    accuracy: float
    macro_f1: float
    nll: float


class RunReport(_Frozen):
    """All but the marks. Kept beside the version as `report.json` and, for people, `report.html`."""

    model_config = ConfigDict(extra="ignore")  # it is read again from versions of other releases

    format: Literal[1] = 1
    model: str
    """Whose version the run became."""
    base: str
    """What it started from."""
    job_id: str
    created_at: str
    """UTC, ISO 8601."""
    split: Literal["test", "validation"]
    """Which pictures the evaluation is on. Validation, which also chose the checkpoint, flatters a little."""
    curves: dict[str, Curve]
    steps: int = Field(ge=0)
    best_step: int = Field(ge=0)
    """Whose weights were kept."""
    spec: dict[str, Any]
    """The resolved spec: nothing in it is left to be chosen."""
    dataset: DatasetSummary
    parameters: ParameterCounts
    times_s: dict[str, float]
    """Seconds by phase, of the attempt that ended the run."""
    certificate: Certificate | None = None
    environment: Environment

    def to_json(self) -> bytes:
        """Stable bytes."""
        return self.model_dump_json().encode() + b"\n"


class TrainingReport(RunReport):
    """Of a classifier."""

    evaluation: Evaluation

    def comparisons(self) -> tuple[Comparison, ...]:
        """The run itself, and the answer that never looks."""
        run, baseline = self.evaluation, self.evaluation.baseline
        return (
            Comparison(name="this run", accuracy=run.accuracy, macro_f1=run.macro_f1, nll=run.nll),
            Comparison(
                name=f"always “{baseline.label}”",
                accuracy=baseline.accuracy,
                macro_f1=baseline.macro_f1,
                nll=baseline.nll,
            ),
        )


class MaskReport(RunReport):
    """Of a segmenter."""

    evaluation: MaskEvaluation


class PictureReport(RunReport):
    """Of a network that enlarges pictures."""

    evaluation: PictureEvaluation


AnyReport = TrainingReport | MaskReport | PictureReport
"""By what was trained."""


def read_report(data: bytes) -> AnyReport:
    """A `report.json`, of this release or another. Raises pydantic's ValidationError."""
    report: AnyReport = TypeAdapter(AnyReport).validate_json(data)
    return report
