"""Every release's data dir is opened by this one: nothing is lost, and work goes on."""

import base64
import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from app import __version__
from app.db import migrate
from app.registry.verification import verify
from app.settings import Settings
from tests.app.supervisor.service_process import Service
from tests.e2e.training import Trainer
from tests.fixtures.write_data_dir import HERE, MAX_BYTES, classify, read

FOLDERS = sorted(path for path in HERE.glob("data-*") if path.is_dir())
MOMENTARY = {"ready"}
"""What may differ at any moment: whether a model is loaded."""


@dataclass(frozen=True)
class Opened:
    """A copy of an older data dir, in use."""

    said: dict
    settings: Settings
    trainer: Trainer
    revision: str | None
    """Of its database, before."""


def test_every_release_has_left_one():
    names = [folder.name for folder in FOLDERS]
    assert {"data-0.1.0", f"data-{__version__}"} <= set(names)
    assert {path.stem for path in HERE.glob("data-*.json")} == set(names)
    assert tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"] == __version__
    for folder in FOLDERS:
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= MAX_BYTES, folder


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def opened(request, tmp_path_factory):
    folder: Path = request.param
    data_dir = tmp_path_factory.mktemp("older") / "data"
    shutil.copytree(folder, data_dir)
    settings = Settings(_env_file=None, data_dir=data_dir)
    revision = migrate.current(settings.sqlalchemy_url)
    migrate.upgrade(settings.sqlalchemy_url)
    service = Service(data_dir).start()
    trainer = Trainer(service.wait_ready().url)
    yield Opened(json.loads(folder.with_name(f"{folder.name}.json").read_text()), settings, trainer, revision)
    trainer.client.close()
    service.end()


def test_its_database_reaches_the_newest_revision(opened):
    assert opened.revision is not None
    assert migrate.is_current(opened.settings.sqlalchemy_url)


def test_jobs_events_checkpoints_metrics_aliases_and_data_sets_are_as_they_were(opened):
    answers = opened.said["answers"]
    assert len(answers) >= 16
    differences = [
        difference
        for path, before in answers.items()
        for difference in compare(before, read(opened.trainer.client, path), at=path)
    ]
    assert differences == []


def test_its_model_answers_as_it_did(opened):
    picture = base64.b64decode(opened.said["picture"])
    assert classify(opened.trainer.client, picture) == pytest.approx(opened.said["predictions"], abs=1e-4)


def test_its_certificate_holds(opened):
    verification = verify(opened.settings, f"{opened.said['model']}@{opened.said['alias']}")
    assert verification.model == f"{opened.said['model']}:1"
    assert verification.computed.agreement.samples == verification.stored.agreement.samples > 0


def test_a_further_job_trains_its_model_on_its_data_set(opened):
    trainer, model = opened.trainer, opened.said["model"]
    job = trainer.create(
        model=model,
        dataset=trainer.job(opened.said["job"])["dataset"],
        adapter={"method": "head"},
        output_model=model,
        max_steps=2,
        batch_size=8,
        threads=1,
    )
    assert trainer.until(job, "succeeded")["fine_tuned_model"] == f"{model}:2"
    assert trainer.best_label(f"{model}:2", base64.b64decode(opened.said["picture"])) in "0123"


def compare(before, now, *, at):
    """Where the answer of today does not say what that of then said. It may say more."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for key in before
            if key not in MOMENTARY
            for difference in compare(before[key], now.get(key, "nothing"), at=f"{at} {key}")
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            difference
            for index, pair in enumerate(zip(before, now, strict=True))
            for difference in compare(*pair, at=f"{at} {index}")
        ]
    same = before == pytest.approx(now) if isinstance(before, float) else before == now
    return [] if same else [f"{at}: {before!r} is now {now!r}"]
