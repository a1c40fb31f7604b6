"""What the first gate says of trainings for super-resolution."""

import pytest
from fastapi.testclient import TestClient

from app.access.principal import SYSTEM
from app.db import migrate
from app.main import create_app
from app.services import build_services
from app.settings import Settings
from models.manifest import Task, TileFacts
from tests.fine_tuning_world import publish_base
from tests.packs import publish_pack

JOBS = "/v1/fine_tuning/jobs"
PICTURES = {"task": "super-resolution", "model": "espcn_residual", "training_file": "photos:1"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """`photos` are pictures alone, `pairs` are 1 to 3; `larger` makes pictures twice as large."""
    folder = tmp_path_factory.mktemp("gate")
    settings = Settings(data_dir=folder / "data", default_classifier="", starters="", _env_file=None)
    migrate.upgrade(settings.sqlalchemy_url)
    services = build_services(settings)
    publish_base(
        services.registry,
        folder / "larger",
        name="larger",
        architecture="upconv7",
        task=Task.SUPER_RESOLUTION,
        tiles=TileFacts(scale=2, side=64, margin=7),
    )
    publish_base(services.registry, folder / "base", name="base")
    for seed, (name, ratio) in enumerate({"photos": None, "pairs": 3}.items()):
        report = {"labels": ["picture"], "ratio": ratio}
        task = "super-resolution"
        publish_pack(services.datasets, SYSTEM, folder, name=name, seed=seed, task=task, report=report)
    services.close()
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def answer_to(client, changes):
    body = {**PICTURES, **changes}
    return client.post(JOBS, json={key: value for key, value in body.items() if value is not None})


MISTAKES = [
    ({"loss": "cross_entropy"}, "loss.method", "charbonnier"),
    ({"loss": "dice"}, "loss.method", "ssim"),
    ({"loss": {"method": "charbonnier", "epslion": 1}}, "loss.epslion", "epsilon"),
    ({"mixing": "mixup", "loss": "l1"}, "mixing", "l1"),
    ({"sampler": "balanced"}, "sampler.method", "shuffle"),
    ({"augmentation": ["rotate"]}, "augmentation.0.method", "quarter_turns"),
    ({"augmentation": ["flip", "colour_jitter"]}, "augmentation.1.method", "flip"),
    ({"adapter": "lora"}, "adapter.method", "full"),
    ({"model": "larger", "adapter": "vera"}, "adapter.method", "lora"),
    ({"class_weights": "balanced"}, "class_weights", "no classes"),
    ({"image_size": 50}, "image_size", "48"),
    ({"scale": 8}, "scale", "4"),
    ({"scale": "2x"}, "scale", "integer"),
    ({"degradation": {"noise": "much"}}, "degradation.noise", "number"),
    ({"degradation": {"jpg_quality": 50}}, "degradation.jpg_quality", "jpeg_quality"),
    ({"model": "upconv7", "scale": 3}, "scale", "enlarges 2 times"),
    ({"model": "larger", "scale": 4}, "scale", "scale of the base is 2"),
    ({"training_file": "pairs", "scale": 2}, "scale", "ratio of the pairs is 3"),
    ({"training_file": "pairs", "model": "larger"}, "scale", "the ratio of the pairs 3"),
    ({"training_file": "pairs", "degradation": {"noise": 1}}, "degradation", "of its own"),
    ({"model": "base"}, "task", "classification"),
    ({"model": "unet_tiny"}, "task", "segmentation"),
    ({"output_model": "base"}, "output_model", "larger"),
]


@pytest.mark.parametrize(("changes", "param", "named"), MISTAKES)
def test_a_mistake_is_refused_with_its_field_and_what_would_do(client, changes, param, named):
    answer = answer_to(client, changes)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_spec", param), error
    assert named in f"{error['message']} {error['hint']}", error


def test_what_only_super_resolution_has_is_refused_for_others(client):
    for changes in ({"scale": 2}, {"degradation": {"noise": 1}}):
        answer = client.post(JOBS, json={"model": "base", "training_file": "photos", **changes})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == next(iter(changes))


GOOD = [
    {},
    {"model": "edsr", "scale": 4, "loss": "charbonnier", "image_size": 192},
    {"model": "srcnn", "loss": {"method": "ssim", "l1_weight": 0.2}, "augmentation": []},
    {"model": "vdsr", "training_file": "pairs", "scale": 3},
    {"model": "fsrcnn", "degradation": {"noise": 5, "jpeg_quality": 60}},
    {"model": "larger", "adapter": {"method": "lora", "r": 4}, "output_model": "larger"},
    {"model": "larger:1", "adapter": "full", "loss": "mse", "scale": 2},
    {"task": "image-to-image", "sampler": "sequential", "early_stopping": {"patience_epochs": 2}},
]


def test_good_requests_pass(client):
    assert len(GOOD) == 8
    for changes in GOOD:
        answer = client.post(JOBS, json={**PICTURES, **changes}, params={"dry_run": "true"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "queued"
