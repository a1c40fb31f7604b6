"""Checkpoints of real trainings become versions that answer: one service, and what is in its object store."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load, load_file
from sklearn.datasets import load_digits

from app.access.principal import SYSTEM
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.build.network import build_network
from models.catalogue.architectures import of_network
from models.export.eager import run_eager
from models.manifest import Manifest
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits
from tests.app.supervisor.service_process import REPOSITORY, Service
from tests.e2e.training import CLASSES, Trainer, digits_zip, png

JOBS = "/v1/fine_tuning/jobs"
PICTURES = [png(load_digits().images[index]) for index in (3, 10, 42)]


class Publisher(Trainer):
    """A client that publishes checkpoints."""

    def __init__(self, service):
        super().__init__(service.url)
        self.service = service

    def checkpoints(self, job_id):
        return {
            one["step_number"]: one for one in self.client.get(f"{JOBS}/{job_id}/checkpoints").json()["data"]
        }

    def ask(self, job_id, which):
        return self.client.post(f"{JOBS}/{job_id}/checkpoints/{which}/publish")

    def publish(self, job_id, which):
        """Ask for it, and wait until it is there; its job."""
        answer = self.ask(job_id, which)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        while not (job := self.client.get(answer.headers["location"]).json())["finished_at"]:
            time.sleep(0.1)
        assert job["status"] == "succeeded", job
        return job

    def model(self, name):
        answer = self.client.get(f"/v1/models/{name}")
        assert answer.is_success, answer.text
        return answer.json()

    def scores(self, model, picture):
        """Probabilities by label, in their order."""
        answer = self.client.post(f"/v1/classification?model={model}&top_k={CLASSES}", content=picture)
        assert answer.is_success, answer.text
        given = {each["label"]: each["score"] for each in answer.json()["predictions"]}
        return answer.json()["model"], [given[str(label)] for label in range(CLASSES)]

    def file_of(self, job_id, step):
        """The checkpoint itself."""
        kept = self.client.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]
        [sha256] = [one["sha256"] for one in kept if one["step"] == step]
        settings = Settings(data_dir=self.service.data_dir, _env_file=None)
        return ObjectStore.from_settings(settings).fetch(SYSTEM, sha256)


@pytest.fixture(scope="module")
def publisher(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("checkpoints") / "data", CPU_THREADS=1).start()
    service.wait_ready()
    publisher = Publisher(service)
    yield publisher
    publisher.client.close()
    service.end()


@pytest.fixture(scope="module")
def trained(publisher):
    """Twelve steps with a moving average; checkpoints at 4, 8 and 12."""
    job_id = publisher.create(
        model="lenet5",
        training_file=publisher.upload(digits_zip()),
        adapter={"method": "full"},
        suffix="kept",
        max_steps=12,
        checkpoint_every_steps=4,
        ema_decay=0.7,
        threads=1,
    )
    return publisher.until(job_id, "succeeded")


@pytest.fixture(scope="module")
def fourth(publisher, trained):
    """The job that has published its first checkpoint."""
    return publisher.publish(trained["id"], "ckpt-4")


def softmax(logits):
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def test_before_it_is_published_its_name_says_how_that_is_done(publisher, trained):
    for name in ("kept@ckpt-12", "nobody@ckpt-12"):
        answer = publisher.client.post(f"/v1/classification?model={name}", content=PICTURES[0])
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "unknown_version")
        assert "checkpoints/ckpt-12/publish" in error["hint"]
    body = {"model": "kept@ckpt-12", "dataset": trained["dataset"]}
    error = publisher.client.post(JOBS, json=body).json()["error"]
    assert (error["code"], error["param"]) == ("unknown_version", "model")
    assert "checkpoints/ckpt-12/publish" in error["hint"]


def test_what_answers_is_the_network_of_that_step_with_its_average(publisher, trained, fourth):
    assert sorted(publisher.checkpoints(trained["id"])) == [4, 8, 12]
    assert (fourth["result"]["model"], fourth["result"]["checkpoint"]) == ("kept:2", "kept@ckpt-4")
    tensors = load_file(publisher.file_of(trained["id"], 4))
    state = {}
    for section in ("weights", "buffers", "average"):
        state |= {key.partition("/")[2]: one for key, one in tensors.items() if key.startswith(f"{section}/")}
    assert {key.partition("/")[0] for key in tensors} >= {"weights", "average"}
    network = build_network(of_network("lenet5"), num_classes=CLASSES, image_size=32).eval()
    network.load_state_dict(state)
    manifest = Manifest.model_validate_json(publisher.artifact("kept", "manifest.json", version=2))
    codec = ClassificationCodec(manifest, ImageLimits())
    for picture in PICTURES:
        model, scores = publisher.scores("kept@ckpt-4", picture)
        images = np.stack([codec.decode(picture)])
        expected = softmax(run_eager(network, manifest.preprocessing, images)[0])
        assert model == "kept:2"
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        last = publisher.scores("kept", picture)[1]
        assert np.abs(np.array(last) - expected).max() > 1e-3


def test_it_is_certified_and_reported_as_the_training_was_then(publisher, trained, fourth):
    certificate = json.loads(publisher.artifact("kept", "certificate.json", version=2))
    assert certificate["level"] == "certified"
    report = json.loads(publisher.artifact("kept", "report.json", version=2))
    assert (report["steps"], report["best_step"], report["job_id"]) == (4, 4, trained["id"])
    assert report["dataset"]["reference"] == trained["dataset"]
    assert max(report["curves"]["train_loss"]["steps"]) <= 4
    assert report["evaluation"]["accuracy"] == fourth["result"]["accuracy"]


def test_default_stays_and_the_alias_cannot_be_made_or_moved_by_hand(publisher, trained, fourth):
    assert publisher.model("kept")["aliases"] == {"default": 1, "ckpt-4": 2}
    answer = publisher.client.put("/v1/models/kept/aliases/ckpt-4", json={"version": 1})
    assert answer.status_code == 400, answer.text


def test_asked_for_twice_it_is_the_same_version(publisher, trained, fourth):
    by_id = publisher.checkpoints(trained["id"])[4]["id"]
    assert publisher.publish(trained["id"], by_id)["id"] == fourth["id"]
    assert publisher.publish(trained["id"], "ckpt-4")["result"]["model"] == "kept:2"
    publisher.client.delete("/v1/models/kept/aliases/ckpt-4")
    assert publisher.publish(trained["id"], "ckpt-4")["id"] == fourth["id"]
    assert publisher.model("kept")["aliases"]["ckpt-4"] == 2


def test_an_adapter_is_trained_from_it_and_its_checkpoints_are_published_too(publisher, trained, fourth):
    job_id = publisher.create(
        model="kept@ckpt-4",
        dataset=trained["dataset"],
        adapter={"method": "lora", "r": 2},
        output_model="kept",
        max_steps=8,
        checkpoint_every_steps=4,
        ema_decay=None,
        threads=1,
    )
    job = publisher.until(job_id, "succeeded")
    assert (job["model"], job["spec"]["model"]) == ("kept@ckpt-4", "kept:2")
    report = json.loads(publisher.artifact("kept", "report.json", version=3))
    assert report["base"] == "model:kept:2"
    assert publisher.publish(job_id, "ckpt-8")["result"]["model"] == "kept:4"
    trainable = load_file(publisher.file_of(job_id, 8))
    adapter = load(publisher.artifact("kept", "adapter_model.safetensors", version=4))
    ours = {one.numpy().tobytes() for name, one in trainable.items() if name.startswith("weights/")}
    assert len(ours) >= 8
    assert ours == {one.numpy().tobytes() for one in adapter.values()}
    # Another job of the same model has a checkpoint of step 4 as well: the name is taken.
    refused = publisher.ask(job_id, "ckpt-4")
    assert refused.status_code == 409
    assert refused.json()["error"]["message"] == "kept@ckpt-4 is kept:2 already."


def test_what_forks_runs_has_one_thread_and_only_imported(publisher, trained, fourth):
    """Whatever another thread held would be held for ever in what is forked; ONNX Runtime has one."""
    (process,) = [pid for pid, said in publisher.service.processes().items() if "workers.nursery" in said]
    maps = Path(f"/proc/{process}/maps").read_text()
    assert "libtorch" in maps
    assert "onnxruntime" not in maps
    assert len(list(Path(f"/proc/{process}/task").iterdir())) == 1


def test_a_job_that_was_cancelled_gives_its_newest_checkpoint_as_a_new_model(publisher, trained):
    job_id = publisher.create(
        model="lenet5",
        dataset=trained["dataset"],
        adapter={"method": "full"},
        suffix="stopped",
        max_steps=100_000,
        checkpoint_every_steps=5,
        threads=1,
    )
    while not publisher.checkpoints(job_id):
        assert publisher.job(job_id)["status"] not in {"failed", "succeeded"}
        time.sleep(0.1)
    refused = publisher.ask(job_id, "ckpt-5")
    assert refused.status_code == 409
    assert f"{JOBS}/{job_id}/cancel" in refused.json()["error"]["hint"]
    publisher.client.post(f"{JOBS}/{job_id}/pause")
    publisher.until(job_id, "paused")
    assert publisher.ask(job_id, "ckpt-5").status_code == 409
    publisher.client.post(f"{JOBS}/{job_id}/cancel")
    publisher.until(job_id, "cancelled")
    step = max(publisher.checkpoints(job_id))
    gone = publisher.ask(job_id, "ckpt-1")
    error = gone.json()["error"]
    assert (gone.status_code, error["code"], error["param"]) == (404, "not_found", "checkpoint_id")
    assert f"ckpt-{step}" in error["hint"]
    assert publisher.publish(job_id, f"ckpt-{step}")["result"]["model"] == "stopped:1"
    assert publisher.model("stopped")["aliases"] == {"default": 1, f"ckpt-{step}": 1}
    assert publisher.scores("stopped", PICTURES[0]) == publisher.scores(f"stopped@ckpt-{step}", PICTURES[0])


def test_the_command_line_lists_publishes_and_asks_them(publisher, trained, tmp_path):
    def athanor(*arguments):
        command = [sys.executable, "-c", "from app.cli import main; main()", *arguments]
        environment = {**publisher.service.environment, "ATHANOR_URL": publisher.service.url}
        return subprocess.run(
            command, env=environment | {"PATH": os.environ["PATH"]}, cwd=REPOSITORY,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    listed = athanor("jobs", "checkpoints", trained["id"]).stdout
    assert "kept@ckpt-12" in listed
    assert athanor("jobs", "publish-checkpoint", trained["id"], "12", "--watch").returncode == 0
    number = publisher.model("kept")["aliases"]["ckpt-12"]
    again = athanor("jobs", "publish-checkpoint", trained["id"], "ckpt-12")
    assert again.stdout == f"kept@ckpt-12 is kept:{number}.\n"
    (tmp_path / "digit.png").write_bytes(PICTURES[0])
    answer = athanor("classify", str(tmp_path / "digit.png"), "--model", "kept@ckpt-12", "--json")
    assert f'"kept:{number}"' in answer.stdout.replace(" ", "")
    assert athanor("jobs", "publish-checkpoint", trained["id"], "5").returncode != 0
