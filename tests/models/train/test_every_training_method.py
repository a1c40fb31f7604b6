"""Every method of the kinds that the loop uses takes steps, changes the network and reports."""

import math

import pytest

from models.catalogue import CATALOGUE, Kind, Proof
from models.manifest import Task
from models.train.spec import CHOICES
from tests.models.train.tiny_runs import TinyTrainable, bits, resolved, run_through

FIELDS = {field: kind for field, kind in CHOICES.items() if kind is not Kind.ADAPTER}
METHODS = [
    (field, row)
    for field, kind in FIELDS.items()
    for row in CATALOGUE.find(kind=kind, task=Task.CLASSIFICATION)
]


def test_the_matrix_has_every_row():
    assert len(METHODS) == 42
    assert all(row.proof is Proof.TRAINS for _, row in METHODS)


@pytest.mark.parametrize(("field", "row"), METHODS, ids=[f"{field}-{row.id}" for field, row in METHODS])
def test_a_method_trains(pack, tmp_path, field, row):
    spec = resolved(pack, max_steps=3, n_epochs=None, **{field: row.id})
    trainable, diary, trained = run_through(pack, spec, tmp_path)
    assert trained.steps == 3
    assert list(diary.rows) == [1, 2, 3]
    assert all(math.isfinite(value) for row in diary.rows.values() for value in row.values())
    before, after = bits(TinyTrainable().network), bits(trainable.network)
    changed = {name for name in before if before[name] != after[name]}
    assert {"0.weight", "3.weight", "8.weight"} <= changed


@pytest.mark.parametrize(("field", "row"), METHODS, ids=[f"{field}-{row.id}" for field, row in METHODS])
def test_a_method_goes_on_from_a_checkpoint_to_the_same_bits(pack, tmp_path, field, row):
    """What it remembers is in the optimiser's state and groups or in the network, nowhere else."""
    spec = resolved(pack, n_epochs=2, checkpoint_every_steps=7, **{field: row.id})
    whole, diary, _ = run_through(pack, spec, tmp_path / "whole")
    resumed, later, _ = run_through(pack, spec, tmp_path / "resumed", resume=diary.checkpoints[7])
    forgets = f"{row.id} remembers something that a checkpoint does not keep"
    assert later.rows == {step: told for step, told in diary.rows.items() if step > 7}, forgets
    assert bits(resumed.network) == bits(whole.network), forgets


@pytest.mark.parametrize(("field", "row"), METHODS, ids=[f"{field}-{row.id}" for field, row in METHODS])
def test_a_method_says_what_it_can_be_told(field, row):
    schema = row.parameters.model_json_schema()
    for name, told in schema.get("properties", {}).items():
        assert told.get("description"), f"{row.id}.{name} has no docstring"
        assert "default" in told, f"{row.id}.{name} has no default"
