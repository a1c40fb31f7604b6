"""What the first gate says of trainings for segmentation."""

import pytest

from tests.fine_tuning_world import JOBS, check_refused, open_gate

MASKS = {"model": "unet_small", "task": "segmentation"}
OVER_ENCODER = {**MASKS, "model": "unet_resnet34", "training_file": "cells:1"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with open_gate(tmp_path_factory.mktemp("gate")) as world:
        yield world


MISTAKES = [
    ({"adapter": "lora"}, "adapter.method", "full"),
    ({"adapter": "pissa"}, "adapter.method", "lora"),
    ({"loss": "label_smoothing"}, "loss.method", "cross_entropy"),
    ({"loss": "poly1"}, "loss.method", "lovasz"),
    ({"augmentation": ["flip", "rand_augment"]}, "augmentation.1.method", "random_crop"),
    ({"augmentation": ["random_erasing"]}, "augmentation.0.method", "random_crop"),
    ({"mixing": "mixup"}, "mixing.method", "segmentation"),
    ({"sampler": "balanced"}, "sampler.method", "shuffle"),
    ({"class_weights": "balanced", "loss": "dice"}, "class_weights", "cross_entropy_weight"),
    ({"image_size": 100}, "image_size", "96"),
    ({"training_file": "colours:1"}, "training_file", "segmentation"),
    ({"loss": {"method": "tversky", "aplha": 1}}, "loss.aplha", "alpha"),
    ({"output_model": "base"}, "output_model", "masks"),
]

WRONG_ENCODERS = [
    ({"encoder": "depe"}, "encoder", "deep"),
    ({"encoder": "base:7"}, "encoder", "base:2"),
    ({"encoder": "graph"}, "encoder", "deep"),
    ({"encoder": "base"}, "encoder", "deep"),
    ({"encoder": "resnet34"}, "encoder", "deep"),
    ({"encoder": "cutter"}, "encoder", "deep"),
    ({"model": "fpn_test_resnet", "encoder": "nothing"}, "encoder", "GET /v1/models"),
    ({"model": "cutter", "encoder": "deep"}, "encoder", "architecture"),
    ({"model": "fpn_test_resnet", "encoder": "deep"}, "encoder", "fpn_resnet34"),
    ({"encoder": 3}, "encoder", "string"),
    ({"model": "unet_small", "encoder": "base"}, "encoder", "unet_resnet34"),
    ({"model": "segformer", "encoder": "base"}, "encoder", "unet_resnet34"),
]


@pytest.mark.parametrize(("changes", "param", "named"), MISTAKES)
def test_a_mistake_is_refused_with_its_field_and_what_would_do(world, changes, param, named):
    client, things = world
    check_refused(client, {"training_file": things.file_id, **MASKS, **changes}, param, named)


@pytest.mark.parametrize(("changes", "param", "named"), WRONG_ENCODERS)
def test_an_encoder_that_does_not_fit_is_refused_with_those_that_do(world, changes, param, named):
    check_refused(world[0], {**OVER_ENCODER, **changes}, param, named)


def test_a_classifier_has_no_encoder(world):
    client, things = world
    body = {"model": "base", "training_file": things.file_id, "encoder": "deep"}
    check_refused(client, body, "encoder", "segmentation")


def test_an_encoder_is_named_by_its_version_so_that_an_alias_that_moves_changes_no_job(world):
    client, _ = world
    body = {**OVER_ENCODER, "model": "fpn", "encoder": "deep"}
    job = client.post(JOBS, json=body, params={"dry_run": "true"}).json()
    spec = client.get(f"/v1/jobs/{job['id']}").json()["spec"]["train"]
    assert (spec["model"], spec["encoder"]) == ("fpn", "deep:1")


def test_a_job_that_runs_again_means_its_encoder_as_it_was_written(world):
    client, _ = world
    body = {**OVER_ENCODER, "model": "fpn", "encoder": "deep"}
    job = client.post(JOBS, json=body, params={"dry_run": "true"}).json()
    again = client.post(f"{JOBS}/{job['id']}/rerun", json={"n_epochs": 2}).json()
    spec = client.get(f"/v1/jobs/{again['id']}").json()["spec"]
    assert (spec["openai"]["encoder"], spec["train"]["encoder"], spec["train"]["n_epochs"]) == (
        "deep",
        "deep:1",
        2,
    )
    without = client.post(f"{JOBS}/{job['id']}/rerun", json={"encoder": None}).json()
    assert client.get(f"/v1/jobs/{without['id']}").json()["spec"]["train"]["encoder"] is None


GOOD = [
    {"task": "image-segmentation", "loss": "dice", "augmentation": ["flip", "rotate"]},
    {"model": "u2netp", "training_file": "cells:1", "output_model": "masks"},
    {**OVER_ENCODER, "encoder": "deep@default"},
]


def test_good_requests_pass(world):
    client, things = world
    assert len(GOOD) == 3
    for changes in GOOD:
        body = {"training_file": things.file_id, **MASKS, **changes}
        answer = client.post(JOBS, json=body, params={"dry_run": "true"})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["status"], answer.json()["dry_run"]) == ("queued", True)
