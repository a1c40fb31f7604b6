"""What travels with an ONNX file: the manifest (how to use it) and the certificate (why to trust it).

A *version* in the registry is three artefacts: `model.onnx`, `manifest.json`, `certificate.json`, and,
when it could be certified, `reference.safetensors` (the samples and outputs that the certificate was
computed from, so that anyone can compute it again).
"""

import hashlib
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
CERTIFICATE_FILE = "certificate.json"
REFERENCE_FILE = "reference.safetensors"
WEIGHTS_FILE = "weights.safetensors"
"""The network's weights by timm's names: what training can start from."""


class Task(StrEnum):
    """Kinds of prediction; the closed list of the HTTP contract."""

    CLASSIFICATION = "classification"
    SEGMENTATION = "segmentation"
    SUPER_RESOLUTION = "super-resolution"
    IMAGE_GENERATION = "image-generation"
    TEXT_GENERATION = "text-generation"
    EMBEDDING = "embedding"


class Precision(StrEnum):
    """What a compressed graph computes in."""

    INT8 = "int8"
    """Weights and what flows between layers are whole numbers of 8 bits, scaled by what calibration saw."""
    INT8_DYNAMIC = "int8-dynamic"
    """Weights of matrix products are; what flows is scaled anew in each run."""
    FP16 = "fp16"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TensorFacts(_Frozen):
    """One input or output of the graph."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, ...]
    """-1 marks a dynamic dimension; the first dimension is the batch."""


class Preprocessing(_Frozen):
    """How encoded bytes become the uint8 tensor the graph takes. Normalisation is inside the graph."""

    height: int = Field(ge=1, le=4096)
    """Tensor height, pixels."""
    width: int = Field(ge=1, le=4096)
    """Tensor width, pixels."""
    fit: Literal["crop", "squash", "pad", "tiles"] = "crop"
    """`crop`: central crop of the target's aspect; `squash`: ignore the aspect; `pad`: letterbox in black;
    `tiles`: the picture goes through in windows of at most this size, see `TileFacts`."""
    crop: float = Field(default=0.875, gt=0, le=1)
    """Share of the largest central region that `crop` keeps."""
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] = "bicubic"
    """Antialiased when it shrinks, except `nearest`."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Subtracted per channel inside the graph, in units of 0..255. Kept here to be read, not applied."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Divided by per channel inside the graph, in units of 0..255. Kept here to be read, not applied."""


class MaskFacts(_Frozen):
    """How the maps that a segmentation graph gives become shares between 0 and 1."""

    activation: Literal["sigmoid", "softmax"]
    """`sigmoid`: each label has its own map and pixels may have several, or none; `softmax`: exactly one."""
    is_stretched: bool = False
    """Shares of a picture are stretched so that its lowest is 0 and its highest 1."""


MAX_WINDOW_SIDE = 2048
"""Most that a window contributes, pixels a side."""
CONTEXT_PART = 8
"""Of a window, what is shown at each side to a graph of which nobody knows how far it sees: 1/8."""
CONTEXT_STEP = 8
"""What a graph is shown around a window is a multiple of so many pixels, unless somebody says how much: twice
this, and so a window, is a multiple of what any network of segmentation here asks for."""


class TileFacts(_Frozen):
    """How a picture of any size goes through a graph that takes windows of it, of any size themselves."""

    scale: int = Field(ge=1, le=8)
    """Pixels of the result for each of the picture, along each side."""
    side: int = Field(ge=16, le=MAX_WINDOW_SIDE, multiple_of=16)
    """Most that one window contributes, pixels of the picture along each side."""
    margin: int = Field(default=0, ge=0, le=512)
    """Pixels of a window, at each of its sides, for which the graph makes no result."""
    context: int = Field(default=0, ge=0, le=512)
    """Further pixels around each window that the graph is shown, and whose results are not used."""
    overlap: int = Field(default=0, ge=0, le=512)
    """Pixels that neighbouring windows share at least; their results are blended there."""

    @classmethod
    def of_window(
        cls,
        window: int,
        *,
        scale: int = 1,
        margin: int = 0,
        reach: int | None = None,
        context: int | None = None,
        overlap: int | None = None,
    ) -> "TileFacts":
        """For windows of at most so many pixels a side.

        By default a graph that makes results up to its border is shown as much around what it contributes as
        it sees, its `reach`, and then neighbours need not share anything: their results are those of one
        large window. Where the reach is not known it is shown an eighth, and neighbours share a sixteenth.

        Raises ValueError when that leaves nothing, or more than windows may have.
        """
        if margin:
            reach = 0
        most = MAX_WINDOW_SIDE if context is None else window  # what somebody said is not changed silently
        if context is None:
            context = window // CONTEXT_PART if reach is None else -(-reach // CONTEXT_STEP) * CONTEXT_STEP
        if overlap is None:
            overlap = window // 16 if reach is None or context < reach else 0
        side = min(most, (window - 2 * (margin + context)) // 16 * 16)
        if side <= 0:
            around = f"less {margin + context} at each side"
            raise ValueError(f"Of windows of {window} pixels, {around}, too little is left.")
        if side > MAX_WINDOW_SIDE:
            counted = f"{side} of them count, {MAX_WINDOW_SIDE} a side may"
            raise ValueError(f"Windows of {window} pixels are too large: {counted}.")
        return cls(scale=scale, side=side, margin=margin, context=context, overlap=overlap)

    @property
    def surround(self) -> int:
        """Pixels that a window needs around what it contributes, at each side."""
        return self.margin + self.context

    @property
    def window(self) -> int:
        """Side of the largest window, pixels."""
        return self.side + 2 * self.surround

    @property
    def preprocessing(self) -> Preprocessing:
        """That of a network which takes pictures in 0..1."""
        return Preprocessing(height=self.window, width=self.window, fit="tiles", std=(255.0, 255.0, 255.0))


class Artifact(_Frozen):
    """One stored file of a version."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


