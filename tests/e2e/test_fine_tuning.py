"""From a zip of pictures to a certified version that answers: one service, real training, HTTP alone."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from models.evaluate.picture_marks import psnr
from models.tasks.restoration import smaller
from tests.app.supervisor.service_process import Service
from tests.e2e.training import CLASSES, Trainer, digits_zip, png
from tests.models.train.tiny_pictures import encoded, stripes


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("training") / "data").start()
    service.wait_ready()
    trainer = Trainer(service.url)
    yield trainer
    trainer.client.close()
    service.end()


@pytest.fixture(scope="module")
def base(trainer):
    """A network trained from scratch, the base of the tests that adapt one."""
    file_id = trainer.upload(digits_zip())
    job_id = trainer.create(
        model="lenet5",
        training_file=file_id,
        adapter={"method": "full"},
        suffix="base",
        max_steps=60,
        threads=1,
    )
    return trainer.until(job_id, "succeeded")


def test_the_new_version_answers_pictures_it_has_never_seen(trainer, base):
    assert base["fine_tuned_model"] == "base"
    digits = load_digits()
    right = 0
    for label in range(CLASSES):
        for index in np.flatnonzero(digits.target == label)[60:70]:
            right += trainer.best_label("base", png(digits.images[index])) == str(label)
    assert right >= 0.9 * 10 * CLASSES


def test_its_certificate_holds_and_its_report_says_what_was_done(trainer, base):
    certificate = json.loads(trainer.artifact("base", "certificate.json"))
    assert certificate["level"] == "certified"
    assert certificate["agreement"]["max_abs"] <= certificate["agreement"]["tolerance"]
    report = json.loads(trainer.artifact("base", "report.json"))
    assert report["evaluation"]["accuracy"] > 0.9
    assert report["evaluation"]["baseline"]["accuracy"] < 0.5
    assert report["steps"] == 60
    assert report["curves"]["train_loss"]["values"][-1] < report["curves"]["train_loss"]["values"][0]
    page = trainer.artifact("base", "report.html")
    assert b"<html" in page
    assert base["dataset"].endswith(":1")
    counts = report["dataset"]["images"]
    assert counts["train"] + counts["validation"] + counts["test"] == 40 * CLASSES


def test_an_adapter_on_it_trains_little_and_becomes_a_further_version(trainer, base):
    job_id = trainer.create(
        model="base",
        dataset=base["dataset"],
        adapter={"method": "lora", "r": 2},
        output_model="base",
        n_epochs=1,
        threads=1,
    )
    job = trainer.until(job_id, "succeeded")
    assert job["fine_tuned_model"] == "base:2"
    assert 0 < job["trainable_parameters"] < job["total_parameters"] / 2
    names = json.loads(trainer.artifact("base", "adapter_config.json", version=2))
    assert names["r"] == 2
    certificate = json.loads(trainer.artifact("base", "certificate.json", version=2))
    assert certificate["level"] == "certified"
    assert trainer.best_label("base:2", png(load_digits().images[0])) == "0"


def test_a_dry_run_estimates_and_trains_nothing(trainer, base):
    answer = trainer.client.post(
        "/v1/fine_tuning/jobs?dry_run=true",
        json={"model": "base", "dataset": base["dataset"], "adapter": {"method": "head"}},
    )
    job = trainer.until(answer.json()["id"], "succeeded")
    assert job["fine_tuned_model"] is None
    assert job["estimate"]["seconds"] > 0
    assert trainer.client.get(f"/v1/fine_tuning/jobs/{job['id']}/checkpoints").json()["data"] == []


def test_a_zip_that_is_no_data_set_ends_the_job_before_training_with_the_file_named(trainer):
    file_id = trainer.upload(b"PK\x03\x04 not really", "broken.zip")
    job_id = trainer.create(model="lenet5", training_file=file_id, adapter={"method": "full"})
    job = trainer.until(job_id, "failed")
    assert job["error"]["code"] == "invalid_dataset"
    assert "broken.zip" in job["error"]["message"]
    assert job["resumed_from_step"] is None


def test_a_network_that_enlarges_answers_with_what_its_report_says(trainer):
    chance, pictures = np.random.default_rng(8), {}
    for split, count in {"train": 6, "valid": 1, "test": 1}.items():
        pictures |= {f"{split}/{at}.png": stripes(chance, side=48) for at in range(count)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, pixels in pictures.items():
            archive.writestr(name, encoded(pixels))
    job_id = trainer.create(
        task="super-resolution",
        model="espcn_residual",
        training_file=trainer.upload(buffer.getvalue(), "stripes.zip"),
        suffix="larger",
        image_size=24,
        max_steps=30,
        threads=1,
    )
    job = trainer.until(job_id, "succeeded")
    assert job["fine_tuned_model"] == "larger"
    assert json.loads(trainer.artifact("larger", "certificate.json"))["level"] == "certified"
    large = pictures["test/0.png"]
    answer = trainer.client.post(
        "/v1/super-resolution?model=larger&scale=2", content=encoded(smaller(large, 2))
    )
    assert answer.is_success, answer.text
    made = np.asarray(Image.open(io.BytesIO(answer.content)))
    marks = json.loads(trainer.artifact("larger", "report.json"))["evaluation"]
    assert psnr(made, large, border=2) == pytest.approx(marks["psnr"], abs=0.01)
    assert b"over cubic interpolation" in trainer.artifact("larger", "report.html")
