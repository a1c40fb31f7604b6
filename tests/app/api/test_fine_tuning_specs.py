"""Gate 1: mistakes in a request are refused by the POST, with the field and the nearest that would do."""

import random
from collections import Counter

import pytest

from tests.fine_tuning_world import JOBS, check_refused, open_gate


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with open_gate(tmp_path_factory.mktemp("gate")) as world:
        yield world


def typo(word: str, seed: int) -> str:
    """One slip of the fingers: a letter doubled, dropped, or two swapped."""
    chance = random.Random(seed)
    at = chance.randrange(1, len(word) - 1)
    slips = [
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1 :],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ]
    return chance.choice([slip for slip in slips if slip != word])


def unknown_fields():
    """(kind, changes, param, what the answer names)"""
    names = ("task", "adapter", "optimizer", "n_epochs", "batch_size", "image_size", "output_model", "suffix")
    for seed, name in enumerate(names):
        wrong = typo(name, seed)
        yield "field", {wrong: 1}, wrong, name


def unknown_methods():
    named = {
        "adapter": "rslora",
        "optimizer": "adamax",
        "schedule": "one_cycle",
        "loss": "label_smoothing",
        "sampler": "balanced",
        "mixing": "cutmix",
        "augmentation": "random_erasing",
    }
    for seed, (field, method) in enumerate(named.items()):
        wrong = typo(method, seed)
        param = "augmentation.0.method" if field == "augmentation" else f"{field}.method"
        yield "method", {field: wrong}, param, method
        yield "method", {field: {"method": wrong}}, param, method


def unknown_parameters():
    named = {
        "adapter": ("lora", "alpha"),
        "optimizer": ("sgd", "momentum"),
        "schedule": ("linear", "warmup_steps"),
        "loss": ("focal", "gamma"),
        "mixing": ("mixup", "alpha"),
        "augmentation": ("rand_augment", "magnitude"),
    }
    for seed, (field, (method, parameter)) in enumerate(named.items()):
        wrong = typo(parameter, seed)
        param = f"augmentation.0.{wrong}" if field == "augmentation" else f"{field}.{wrong}"
        yield "parameter", {field: {"method": method, wrong: 1}}, param, parameter


def wrong_values():
    yield from (
        ("value", {"learning_rate": 100}, "learning_rate", "10"),
        ("value", {"learning_rate": 0}, "learning_rate", "greater than 0"),
        ("value", {"head_rate_scale": 0}, "head_rate_scale", "greater than 0"),
        ("value", {"n_epochs": "many"}, "n_epochs", "integer"),
        ("value", {"n_epochs": 0}, "n_epochs", "1"),
        ("value", {"batch_size": 1.5}, "batch_size", "integer"),
        ("value", {"precision": "fp16"}, "precision", "bf16"),
        ("value", {"image_size": 8}, "image_size", "16"),
        ("value", {"task": "clasification"}, "task", "classification"),
        ("value", {"task": {"name": "classification"}}, "task", "classification"),
        ("value", {"seed": -1}, "seed", "0"),
        ("value", {"ema_decay": 1}, "ema_decay", "less than 1"),
        ("value", {"adapter": {"method": "lora", "r": 0}}, "adapter.r", "1"),
        ("value", {"optimizer": {"method": "sgd", "momentum": "high"}}, "optimizer.momentum", "number"),
        ("value", {"class_weights": {"red": -1}}, "class_weights", "greater than 0"),
        ("value", {"priority": 101}, "priority", "100"),
        ("value", {"metadata": {"team": 3}}, "metadata.team", "string"),
    )