class Manifest(_Frozen):
    """How to use a version: task, tensors, preprocessing, labels, origin."""

    format: Literal[1] = 1
    task: Task
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    """Label of each output index; of segmentation, of each map; none of super-resolution."""
    max_batch: int | None = Field(default=None, ge=1)
    """Largest batch the graph takes; None when its batch dimension is dynamic."""
    architecture: str | None = None
    """Catalogue name, or None for a graph of unknown make."""
    source: str | None = None
    """Where the weights came from: a URI, `catalogue:` or `model:` and a name; or several of these."""
    source_sha256: str | None = None
    licence: str | None = None
    parameters: int | None = None
    """Number of weights."""
    opset: int | None = None
    masks: MaskFacts | None = None
    """Only of segmentation."""
    tiles: TileFacts | None = None
    """Only with `fit` = `tiles`."""
    precision: Precision | None = None
    """None: as it was exported, in float32 as a rule."""

    def to_json(self) -> bytes:
        """Stable bytes: what is hashed is what is stored, also of manifests from before a field existed."""
        absent = {name for name in ("masks", "tiles", "precision") if getattr(self, name) is None}
        return self.model_dump_json(indent=1, exclude=absent).encode() + b"\n"


class Level(StrEnum):
    """How much is known about a version."""

    IMPORTED = "imported"
    """It loads and answers; nobody has given reference outputs to compare with."""
    CERTIFIED = "certified"
    """The served graph reproduces the reference outputs through the codec."""


