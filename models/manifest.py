"""What travels with an ONNX file: the manifest (how to use it) and the certificate (why to trust it).

A *version* in the registry is three artefacts: `model.onnx`, `manifest.json`, `certificate.json`, and,
when it could be certified, `reference.safetensors` (the samples and outputs that the certificate was
computed from, so that anyone can compute it again).
"""

import hashlib
from enum import StrEnum
from typing import Literal

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
    fit: Literal["crop", "squash", "pad"] = "crop"
    """`crop`: central crop of the target's aspect; `squash`: ignore the aspect; `pad`: letterbox in black."""
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
    """Label of each output index; of segmentation, of each map."""
    max_batch: int | None = Field(default=None, ge=1)
    """Largest batch the graph takes; None when its batch dimension is dynamic."""
    architecture: str | None = None
    """Catalogue name, or None for a graph of unknown make."""
    source: str | None = None
    """URI the weights came from."""
    source_sha256: str | None = None
    licence: str | None = None
    parameters: int | None = None
    """Number of weights."""
    opset: int | None = None
    masks: MaskFacts | None = None
    """Only of segmentation."""

    def to_json(self) -> bytes:
        """Stable bytes: what is hashed is what is stored, also of manifests from before a field existed."""
        absent = {"masks"} if self.masks is None else set()
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

    def to_json(self) -> bytes:
        """Stable bytes."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def sha256_hex(data: bytes) -> str:
    """Hash of bytes as the registry writes it."""
    return hashlib.sha256(data).hexdigest()