def wrong_references():
    yield from (
        ("reference", {"model": "bsae"}, "model", "base"),
        ("reference", {"model": "resnet81"}, "model", "resnet18"),
        ("reference", {"model": "base:7"}, "model", "base:2"),
        ("reference", {"model": "base@betta"}, "model", "base@beta"),
        ("reference", {"model": "graph"}, "model", "base"),
        ("reference", {"model": "odd"}, "model", "base"),
        ("reference", {"training_file": "digits.zip"}, "training_file", "digits.zip"),
        ("reference", {"validation_file": "letters.zip"}, "validation_file", "letters.zip"),
        ("reference", {"training_file": "colour:1"}, "training_file", "colours"),
        ("reference", {"training_file": None, "dataset": "colors"}, "dataset", "colours"),
        ("reference", {"training_file": None, "dataset": "colours:9"}, "dataset", "1, 2"),
        ("reference", {"output_model": "bas"}, "output_model", "base"),
    )


def wrong_nested_keys():
    yield from (
        ("nested", {"early_stopping": {"patience": 3}}, "early_stopping.patience", "patience_epochs"),
        ("nested", {"early_stopping": {"min_dleta": 0.1}}, "early_stopping.min_dleta", "min_delta"),
        ("nested", {"hyperparameters": {"n_epoch": 3}}, "hyperparameters.n_epoch", "n_epochs"),
        ("nested", {"hyperparameters": {"batchsize": 3}}, "hyperparameters.batchsize", "batch_size"),
        ("nested", {"method": {"typ": "supervised"}}, "method.typ", "type"),
        (
            "nested",
            {"method": {"type": "supervised", "supervised": {"hyperparameter": {}}}},
            "method.supervised.hyperparameter",
            "hyperparameters",
        ),
        ("nested", {"method": {"type": "dpo"}}, "method.type", "supervised"),
    )


def wrong_combinations():
    yield from (
        ("combination", {"model": "resnet18", "adapter": "lora"}, "adapter.method", "full"),
        ("combination", {"model": "resnet18", "adapter": "bitfit"}, "adapter.method", "full"),
        ("combination", {"adapter": "vera"}, "adapter.method", "lora"),
        ("combination", {"mixing": "mixup", "loss": "focal"}, "mixing", "focal"),
        ("combination", {"suffix": "mine", "output_model": "base"}, "output_model", "suffix"),
        ("combination", {"dataset": "colours"}, "dataset", "training_file"),
        ("combination", {"training_file": None}, "training_file", "data set"),
        (
            "combination",
            {"training_file": "colours:1", "validation_file": "file_x"},
            "validation_file",
            "data set",
        ),
        ("combination", {"training_file": "cells:1"}, "training_file", "classification"),
        (
            "combination",
            {"training_file": "colours:1", "class_weights": {"rde": 2}},
            "class_weights.rde",
            "red",
        ),
        ("combination", {"task": "segmentation"}, "task", "classification"),
        ("combination", {"model": "unet_small"}, "model", "segmentation"),
        ("combination", {"model": "resnet18", "task": "segmentation"}, "task", "classification"),
        ("combination", {"loss": "dice"}, "loss.method", "bce"),
        ("combination", {"output_model": "masks"}, "output_model", "segmentation"),
        ("combination", {"suffix": "My Model"}, "suffix", "a-z"),
        ("combination", {"suffix": "base"}, "suffix", "output_model"),
        ("combination", {"n_epochs": 3, "hyperparameters": {"n_epochs": 4}}, "n_epochs", "3"),
        (
            "combination",
            {"learning_rate": 0.1, "hyperparameters": {"learning_rate_multiplier": 2}},
            "learning_rate",
            "multiplier",
        ),
        ("combination", {"model": "vit_tiny_patch16_224", "image_size": 100}, "image_size", "96"),
        ("combination", {"model": "lenet5", "adapter": "head"}, "adapter.method", "full"),
        ("combination", {"integrations": [{"type": "wandb"}]}, "integrations", "events"),
    )


MISTAKES = [
    *unknown_fields(),
    *unknown_methods(),
    *unknown_parameters(),
    *wrong_values(),
    *wrong_references(),
    *wrong_nested_keys(),
    *wrong_combinations(),
]


def test_there_are_enough_mistakes_of_each_kind():
    kinds = Counter(kind for kind, *_ in MISTAKES)
    assert len(MISTAKES) >= 60
    assert len(kinds) == 7
    assert min(kinds.values()) >= 6, kinds


