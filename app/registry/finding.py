"""Which version a model reference means now."""

from app.access.principal import Principal
from app.registry.reference import DEFAULT_ALIAS, parse_reference, unknown_alias
from app.registry.service import Registry
from app.registry.snapshot import VersionFacts


def find_version(registry: Registry, principal: Principal, text: str) -> tuple[str, VersionFacts]:
    """The model's name and the version. Raises InvalidRequest, UnknownModel, UnknownVersion."""
    reference = parse_reference(text)
    number = reference.number
    if number is None:
        aliases = registry.get_model(principal, reference.name).aliases
        alias = reference.alias or DEFAULT_ALIAS
        if alias not in aliases:
            raise unknown_alias(reference.name, alias, aliases, param="model")
        number = aliases[alias]
    return reference.name, registry.get_version(principal, reference.name, number)