class Agreement(_Frozen):
    """Served graph against reference outputs, over all samples."""

    samples: int
    max_abs: float
    """Largest absolute difference of any output."""
    tolerance: float
    """What was allowed; see `models.export.parity.tolerance`."""
    cosine: float
    """Smallest cosine between a sample's outputs and its reference."""
    top1: float
    """Share of decided samples (top-two margin above 2 x max_abs) that name the same label."""
    decided: int
    """Number of samples whose margin decides."""
    drift: float | None = None
    """Largest difference of any output between a sample alone and the same in a batch of eight; None where
    the graph takes no batches, and in certificates from before anybody looked."""
    same_label: float | None = None
    """Only of a compressed graph: share of all samples, decided or not, that name the same label; of maps, of
    the samples' pixels."""
    least_same_label: float | None = None
    """The share that was demanded."""
    mean_iou: float | None = None
    """Only of a compressed segmenter: of its masks with those before, over the labels that are seen."""
    least_iou: float | None = None
    """What was demanded of it."""
    psnr_db: float | None = None
    """Only of a compressed graph that makes pictures: of them with those before, decibels."""
    least_psnr_db: float | None = None
    """What was demanded of it."""

    @property
    def lost(self) -> str | None:
        """What a compressed graph has lost beyond what was demanded; None if nothing."""
        # `not >=` rather than `<`: what is not a number is lost.
        if self.same_label is not None and not self.same_label >= (self.least_same_label or 0.0):
            kept = f"{self.same_label:.2%} of {self.samples} samples keep their label"
            return f"{kept}, less than {self.least_same_label or 0.0:.2%}"
        if self.mean_iou is not None and not self.mean_iou >= (self.least_iou or 0.0):
            return f"masks have a mean IoU of {self.mean_iou:.2%}, less than {self.least_iou or 0.0:.2%}"
        if self.psnr_db is not None and not self.psnr_db >= (self.least_psnr_db or 0.0):
            return f"pictures have a PSNR of {self.psnr_db:.2f} dB, less than {self.least_psnr_db or 0.0:.2f}"
        return None


class Pace(_Frozen):
    """How long a run takes before and after compression: medians of runs that took turns, milliseconds."""

    threads: int
    batch: int
    before_ms: float
    after_ms: float


class Comparison(_Frozen):
    """A compressed graph beside the one it was made from, on held-out pictures and on one machine."""

    model: str
    """`name:number` of that one."""
    model_sha256: str
    size_bytes: int
    """Of that one."""
    dataset: str
    """`name:number`; calibration saw its pictures for training, the comparison others."""
    calibrated_on: int
    """Pictures, or windows of them."""
    float_layers: int
    """Layers with weights, counted from the first, that were left in float32."""
    accuracy_before: float | None
    """Over the samples; None where the data set's labels are not the model's."""
    accuracy_after: float | None
    mean_iou_before: float | None = None
    """The same of a segmenter, at its maps' size."""
    mean_iou_after: float | None = None
    psnr_before_db: float | None = None
    """The same of one that makes pictures: of them with the large ones, decibels."""
    psnr_after_db: float | None = None
    paces: tuple[Pace, ...]
    gain: float
    """How many times as many pictures per second; see `models.compress.pace.gain`."""
    kept_though_slower: bool = False
    """It is not enough faster, and was asked for all the same."""


class Certificate(_Frozen):
    """Why to trust a version. Recomputed by `athanor verify` from the stored samples alone."""

    format: Literal[1] = 1
    level: Level
    model_sha256: str
    manifest_sha256: str
    reference_sha256: str | None = None
    reference_by: str | None = None
    """Who computed the reference outputs: the source's own code, eager PyTorch, or the uploader."""
    agreement: Agreement | None = None
    latency_ms: float | None = None
    """Median of one image through the served session, one thread."""
    size_bytes: int
    runtime: str
    """Runtime, version and provider that the comparison ran on."""
    created_at: str
    """UTC, ISO 8601."""
    compared_with: Comparison | None = None
    """Only of a compressed graph."""

    def to_json(self) -> bytes:
        """Stable bytes: what only compressed graphs have is left out of others'."""
        absent: dict[str, Any] = {}
        if self.compared_with is None:
            absent["compared_with"] = True
        else:
            absent["compared_with"] = _none_of(self.compared_with, _MARKS_OF_SOME)
        if self.agreement is not None:
            absent["agreement"] = _none_of(self.agreement, _KEPT_OF_SOME)
        return self.model_dump_json(indent=1, exclude=absent).encode() + b"\n"


_MARKS_OF_SOME = ("mean_iou_before", "mean_iou_after", "psnr_before_db", "psnr_after_db")
_KEPT_OF_SOME = ("same_label", "least_same_label", "mean_iou", "least_iou", "psnr_db", "least_psnr_db")


def _none_of(facts: BaseModel, names: tuple[str, ...]) -> set[str]:
    return {name for name in names if getattr(facts, name) is None}


def sha256_hex(data: bytes) -> str:
    """Hash of bytes as the registry writes it."""
    return hashlib.sha256(data).hexdigest()