@pytest.mark.parametrize(
    ("changes", "param", "named"),
    [pytest.param(*rest, id=f"{kind}-{at}") for at, (kind, *rest) in enumerate(MISTAKES)],
)
def test_a_mistake_is_refused_with_its_field_and_the_nearest_that_would_do(world, changes, param, named):
    client, things = world
    check_refused(client, {"model": "base", "training_file": things.file_id, **changes}, param, named)


GOOD = [
    {},
    {"model": "base@beta"},
    {"model": "base:1", "suffix": "digits"},
    {"model": "resnet18"},
    {"model": "lenet5", "adapter": {"method": "full"}, "image_size": 32},
    {"model": "vit_tiny_patch16_224", "image_size": 96},
    {"task": "image-classification", "adapter": {"method": "lora", "r": 8}},
    {"adapter": {"method": "dora", "r": 4, "alpha": 8, "dropout": 0.1}},
    {"adapter": "bitfit", "optimizer": {"method": "sgd", "momentum": 0.9, "nesterov": True}},
    {"schedule": {"method": "linear", "warmup_steps": 10}, "n_epochs": 2, "max_steps": 100},
    {"loss": {"method": "label_smoothing", "smoothing": 0.1}, "mixing": "cutmix"},
    {"augmentation": ["flip", {"method": "rand_augment", "magnitude": 9}], "sampler": "balanced"},
    {"augmentation": [], "class_weights": "balanced", "clip_norm": None},
    {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}, "seed": 7},
    {"hyperparameters": {"n_epochs": "auto", "batch_size": 16, "learning_rate_multiplier": "auto"}},
    {"n_epochs": 3, "hyperparameters": {"n_epochs": 3}},
    {"training_file": "colours:1", "class_weights": {"red": 2.0}},
    {"training_file": None, "dataset": "colours"},
    {"output_model": "base", "priority": 5, "time_limit_s": 600},
    {"validation_file": "letters", "metadata": {"team": "vision"}, "integrations": []},
    {"early_stopping": {"patience_epochs": 2}, "ema_decay": 0.99, "precision": "bf16"},
    {"suffix": None, "validation_file": None, "metadata": None, "method": None},
]


def test_good_requests_pass(world):
    client, things = world
    assert len(GOOD) >= 20
    for changes in GOOD:
        body = {"model": "base", "training_file": things.file_id, **changes}
        if changes.get("validation_file"):
            body["validation_file"] = things.other_file_id
        if "dataset" in changes:
            del body["training_file"]
        answer = client.post(JOBS, json=body, params={"dry_run": "true"})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["status"], answer.json()["dry_run"]) == ("queued", True)


def test_what_is_asked_is_what_the_job_says(world):
    client, _ = world
    body = {
        "model": "base@beta",
        "training_file": "colours",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 16}}},
        "adapter": {"method": "lora", "r": 4},
        "n_epochs": 3,
        "seed": 11,
        "metadata": {"team": "vision"},
        "output_model": "base",
    }
    job = client.post(JOBS, json=body, params={"dry_run": True}).json()
    assert job["spec"]["model"] == "base:2"
    assert (job["model"], job["dataset"], job["training_file"]) == ("base@beta", "colours:2", "colours:2")
    assert job["hyperparameters"] == {"n_epochs": 3, "batch_size": 16, "learning_rate_multiplier": "auto"}
    assert job["method"] == body["method"]
    assert job["spec"]["adapter"] == {"method": "lora", "parameters": {"r": 4}}
    assert (job["seed"], job["metadata"], job["planned_model"]) == (11, {"team": "vision"}, "base")
    assert (job["spec"]["n_epochs"], job["spec"]["batch_size"]) == (3, 16)
    assert client.get(f"/v1/jobs/{job['id']}").json()["kind"] == "preflight"


