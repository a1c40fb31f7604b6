"""What comes before a training: data, base, the frozen spec, the network as it is to be trained."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from app.errors import InvalidSpec, OutOfMemory
from models.adapt.adapter import Adapted, AdaptError, adapt
from models.build.network import (
    CannotBuild,
    build_network,
    build_restorer,
    head_of,
    load_base,
    load_encoder,
    tiles_of,
)
from models.build.timm_ import WeightsMismatch
from models.catalogue import Kind
from models.data.pack import Pack, Split
from models.manifest import Task, TileFacts
from models.train.checkpoint import read_facts
from models.train.feed import NumberedBatches
from models.train.measure import Estimate, measure
from models.train.resolve import ResolvedSpec, resolve
from models.train.sources import HeldOut, held_out_source, training_source
from models.train.spec import SpecError
from workers.context import JobContext, Json
from workers.kinds.fine_tune_order import Base, FineTuneOrder, TrainingData, bring_base, bring_data


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that training, or what comes after it, needs."""

    base: Base
    data: TrainingData
    spec: ResolvedSpec
    adapted: Adapted

    def batches(self) -> NumberedBatches:
        """The training split as the run reads it."""
        base = self.base
        return training_source(self.data.pack, self.spec, preprocessing=base.preprocessing, tiles=self.tiles)

    def held_out(self, split: Split) -> HeldOut:
        """Another split, for marks."""
        base = self.base
        return held_out_source(
            self.data.pack, split, self.spec, preprocessing=base.preprocessing, tiles=self.tiles
        )

    @property
    def tiles(self) -> TileFacts | None:
        """Of networks that take windows."""
        return self.base.tiles if self.spec.task is Task.SUPER_RESOLUTION else self.spec.mask_tiles


def prepare(context: JobContext) -> tuple[Prepared, Estimate | None]:
    """Bring and build everything, and measure a step. There is no estimate in an attempt that goes on from a
    checkpoint: the spec was frozen by the first, for what it measured decides bits.

    Raises:
        InvalidSpec, InvalidDataset, NotFound, NotTrainable: what is wrong, before the first step.
        OutOfMemory: the measured step says that it cannot fit.

    """
    context.begin("validating_files", at=0.0)
    order = FineTuneOrder.model_validate(context.spec)
    prepared = build(context, order, checkpoint=context.resume.path if context.resume is not None else None)
    estimate = None
    if context.resume is None:
        estimate = measure(
            prepared.adapted,
            prepared.spec,
            prepared.data.pack,
            prepared.base.preprocessing,
            tiles=prepared.tiles,
        )
        prepared = replace(prepared, spec=estimate.applied_to(prepared.spec))
    _tell(context, prepared, estimate)
    return prepared, estimate


def build(context: JobContext, order: FineTuneOrder, *, checkpoint: Path | None) -> Prepared:
    """Data, base and network of an order; the spec is the one that the checkpoint holds, if there is one.

    Raises InvalidSpec, InvalidDataset, NotFound, NotTrainable.
    """
    data = bring_data(context, order)
    base = bring_base(context, order.train)
    try:
        if checkpoint is not None:
            spec = ResolvedSpec.model_validate(read_facts(checkpoint)["spec"])
        else:
            spec = resolve(
                order.train,
                base.architecture,
                pack=data.pack,
                is_pretrained=base.state is not None,
                tiles=base.tiles,
            )
        base = base.sized(spec)
        network = _network(spec, base, data.pack)
        if spec.scale is not None and base.tiles is None:
            tiles = tiles_of(network, spec.scale)
            base = replace(base, tiles=tiles, preprocessing=tiles.preprocessing)
        adapted = _adapted(network, spec, base)
    except SpecError as error:
        raise InvalidSpec(error.message, param=error.param, hint=error.hint) from error
    except (CannotBuild, AdaptError, WeightsMismatch) as error:
        raise InvalidSpec(str(error), param="adapter") from error
    return Prepared(base=base, data=data, spec=spec, adapted=adapted)


def _network(spec: ResolvedSpec, base: Base, pack: Pack) -> nn.Module:
    if spec.task is Task.SUPER_RESOLUTION:
        assert spec.scale is not None  # it is resolved
        network = build_restorer(base.architecture, scale=spec.scale, seed=spec.seed)
        keeps_head = True  # it makes pixels, whatever they show
    else:
        network = build_network(
            base.architecture, num_classes=len(pack.labels), image_size=spec.image_size, seed=spec.seed
        )
        keeps_head = base.labels == pack.labels
    if base.state is not None:
        load_base(network, base.state, keeps_head=keeps_head)
    if base.encoder_state is not None:
        try:
            load_encoder(network, base.encoder_state)
        except WeightsMismatch as error:
            raise InvalidSpec(str(error), param="encoder", hint="Name another classifier.") from error
    return network


def _adapted(network: nn.Module, spec: ResolvedSpec, base: Base) -> Adapted:
    return adapt(
        network,
        spec.adapter.row(Kind.ADAPTER),
        spec.adapter.told(Kind.ADAPTER),
        architecture=base.architecture,
        head=head_of(network),
        total_steps=spec.total_steps,
        seed=spec.seed,
    )


def _tell(context: JobContext, prepared: Prepared, estimate: Estimate | None) -> None:
    """Put what was found into the job's facts; refuse what cannot fit into memory."""
    adapted = prepared.adapted
    facts: Json = {
        "dataset": prepared.data.reference,
        "spec": prepared.spec.model_dump(mode="json"),
        "total_parameters": adapted.total_parameters,
        "trainable_parameters": adapted.trainable_parameters,
        "skipped": list(adapted.skipped),
    }
    if estimate is not None:
        facts["estimate"] = estimate.to_dict()
    context.facts(facts)
    if adapted.skipped:
        context.message(f"{len(adapted.skipped)} layers are left alone: {'; '.join(adapted.skipped[:3])}; …")
    if estimate is not None and not estimate.fits:
        raise OutOfMemory(
            f"The run would take {estimate.peak_bytes / 2**30:.1f} GiB of memory; "
            f"{estimate.free_bytes / 2**30:.1f} GiB are free.",
            hint="Choose a smaller model or image_size, or a machine with more memory.",
        )
