"""What a fine-tuning job is asked, and what it starts from: its data set and its base."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from app.datasets.service import DatasetService
from app.db.session import Database
from app.errors import InvalidSpec, NotTrainable
from app.registry.reference import parse_reference
from app.registry.service import Registry
from models.build.state_file import read_state
from models.catalogue import CATALOGUE, Kind, UnknownMethod
from models.catalogue.architecture import Architecture
from models.catalogue.architectures import of_network
from models.data.pack import Pack
from models.manifest import WEIGHTS_FILE, Preprocessing, TileFacts
from models.train.resolve import ResolvedSpec
from models.train.spec import TrainSpec
from workers.context import JobContext, Json


class FineTuneOrder(BaseModel):
    """What a run reads of the spec of a job of kind `fine_tune` or `preflight`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    train: TrainSpec
    training_file: str | None = None
    validation_file: str | None = None
    dataset: str | None = None


@dataclass(frozen=True, kw_only=True)
class Base:
    """Where training starts."""

    architecture: Architecture
    preprocessing: Preprocessing
    state: dict[str, torch.Tensor] | None
    """Weights by timm's names; None to start from scratch."""
    encoder_state: dict[str, torch.Tensor] | None = None
    """Of a classifier, for the encoder of a network that starts from scratch."""
    source: str
    """What the published manifest says it was made from."""
    licence: str | None
    labels: tuple[str, ...] = ()
    """Of the base's head."""
    tiles: TileFacts | None = None
    """How windows go through the network, if it takes them. Of super-resolution from scratch, known once that
    is built."""

    def sized(self, spec: ResolvedSpec) -> "Base":
        """The same at the run's image size."""
        return replace(self, preprocessing=spec.sized(self.preprocessing))


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The data set version of a run."""

    pack: Pack
    reference: str
    """`name:number`"""
    sha256: str
    """Of the pack."""
    report: Json
    """What validation found."""


def bring_base(context: JobContext, spec: TrainSpec) -> Base:
    """The base that a spec names: a model of the registry, or an architecture of the catalogue, its encoder
    with the weights of a classifier if one is named.

    Raises:
        InvalidSpec: model or encoder is named by an alias, which may mean something else by now.
        UnknownModel, UnknownVersion: it is not there.
        NotTrainable: the version has no weights, or is of no known architecture.

    """
    try:
        architecture = CATALOGUE.get(Kind.ARCHITECTURE, spec.model)
    except UnknownMethod:
        return _published(context, spec.model, param="model")
    assert isinstance(architecture, Architecture)
    size = architecture.image_size
    plain = Preprocessing(height=size, width=size, crop=1.0, mean=architecture.mean, std=architecture.std)
    base = Base(
        architecture=architecture,
        preprocessing=plain,
        state=None,
        source=f"catalogue:{architecture.id}",
        licence=None,
    )
    if spec.encoder is None:
        return base
    classifier = _published(context, spec.encoder, param="encoder")
    seen = classifier.preprocessing
    return replace(
        base,
        preprocessing=plain.model_copy(update={"mean": seen.mean, "std": seen.std}),
        encoder_state=classifier.state,
        source=f"{base.source}, encoder of {classifier.source}",
        licence=classifier.licence,
    )


def _published(context: JobContext, text: str, *, param: str) -> Base:
    reference = parse_reference(text)
    if reference.number is None:
        hint = f"Write {reference.name}:NUMBER."
        raise InvalidSpec(f"{text} names no version to start from.", param=param, hint=hint)
    database = Database(context.settings.sqlalchemy_url)
    try:
        version = Registry(database, context.objects).get_version(
            context.principal, reference.name, reference.number
        )
    finally:
        database.close()
    weights = next((file for file in version.artifacts if file.name == WEIGHTS_FILE), None)
    architecture = of_network(version.manifest.architecture)
    if weights is None or architecture is None:
        lacks = "no weights" if weights is None else "an unknown architecture"
        raise NotTrainable(
            f"{reference} has {lacks} to train from.",
            param=param,
            hint="Name one that was imported with its weights, or trained here.",
        )
    path = context.objects.fetch(context.principal, weights.sha256)
    return Base(
        architecture=architecture,
        preprocessing=version.manifest.preprocessing,
        state=read_state(path, file_name=WEIGHTS_FILE),
        source=f"model:{reference}",
        licence=version.manifest.licence,
        labels=version.manifest.labels,
        tiles=version.manifest.tiles,
    )


def bring_data(context: JobContext, order: FineTuneOrder) -> TrainingData:
    """The data set of a job; made first when files were given.

    Raises:
        NotFound: there is no such data set or file.
        InvalidDataset: the files make no data set; names them and says why.

    """
    database = Database(context.settings.sqlalchemy_url)
    try:
        datasets = DatasetService(database, context.objects)
        reference = order.dataset or datasets.made_by(context.principal, context.job_id)
        if reference is None:
            reference = _make(context, order)
        version = datasets.get_version(context.principal, reference)
    finally:
        database.close()
    path: Path = context.objects.fetch(context.principal, version.sha256)
    return TrainingData(pack=Pack(path), reference=reference, sha256=version.sha256, report=version.report)


def _make(context: JobContext, order: FineTuneOrder) -> str:
    from workers.kinds.dataset import make_dataset  # noqa: PLC0415 - only where files were given

    files = [file for file in (order.training_file, order.validation_file) if file is not None]
    if not files:
        raise InvalidSpec("The job names no data.", param="training_file", hint="Give a file or a data set.")
    spec: Json = {
        "file_ids": files,
        "name": f"data-{context.job_id[-8:].lower()}",
        "task": order.train.task.value,
    }
    if order.validation_file is not None:
        spec["file_splits"] = ["train", "validation"]
    return make_dataset(context, spec)
