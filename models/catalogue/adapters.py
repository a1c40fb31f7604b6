"""How a base network is changed by training: adapters, full fine-tuning, the head alone.

Under every method the head, new for the classes of the data set, trains whole.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from models.catalogue.architecture import Architecture
from models.catalogue.row import Kind, Parameters, Proof, Row
from models.manifest import Task

Glob = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Rank = Annotated[int, Field(ge=1, le=1024)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Alpha = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class TargetParameters(Parameters):
    """What methods that change layers have in common."""

    targets: tuple[Glob, ...] | None = Field(default=None, min_length=1, max_length=100)
    """Globs of the names of layers to change, `*` reaching over dots; null: those of the architecture."""


class LowRankParameters(TargetParameters):
    """A product of two thin matrices, A (r x in) and B (out x r), added to each weight."""

    r: Rank = 8
    """Rank."""
    alpha: Alpha | None = None
    """The product is scaled by alpha / r (rsLoRA: by alpha / sqrt(r)); null: twice the rank."""
    dropout: Dropout = 0.0
    """Share of each adapted layer's inputs that are left out of the product while training."""


class KroneckerParameters(TargetParameters):
    """Products that are added to each weight: of Hadamard's kind (LoHa) or Kronecker's (LoKr)."""

    r: Rank = 8
    """Rank of the factors."""
    alpha: Alpha | None = None
    """The product is scaled by alpha / r; null: twice the rank."""
    rank_dropout: Dropout = 0.0
    """Share of the product's rows that are left out while training."""


class RotationParameters(TargetParameters):
    """Rotations of each weight's inputs, in blocks."""

    block_size: int = Field(default=8, ge=2, le=256)
    """Inputs that are rotated together. Layers whose number of inputs it does not divide are skipped."""


class ButterflyParameters(RotationParameters):
    """As OFT's, and a scale for each output."""

    block_size: int = Field(default=4, ge=2, le=256)
    """Inputs that are rotated together. Layers whose number of inputs it does not divide are skipped."""


class GeneralisedParameters(TargetParameters):
    """Products of low rank that scale each weight, are added to it, and move its bias."""

    r: Rank = 4
    """Rank of each of the products; of two for the weight, and of one for the bias."""


class VectorParameters(TargetParameters):
    """Vectors that scale two frozen random matrices, which all layers share."""

    r: Rank = 256
    """Rank of the frozen matrices."""
    d_initial: float = Field(default=0.1, gt=0, le=10, allow_inf_nan=False)
    """First value of the vector between the matrices."""
    dropout: Dropout = 0.0
    """Share of each adapted layer's inputs that are left out while training."""


