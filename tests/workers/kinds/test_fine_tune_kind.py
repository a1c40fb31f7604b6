"""The kind as a child process runs it, on real pictures, up to what the worker publishes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from app.access.principal import SYSTEM
from app.errors import InvalidSpec, NotServable
from app.fine_tuning.view import planned_name
from models.build.network import build_network
from models.catalogue.architectures import of_network
from models.data.pack import Pack, Split
from models.evaluate.classification import evaluate
from models.manifest import CERTIFICATE_FILE, MANIFEST_FILE, WEIGHTS_FILE
from models.train.feed import PackSource
from models.train.predict import predict
from models.train.resolve import ResolvedSpec
from tests.workers.kinds.training_place import TrainingPlace
from workers.context import Interrupted
from workers.kinds.fine_tune import run
from workers.kinds.preflight import run as run_preflight


@pytest.fixture
def place(tmp_path, sqlite_url):
    place = TrainingPlace(tmp_path, sqlite_url)
    yield place
    place.database.close()


def report_of(outcome):
    return json.loads(outcome.publish.artifacts["report.json"].read_bytes())


def test_what_was_measured_last_is_in_the_report_though_nobody_has_written_it_down_yet(place):
    outcome = run(place.context(place.order(n_epochs=3, max_steps=None)))
    curves = report_of(outcome)["curves"]
    assert len(place.measured) >= 3
    assert curves["train_loss"]["steps"] == sorted(place.measured)
    assert curves["train_loss"]["values"] == [row["train_loss"] for row in place.measured.values()]


def test_a_base_with_underscores_in_its_name_is_published_under_the_promised_name(place):
    context = place.context(place.order(model="test_resnet", image_size=32, max_steps=1))
    promised = planned_name(place.jobs.get(SYSTEM, context.job_id))
    assert promised == f"test_resnet-{context.job_id[-8:]}"
    assert str(place.publish(run(context))) == f"{promised}:1"


def test_a_name_that_was_asked_for_is_the_name(place):
    for number, field in enumerate(("suffix", "output_model"), start=1):
        context = place.context(place.order(max_steps=1, around={field: "more"}))
        assert planned_name(place.jobs.get(SYSTEM, context.job_id)) == "more"
        assert str(place.publish(run(context))) == f"more:{number}"


def test_what_is_published_is_marked_in_full_precision_however_it_was_trained(place):
    outcome = run(place.context(place.order(precision="bf16", max_steps=30, learning_rate=0.01)))
    spec = ResolvedSpec.model_validate(place.facts["spec"])
    assert spec.precision == "bf16"
    manifest, files = outcome.publish.manifest, outcome.publish.artifacts
    network = build_network(of_network(manifest.architecture), num_classes=3, image_size=spec.image_size)
    network.load_state_dict(load_file(files[WEIGHTS_FILE]))
    pack = Pack(next(place.folder.glob("*.pack")))
    logits, targets = predict(
        network, PackSource.of(pack, Split.TEST, spec, preprocessing=manifest.preprocessing)
    )
    exact = evaluate(logits, targets, pack.labels, [item.name for item in pack.of(Split.TEST)])
    assert report_of(outcome)["evaluation"]["nll"] == pytest.approx(exact.nll, rel=1e-6)


def test_the_manifest_that_is_published_is_the_one_in_the_file(place):
    published = run(place.context(place.order(max_steps=1))).publish
    assert published.artifacts[MANIFEST_FILE].read_bytes() == published.manifest.to_json()
    assert published.artifacts[CERTIFICATE_FILE].read_bytes() == published.certificate.to_json()


def test_a_trained_network_that_becomes_no_graph_is_refused_with_what_to_do(place, monkeypatch):
    monkeypatch.setattr("models.export.onnx.MAX_BYTES", 1000)
    with pytest.raises(NotServable, match="one file holds 1000") as refused:
        run(place.context(place.order(max_steps=1)))
    assert "checkpoints" in refused.value.hint


def test_a_run_that_is_stopped_while_it_evaluates_leaves_off(place):
    phases = []
    context = place.context(
        place.order(max_steps=1),
        progress=lambda fraction, phase: phases.append(phase),
        stop_asked=lambda: "evaluating" in phases,
    )
    with pytest.raises(Interrupted):
        run(context)
    assert phases[-1] == "evaluating"


def test_checkpoints_carry_what_was_measured_and_nothing_else(place):
    kept = []
    run(place.context(place.order(), checkpoint=lambda step, path, metrics: kept.append((step, metrics))))
    step, metrics = kept[-1]
    assert metrics == place.measured[step]


def test_a_base_that_is_named_by_an_alias_is_refused_since_it_may_mean_something_else_by_now(place):
    for name in ("somebody", "somebody@best"):
        with pytest.raises(InvalidSpec, match="names no version") as raised:
            run(replace(place.context(place.order()), spec=place.order(model=name)))
        assert (raised.value.param, raised.value.hint) == ("model", "Write somebody:NUMBER.")


def test_a_preflight_measures_a_step_and_takes_none(place):
    outcome = run_preflight(place.context(place.order() | {"dry_run": True}))
    assert outcome.publish is None
    assert outcome.result["estimate"]["seconds"] > 0
    assert np.isin(["dataset", "spec", "threads"], list(outcome.result)).all()
    assert place.measured == {}


def test_a_spec_of_an_earlier_release_says_nothing_of_the_kind(place):
    assert run(place.context(place.order(max_steps=1) | {"dry_run": True})).publish is not None
