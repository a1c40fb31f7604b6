"""Which layers of a network a method changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from models.adapt.adapter import AdaptError, Site
from models.catalogue.adapters import ADAPTERS

Refuse = Callable[[str, nn.Module], str | None]
"""Name and layer to the reason why a method leaves it alone; None when it does not."""

_WEIGHTED = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Layers to change, and those that were asked for and are left alone."""

    names: tuple[str, ...]
    skipped: tuple[str, ...]
    """Each as `name: reason`."""


def choose_targets(
    network: nn.Module,
    site: Site,
    globs: Sequence[str] | None,
    *,
    kinds: tuple[type[nn.Module], ...] = _WEIGHTED,
    refuse: Sequence[Refuse] = (),
) -> Targets:
    """Layers of these kinds, without the head, that the globs name and nothing speaks against.

    Without globs: of linear layers and convolutions those that the architecture names, of others all.

    Raises:
        AdaptError: a glob matches no layer, or no layer is left.

    """
    layers = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, kinds) and not f"{name}.".startswith(f"{site.head}.")
    ]
    for glob in globs or ():
        if not any(fnmatchcase(name, glob) for name, _ in layers):
            known = ", ".join(name for name, _ in layers[:3]) or "nothing"
            raise AdaptError(
                f"{glob!r} matches no layer of {site.architecture.id} that {site.adapter.id} changes; "
                f"there is {known} and so on."
            )
    wanted = globs or (site.architecture.targets if kinds == _WEIGHTED else ())
    names, skipped = [], []
    for name, module in layers:
        if wanted and not any(fnmatchcase(name, glob) for glob in wanted):
            continue
        reason = next((reason for check in refuse if (reason := check(name, module))), None)
        if reason is None:
            names.append(name)
        else:
            skipped.append(f"{name}: {reason}")
    if not names:
        _say_nothing_is_left(site, skipped)
    return Targets(names=tuple(names), skipped=tuple(skipped))


def _say_nothing_is_left(site: Site, skipped: list[str]) -> None:
    because = f" ({skipped[0]}, and so on)" if skipped else ""
    works = ", ".join(row.id for row in ADAPTERS if row.id in {"lora", "bitfit", "full"})
    raise AdaptError(
        f"{site.adapter.id} finds no layer in {site.architecture.id} that it can change{because}; "
        f"{works} and others can change it."
    )


def grouped(_name: str, layer: nn.Module) -> str | None:
    """A convolution in groups; peft takes those only whose groups divide the rank, and merges none."""
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return f"a convolution in {groups} groups" if groups > 1 else None


def convolution(_name: str, layer: nn.Module) -> str | None:
    """Any convolution."""
    return "a convolution" if isinstance(layer, nn.Conv2d) else None


def dilated(_name: str, layer: nn.Module) -> str | None:
    """A dilated convolution: peft's copies of it are not."""
    return "a dilated convolution" if isinstance(layer, nn.Conv2d) and layer.dilation != (1, 1) else None


def of_own_kind(_name: str, layer: nn.Module) -> str | None:
    """A layer that computes more than its base class, as `Conv2dSame`, which pads by its input's size."""
    known = type(layer).forward in {nn.Conv2d.forward, nn.Linear.forward}
    return None if known else f"a {type(layer).__name__}, which computes more than a plain layer"