class AdaptiveRankParameters(TargetParameters):
    """A rank for each layer, found while training: all begin with `init_r` and share a falling budget."""

    r: Rank = 8
    """Mean rank of the layers in the end."""
    init_r: int = Field(default=12, ge=2, le=2048)
    """Rank of each layer at first."""
    alpha: Alpha | None = None
    """The product is scaled by alpha / init_r; null: twice `init_r`."""
    orthogonality: float = Field(default=0.5, ge=0, le=100, allow_inf_nan=False)
    """Weight of the penalty that keeps the factors orthogonal."""
    warm_up: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps before the budget falls."""
    final: float = Field(default=0.3, ge=0, lt=1)
    """Share of the steps after the ranks are settled."""
    dropout: Dropout = 0.0
    """Share of each adapted layer's inputs that are left out while training."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.init_r <= self.r:
            raise ValueError("init_r: must be above r, the mean rank in the end")
        if self.warm_up + self.final > 0.9:
            raise ValueError(
                "warm_up: warm_up and final must leave a tenth of the steps for the budget to fall"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Adapter(Row):
    """A way to change a base."""

    is_pefts: bool = True
    """What is saved is loaded by plain `peft`."""
    only_linears: bool = False
    """It changes linear layers only."""
    needs_weights: bool = True
    """It makes sense only on a base that has been trained."""
    freezes_statistics: bool = True
    """Batch normalisation keeps the base's running statistics, in training too."""


_LABELS = frozenset({Task.CLASSIFICATION})
_ALL = _LABELS | {Task.SEGMENTATION, Task.SUPER_RESOLUTION}

_LORA = Adapter(
    id="lora",
    name="LoRA",
    kind=Kind.ADAPTER,
    tasks=_LABELS,
    builder="models.adapt.low_rank:build_lora",
    parameters=LowRankParameters,
    licence="Apache-2.0",
    paper="Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models",
    proof=Proof.SERVES,
)


def _adapter(row_id: str, name: str, builder: str, paper: str | None, **changes: object) -> Adapter:
    builder = f"models.adapt.{builder}"
    return replace(_LORA, id=row_id, name=name, builder=builder, paper=paper, **changes)  # type: ignore[arg-type]


ADAPTERS: tuple[Adapter, ...] = (
    replace(_LORA, tasks=_ALL),
    _adapter(
        "rslora",
        "rsLoRA",
        "low_rank:build_rslora",
        "Kalajdzievski 2023, A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA",
        tasks=_ALL,
    ),
    _adapter(
        "dora",
        "DoRA",
        "low_rank:build_dora",
        "Liu et al. 2024, DoRA: Weight-Decomposed Low-Rank Adaptation",
        tasks=_ALL,
    ),
    _adapter(
        "pissa",
        "PiSSA",
        "pissa:build_pissa",
        "Meng et al. 2024, PiSSA: Principal Singular Values and Singular Vectors Adaptation",
        only_linears=True,
    ),
    _adapter(
        "adalora",
        "AdaLoRA",
        "adalora:build_adalora",
        "Zhang et al. 2023, AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning",
        parameters=AdaptiveRankParameters,
        tasks=_ALL,
    ),
    _adapter(
        "glora",
        "GLoRA",
        "generalised:build_glora",
        "Chavan et al. 2023, One-for-All: Generalized LoRA for Parameter-Efficient Fine-tuning",
        parameters=GeneralisedParameters,
        only_linears=True,
    ),
    _adapter(
        "loha",
        "LoHa",
        "kronecker:build_loha",
        "Hyeon-Woo et al. 2021, FedPara: Low-rank Hadamard Product for "
        "Communication-Efficient Federated Learning",
        parameters=KroneckerParameters,
    ),
    _adapter(
        "lokr",
        "LoKr",
        "kronecker:build_lokr",
        "Yeh et al. 2023, Navigating Text-To-Image Customization: "
        "From LyCORIS Fine-Tuning to Model Evaluation",
        parameters=KroneckerParameters,
    ),
    _adapter(
        "oft",
        "OFT",
        "rotation:build_oft",
        "Qiu et al. 2023, Controlling Text-to-Image Diffusion by Orthogonal Finetuning",
        parameters=RotationParameters,
    ),
    _adapter(
        "boft",
        "BOFT",
        "rotation:build_boft",
        "Liu et al. 2023, Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization",
        parameters=ButterflyParameters,
    ),
    _adapter(
        "ia3",
        "IA3",
        "vectors:build_ia3",
        "Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper "
        "than In-Context Learning",
        parameters=TargetParameters,
    ),
    _adapter(
        "vera",
        "VeRA",
        "vectors:build_vera",
        "Kopiczko et al. 2023, VeRA: Vector-based Random Matrix Adaptation",
        parameters=VectorParameters,
        only_linears=True,
    ),
    _adapter(
        "ln_tuning",
        "LN tuning",
        "vectors:build_ln_tuning",
        "Zhao et al. 2023, Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning",
        parameters=TargetParameters,
    ),
    _adapter(
        "bitfit",
        "BitFit",
        "in_place:build_bitfit",
        "Ben Zaken et al. 2021, BitFit: Simple Parameter-efficient Fine-tuning for "
        "Transformer-based Masked Language-models",
        parameters=Parameters,
        is_pefts=False,
        tasks=_ALL,
    ),
    _adapter(
        "head",
        "Head only",
        "in_place:build_head",
        None,
        parameters=Parameters,
        is_pefts=False,
        tasks=_ALL,
    ),
    _adapter(
        "full",
        "Full fine-tuning",
        "in_place:build_full",
        None,
        parameters=Parameters,
        is_pefts=False,
        needs_weights=False,
        freezes_statistics=False,
        tasks=_ALL,
    ),
)


def why_not(
    adapter: Adapter, architecture: Architecture, *, is_trained: bool = True
) -> tuple[str, str] | None:
    """Why the method can do nothing with such a network, and what can; None when it can."""
    if adapter.needs_weights and not is_trained:
        others = ", ".join(row.id for row in ADAPTERS if not row.needs_weights)
        what = f"{architecture.id} starts from scratch: there is nothing that {adapter.id} could adapt."
        return what, f"Use {others}, or a model with weights as the base."
    if adapter.only_linears and not architecture.has_linears:
        others = ", ".join(row.id for row in ADAPTERS if not row.only_linears)
        what = f"{adapter.id} changes linear layers only, and {architecture.id} has none besides its head."
        return what, f"These can change it: {others}."
    return None
