"""What a training starts from: a version, or an architecture, whose encoder may begin as a version's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.access.principal import Principal
from app.errors import InvalidRequest, InvalidSpec, UnknownModel, UnknownVersion
from app.registry.reference import DEFAULT_ALIAS, parse_reference, unknown_alias
from app.registry.service import Registry
from app.registry.snapshot import ModelFacts
from models.catalogue import CATALOGUE, Kind, UnknownMethod
from models.catalogue.architecture import Architecture
from models.catalogue.architectures import ARCHITECTURES, of_network
from models.manifest import WEIGHTS_FILE, Task
from models.train.spec import TrainSpec

_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Base:
    """What training starts from."""

    reference: str
    """`name:number`, so that an alias that moves changes no job; or an architecture's id."""
    tasks: frozenset[Task]
    architecture: Architecture
    is_trained: bool
    scale: int | None = None
    """Of super-resolution: how many times larger pictures it makes; from scratch it is still open."""


def find_base(principal: Principal, text: str, registry: Registry) -> Base:
    """A model of the registry, else an architecture of the catalogue.

    Raises:
        UnknownModel, UnknownVersion: there is no such thing.
        InvalidSpec: the version has nothing to train from.

    """

    def trainable() -> list[str]:
        return _trainable(principal, registry) or [row.id for row in ARCHITECTURES]

    published = _find_published(principal, text, registry, param="model", fitting=trainable)
    if published is not None:
        return published
    try:
        row = CATALOGUE.get(Kind.ARCHITECTURE, text)
    except UnknownMethod as error:
        names = [model.name for model in registry.list_models(principal)]
        rows = [row.id for row in CATALOGUE.find(kind=Kind.ARCHITECTURE)]
        raise UnknownModel(text, [*names, *rows]) from error
    assert isinstance(row, Architecture)
    return Base(reference=row.id, tasks=row.tasks, architecture=row, is_trained=False)


def find_encoder(principal: Principal, spec: TrainSpec, base: Base, registry: Registry) -> str | None:
    """The version, `name:number`, with whose weights the base's encoder is to begin; None if none is named.

    Raises:
        UnknownModel, UnknownVersion: there is no such version.
        InvalidSpec: the base takes none, or not that one.

    """
    if spec.encoder is None:
        return None
    wanted = base.architecture.encoder
    if base.is_trained:
        what = f"{base.reference} is trained, its encoder with it."
        hint = "Leave the encoder out, or name an architecture as the model."
        raise InvalidSpec(what, param="encoder", hint=hint)
    if wanted is None:
        known = ", ".join(row.id for row in ARCHITECTURES if row.encoder is not None and row.id == row.timm)
        what = f"{base.reference} has no encoder that could begin with a classifier's weights."
        raise InvalidSpec(what, param="encoder", hint=f"These have: {known}.")

    def fitting() -> list[str]:
        return _trainable(principal, registry, lambda row: row.timm == wanted)

    found = _find_published(principal, spec.encoder, registry, param="encoder", fitting=fitting)
    if found is None:
        raise UnknownModel(spec.encoder, fitting(), param="encoder")
    if found.architecture.timm != wanted:
        what = f"{base.reference} is over {wanted}; {found.reference} is a {found.architecture.timm}."
        raise InvalidSpec(what, param="encoder", hint=_fitting_hint(fitting(), found))
    return found.reference


def _find_published(
    principal: Principal, text: str, registry: Registry, *, param: str, fitting: Callable[[], list[str]]
) -> Base | None:
    """The version of the registry that `text` means; None when no model is called so. `fitting` are those to
    be named instead of one that has nothing to train from."""
    try:
        reference = parse_reference(text)
        model = registry.get_model(principal, reference.name)
    except (InvalidRequest, UnknownModel):
        return None
    number = reference.number or model.aliases.get(reference.alias or DEFAULT_ALIAS)
    version = None if number is None else model.versions.get(number)
    if version is None:
        if reference.alias is not None and reference.is_checkpoint:
            raise unknown_alias(model.name, reference.alias, model.aliases, param=param)
        raise UnknownVersion(f"There is no {text}.", param=param, hint=f"There are {_versions(model)}.")
    architecture = of_network(version.manifest.architecture)
    if architecture is None or version.artifact(WEIGHTS_FILE) is None:
        lacks = "of no architecture in the catalogue" if architecture is None else "without its weights"
        raise InvalidSpec(
            f"Nothing can begin with {model.name}:{number}: it is {lacks}.",
            param=param,
            hint=_named(fitting()),
        )
    return Base(
        reference=f"{model.name}:{number}",
        tasks=frozenset({model.task}),
        architecture=architecture,
        is_trained=True,
        scale=None if version.manifest.tiles is None else version.manifest.tiles.scale,
    )


def _named(fitting: Sequence[str]) -> str:
    return f"These can be: {', '.join(fitting[:_SHOWN])}." if fitting else "No model here is fit for it yet."


def _fitting_hint(fitting: Sequence[str], found: Base) -> str:
    over = [row.id for row in ARCHITECTURES if row.encoder == found.architecture.timm]
    more = f" Over {found.architecture.timm}: {', '.join(over[:_SHOWN])}." if over else ""
    return _named(fitting) + more


def _trainable(
    principal: Principal,
    registry: Registry,
    fits: Callable[[Architecture], bool] = lambda _: True,
) -> list[str]:
    """Names of models that have a version with weights, of an architecture that fits."""
    names = [
        model.name
        for model in registry.list_models(principal)
        for version in model.versions.values()
        if version.artifact(WEIGHTS_FILE)
        and (architecture := of_network(version.manifest.architecture)) is not None
        and fits(architecture)
    ]
    return list(dict.fromkeys(names))


def _versions(model: ModelFacts) -> str:
    numbers = [f"{model.name}:{number}" for number in list(model.versions)[-5:]]
    return ", ".join(numbers + [f"{model.name}@{alias}" for alias in model.aliases])
