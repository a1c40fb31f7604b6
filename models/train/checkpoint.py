"""A run's whole state as one file, from which it goes on to the same bits.

    checkpoint-120.safetensors
      weights/…    what is trained             optimizer/<n>/…        state of its n-th parameter
      buffers/…    what changed besides        optimizer/group-<n>/…  what its n-th group has come to remember
      best/…       the best weights so far     average/…              moving average, where there is one
      metadata     "athanor": JSON with step, spec, versions, numbers that are no tensors

There is no random state in it: every step begins by seeding from the run's seed and its own number. A file is
there whole or not at all, and holds no pickle.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

Json = dict[str, Any]
Tensors = Mapping[str, torch.Tensor]
_GROUP = "group-"


class CheckpointDamaged(ValueError):
    """The file is no checkpoint, or not a whole one."""


class CheckpointMismatch(ValueError):
    """The checkpoint is of another run: its spec, or its network, is not this one's."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What is in one file."""

    step: int
    """Steps done."""
    facts: Json
    sections: Mapping[str, Tensors] = field(default_factory=dict)
    """Tensors by name, by section."""

    def section(self, name: str) -> dict[str, torch.Tensor]:
        """A section's tensors; none when it was empty."""
        return dict(self.sections.get(name, {}))


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"checkpoint-{step}.safetensors"


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write to a temporary name, have it on disk, then give it its own."""
    tensors = {
        f"{section}/{name}": tensor.detach().contiguous()
        for section, named in checkpoint.sections.items()
        for name, tensor in named.items()
    }
    path = checkpoint_path(folder, checkpoint.step)
    part = path.with_name(f".{path.name}.part")
    facts = {**checkpoint.facts, "step": checkpoint.step, "format": 1}
    save_file(tensors, part, metadata={"athanor": orjson.dumps(facts).decode()})
    _sync(part)
    part.rename(path)
    _sync(folder)
    return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_facts(path: Path) -> Json:
    """What a checkpoint says of itself, without its tensors. Raises CheckpointDamaged."""
    try:
        with safe_open(path, "pt") as file:
            facts: Json = orjson.loads((file.metadata() or {})["athanor"])
    except (SafetensorError, OSError, KeyError, orjson.JSONDecodeError) as error:
        raise CheckpointDamaged(f"{path.name} is no checkpoint, or cut short.") from error
    return facts


def read_checkpoint(path: Path) -> Checkpoint:
    """All of a checkpoint. Raises CheckpointDamaged."""
    facts = read_facts(path)
    sections: dict[str, dict[str, torch.Tensor]] = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 - not a dict
            section, _, name = key.partition("/")
            # A copy: a view of the file may begin at any address, and last bits can depend on that.
            sections.setdefault(section, {})[name] = file.get_tensor(key).clone()
    return Checkpoint(step=facts["step"], facts=facts, sections=sections)


def load_evaluated(network: nn.Module, path: Path) -> int:
    """Put into a network what was evaluated at a checkpoint: the moving average where there is one.

    Returns: its step.

    Raises:
        CheckpointDamaged, CheckpointMismatch

    """
    checkpoint = read_checkpoint(path)
    evaluated = {**checkpoint.section("weights"), **checkpoint.section("buffers")}
    copy_into(network, {**evaluated, **checkpoint.section("average")})
    return checkpoint.step


@torch.no_grad()
def copy_into(network: nn.Module, tensors: Tensors) -> None:
    """Overwrite parameters and buffers in place, whatever their layout. Raises CheckpointMismatch."""
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, tensor in tensors.items():
        mine = own.get(name)
        if mine is None or mine.shape != tensor.shape:
            there = "nothing" if mine is None else f"a tensor of shape {tuple(mine.shape)}"
            raise CheckpointMismatch(
                f"The checkpoint has {name} of shape {tuple(tensor.shape)}, the network {there}."
            )
        mine.copy_(tensor)


def optimizer_section(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], Json]:
    """What an optimiser remembers, by `<n>/<name>` and `group-<n>/<name>`: tensors, and plain numbers.

    What it was told when it was made, such as rates, is not among it.
    """
    remembered: Json = {str(index): state for index, state in optimizer.state_dict()["state"].items()}
    for index, group in enumerate(optimizer.param_groups):
        told = {"params", *optimizer.defaults}
        remembered[f"{_GROUP}{index}"] = {name: value for name, value in group.items() if name not in told}
    flat = {f"{owner}/{name}": value for owner, state in remembered.items() for name, value in state.items()}
    tensors = {name: value for name, value in flat.items() if isinstance(value, torch.Tensor)}
    return tensors, {name: value for name, value in flat.items() if name not in tensors}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors, numbers: Json) -> None:
    """Put back what `optimizer_section` gave, into a new optimiser over the same parameters."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    state: dict[int, Json] = {}
    groups = optimizer.state_dict()["param_groups"]
    for key, value in (dict(tensors) | numbers).items():
        owner, _, name = key.partition("/")
        if owner.startswith(_GROUP):
            groups[int(owner.removeprefix(_GROUP))][name] = value
            continue
        index = int(owner)
        if isinstance(value, torch.Tensor) and value.shape == parameters[index].shape:
            # In the parameter's own layout: fused steps walk through both as they lie in memory.
            value = torch.empty_like(parameters[index]).copy_(value)  # noqa: PLW2901
        state.setdefault(index, {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def versions() -> dict[str, str]:
    """What else last bits depend on: libraries, and the instructions torch uses here."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
