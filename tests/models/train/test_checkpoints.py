"""Checkpoint files: whole or not there, of this run or refused."""

import pytest
import torch
from torch import nn

from models.train.checkpoint import (
    Checkpoint,
    CheckpointDamaged,
    CheckpointMismatch,
    copy_into,
    load_evaluated,
    optimizer_section,
    read_checkpoint,
    read_facts,
    restore_optimizer,
    write_checkpoint,
)


def checkpoint(step=7):
    return Checkpoint(
        step=step,
        facts={"loss": 0.1 + 0.2, "name": "é"},
        sections={
            "weights": {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3)},
            "optimizer": {"0/step": torch.tensor(7.0), "0/exp_avg": torch.randn(2, 2).t()},
            "best": {},
        },
    )


def test_what_is_written_is_read_to_the_bit(tmp_path):
    written = checkpoint()
    path = write_checkpoint(tmp_path, written)
    assert path == tmp_path / "checkpoint-7.safetensors"
    read = read_checkpoint(path)
    assert read.step == 7
    assert read.facts == {"loss": 0.1 + 0.2, "name": "é", "step": 7, "format": 1} == read_facts(path)
    assert set(read.sections) == {"weights", "optimizer"}
    for section in read.sections:
        assert set(read.section(section)) == set(written.section(section))
        for name, tensor in read.section(section).items():
            assert torch.equal(tensor, written.section(section)[name])
    assert read.section("best") == {}


def test_a_step_written_again_replaces_the_first_and_leaves_nothing_else(tmp_path):
    write_checkpoint(tmp_path, checkpoint())
    second = checkpoint()
    path = write_checkpoint(tmp_path, second)
    assert torch.equal(
        read_checkpoint(path).section("weights")["a.bias"], second.section("weights")["a.bias"]
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_file_that_was_cut_short_is_damaged(tmp_path, keep):
    path = write_checkpoint(tmp_path, checkpoint())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointDamaged, match="checkpoint-7"):
        read_checkpoint(path)


def test_a_file_of_something_else_is_damaged(tmp_path):
    path = tmp_path / "checkpoint-1.safetensors"
    path.write_bytes(b"PK\x03\x04 is no checkpoint")
    with pytest.raises(CheckpointDamaged):
        read_facts(path)


def test_tensors_of_another_network_are_refused_by_name():
    network = nn.Linear(4, 3)
    with pytest.raises(CheckpointMismatch, match=r"weight of shape \(2, 4\).*\(3, 4\)"):
        copy_into(network, {"weight": torch.zeros(2, 4)})
    with pytest.raises(CheckpointMismatch, match=r"other.weight.*nothing"):
        copy_into(network, {"other.weight": torch.zeros(3, 4)})


def test_tensors_are_copied_whatever_the_layout():
    network = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    given = torch.randn(5, 3, 3, 3)
    copy_into(network, {"weight": given})
    assert torch.equal(network.weight, given)
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    assert network.weight.requires_grad


def test_what_was_evaluated_is_the_average_where_there_is_one(tmp_path):
    network = nn.Linear(2, 2)
    plain = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    sections = {"weights": plain, "average": {name: 3 * tensor for name, tensor in plain.items()}}
    assert (
        load_evaluated(network, write_checkpoint(tmp_path, Checkpoint(step=1, facts={}, sections=sections)))
        == 1
    )
    assert torch.equal(network.weight, torch.full((2, 2), 3.0))
    load_evaluated(
        network, write_checkpoint(tmp_path, Checkpoint(step=2, facts={}, sections={"weights": plain}))
    )
    assert torch.equal(network.weight, torch.ones(2, 2))


def test_an_optimiser_s_state_takes_the_layout_of_its_parameters():
    """A fused step walks through parameter and state as they lie in memory."""
    network = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    network(torch.randn(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    tensors, numbers = optimizer_section(optimizer)
    assert numbers == {}
    again = torch.optim.AdamW(network.parameters(), lr=0.5, fused=True)
    restore_optimizer(again, {name: tensor.contiguous() for name, tensor in tensors.items()}, numbers)
    state = again.state[network.weight]["exp_avg"]
    assert state.stride() == network.weight.stride()
    assert torch.equal(state, optimizer.state[network.weight]["exp_avg"])
    assert again.param_groups[0]["lr"] == 0.5
