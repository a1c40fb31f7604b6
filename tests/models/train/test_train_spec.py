"""What a job may be asked: names and nearest names, parameters, combinations, refused by field."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from models.catalogue import CATALOGUE, Kind
from models.train.spec import CHOICES, SpecError, TrainSpec, read_choice, read_spec


def test_a_model_alone_is_a_spec():
    spec = read_spec({"model": "efficientnet-lite0"})
    assert spec.adapter.method == "lora"
    assert spec.learning_rate is None


def test_names_and_objects_say_the_same():
    spec = read_spec(
        {"model": "m", "adapter": {"method": "lora", "r": 4}, "optimizer": "sgd", "augmentation": "flip"}
    )
    assert spec.adapter.parameters == {"r": 4}
    assert spec.adapter.told(Kind.ADAPTER).r == 4
    assert [choice.method for choice in spec.augmentation] == ["flip"]
    assert read_spec({"model": "m", "task": "image-classification"}).task == "classification"


def test_a_spec_that_was_stored_is_read_again():
    raw = {
        "model": "m",
        "adapter": {"method": "lora", "r": 4},
        "augmentation": ["flip", {"method": "rotate", "largest_degrees": 5}],
        "mixing": "mixup",
        "class_weights": {"a": 2.0},
        "early_stopping": {"patience_epochs": 2},
    }
    spec = read_spec(raw)
    assert read_spec(spec.model_dump(mode="json")) == spec
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_takes_every_method_of_its_kind(field):
    rows = CATALOGUE.find(kind=CHOICES[field])
    assert rows
    for row in rows:
        assert read_choice(CHOICES[field], row.id, param=field).method == row.id


def test_the_defaults_are_in_the_catalogue():
    spec = TrainSpec(model="m")
    for field, kind in CHOICES.items():
        choice = getattr(spec, field)
        if choice is not None:
            assert choice.row(kind).id == choice.method


MISTAKES = [
    ({"optimiser": "sgd"}, "optimiser", "optimizer"),
    ({"optimizer": "adamww"}, "optimizer.method", "adamw"),
    ({"adapter": {"r": 8}}, "adapter.method", "lora"),
    ({"adapter": {"method": "lora", "rank": 8}}, "adapter.rank", None),
    ({"adapter": {"method": "lora", "r": 0}}, "adapter.r", None),
    ({"adapter": 8}, "adapter", None),
    ({"augmentation": ["flip", "rotat"]}, "augmentation.1.method", "rotate"),
    ({"augmentation": [{"method": "flip", "share": 2}]}, "augmentation.0.share", None),
    ({"schedule": {"method": "cosine", "floor": 0.1}}, "schedule.floor", "floor_share"),
    ({"learning_rate": -1}, "learning_rate", None),
    ({"learning_rate": float("nan")}, "learning_rate", None),
    ({"n_epochs": 0}, "n_epochs", None),
    ({"batch_size": "many"}, "batch_size", None),
    ({"precision": "fp16"}, "precision", None),
    ({"task": "cooking"}, "task", None),
    ({"class_weights": {"a": 0}}, "class_weights", None),
    ({"early_stopping": {"patience": 3}}, "early_stopping.patience", None),
    ({"loss": "focal", "mixing": "mixup"}, "mixing", None),
    ({"model": ""}, "model", None),
]


@pytest.mark.parametrize(("raw", "param", "near"), MISTAKES, ids=[param for _, param, _ in MISTAKES])
def test_a_mistake_is_refused_by_its_field_and_the_nearest_name(raw, param, near):
    with pytest.raises(SpecError) as refused:
        read_spec({"model": "m", **raw})
    assert refused.value.param.startswith(param)
    assert refused.value.message
    if near is not None:
        assert near in refused.value.hint


def test_mixing_goes_with_losses_that_take_shares():
    taking = [row.id for row in CATALOGUE.find(kind=Kind.LOSS) if row.takes_shares]
    assert len(taking) >= 2
    for loss in taking:
        assert read_spec({"model": "m", "loss": loss, "mixing": "cutmix"}).mixing.method == "cutmix"


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValidationError):
        read_spec({"model": "m"}).seed = 3


def test_the_first_gate_needs_no_torch():
    code = "import sys, models.train.spec, models.train.resolve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