def test_a_multiplier_is_of_the_rate_that_would_be_chosen(world):
    client, things = world
    body = {"model": "base", "training_file": things.file_id}
    rates = []
    for multiplier in (1, 2):
        given = {"hyperparameters": {"learning_rate_multiplier": multiplier}}
        job = client.post(JOBS, json={**body, **given}, params={"dry_run": True}).json()
        assert job["hyperparameters"]["learning_rate_multiplier"] == multiplier
        rates.append(job["spec"]["learning_rate"])
    assert rates[0] == 5e-3  # of LoRA on a convolutional network
    assert rates[1] == 2 * rates[0]


def test_a_job_runs_again_with_other_values_and_makes_a_further_version_of_its_model(world):
    client, things = world
    body = {"model": "base", "training_file": things.file_id, "adapter": "lora", "n_epochs": 3}
    job = client.post(JOBS, json={**body, "suffix": "again"}, params={"dry_run": True}).json()
    again = client.post(f"{JOBS}/{job['id']}/rerun", json={"adapter.r": 16, "n_epochs": 5}).json()
    assert again["rerun_of"] == job["id"]
    assert again["spec"]["adapter"] == {"method": "lora", "parameters": {"r": 16}}
    assert (again["spec"]["n_epochs"], again["suffix"]) == (5, "again")
    unchanged = {key: value for key, value in again["spec"].items() if key not in ("adapter", "n_epochs")}
    assert unchanged.items() <= job["spec"].items()
    refused = client.post(f"{JOBS}/{job['id']}/rerun", json={"n_epoch": 5})
    assert refused.json()["error"]["param"] == "n_epoch"
    refused = client.post(f"{JOBS}/{job['id']}/rerun", json={"priority": 5})
    assert refused.json()["error"]["param"] == "priority"


@pytest.mark.parametrize("field", ["clip_norm", "ema_decay"])
def test_null_switches_off_what_is_on_by_default(world, field):
    client, things = world
    body = {"model": "base", "training_file": things.file_id}
    left, off = (
        client.post(JOBS, json=given, params={"dry_run": True}).json()
        for given in (body, {**body, field: None, "optimizer": None})
    )
    assert left["spec"][field] > 0
    assert off["spec"][field] is None
    assert off["spec"]["optimizer"] == left["spec"]["optimizer"]
    again = client.post(f"{JOBS}/{off['id']}/rerun", json={"n_epochs": 5}).json()
    assert again["spec"][field] is None


def test_the_route_of_all_jobs_checks_a_training_as_its_own_route_does(world):
    client, things = world
    body = {"model": "base", "training_file": things.file_id, "adapter": "lora", "learning_rate": 0.1}
    job = client.post(JOBS, json=body, params={"dry_run": True}).json()
    rerun = f"/v1/jobs/{job['id']}/rerun"
    again = client.post(rerun, json={"changes": {"adapter": {"method": "lora", "r": 4}}}).json()
    assert again["spec"]["train"]["adapter"] == {"method": "lora", "parameters": {"r": 4}}
    assert again["spec"]["train"]["learning_rate"] == 0.1
    for param, value in {"lerning_rate": 1, "training_file": "file-x"}.items():
        refused = client.post(rerun, json={"changes": {param: value}})
        assert refused.status_code in (400, 404)
        assert refused.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "body",
    [b"[]", b"3", b'"model"', b"{", b"\xff"],
)
def test_what_is_no_object_is_an_invalid_payload(world, body):
    client, _ = world
    answer = client.post(JOBS, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_payload")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "base", "learning_rate": NaN}',
        b'{"model": "base", "adapter": {"method": "lora", "r": 1e999}}',
        b'{"model": "ba\\u0000se"}',
        b'{"model": "base", "metadata": {"x": "\\ud800"}}',
        b'{"model": "base", "seed": 123456789012345678901234567890}',
        b'{"model": "base", "metadata": {"x": "' + b"x" * 2**20 + b'"}}',
    ],
)
def test_what_cannot_be_stored_is_refused(world, body):
    client, _ = world
    answer = client.post(JOBS, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_spec")
