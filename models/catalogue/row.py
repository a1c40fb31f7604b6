"""What a row of the catalogue is."""

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict

from models.described import with_docstrings
from models.manifest import Task


class Kind(StrEnum):
    """Where in a spec a method is named, and so what its builder is called with.

    The builders' protocols are in `models.train.parts`, except that of adapters: `models.adapt.adapter`.
    """

    ARCHITECTURE = "architecture"
    ADAPTER = "adapter"
    OPTIMIZER = "optimizer"
    SCHEDULE = "schedule"
    LOSS = "loss"
    SAMPLER = "sampler"
    AUGMENTATION = "augmentation"
    """Of one picture."""
    MIXING = "mixing"
    """Of the pictures and targets of a batch."""


class Proof(StrEnum):
    """How far a method is proven; each level holds the ones before it."""

    LISTED = "listed"
    BUILDS = "builds"
    TRAINS = "trains"
    EXPORTS = "exports"
    SERVES = "serves"


class Parameters(BaseModel):
    """What a method can be told. Fields have defaults, bounds and a docstring each; units are in names."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=with_docstrings)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method."""

    id: str
    """What specs call it; unique within its kind."""
    name: str
    """What people call it."""
    kind: Kind
    tasks: frozenset[Task]
    """What it can be used for."""
    builder: str
    """`module:function`; see `Kind`."""
    parameters: type[Parameters] = Parameters
    licence: str
    """SPDX identifier of the code that computes it."""
    paper: str | None = None
    """Authors, year, title."""
    proof: Proof
    """What the behaviour matrix shows."""

    def build(self) -> Any:  # noqa: ANN401 - its type is the kind's protocol, which needs torch
        """Import the builder."""
        module, _, function = self.builder.partition(":")
        return getattr(import_module(module), function)
