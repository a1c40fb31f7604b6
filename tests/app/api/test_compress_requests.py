"""What may be asked of a compression is checked before there is a job."""

import pytest
from starlette.testclient import TestClient

from app.access.principal import SYSTEM
from app.main import create_app
from tests.colour_models import publish_colour_segmenter
from tests.compress_world import CompressPlace

ASKED = {"model": "colours", "precision": "int8", "dataset": "flags"}


@pytest.fixture
def place(tmp_path, sqlite_url):
    place = CompressPlace(tmp_path, sqlite_url)
    yield place
    place.database.close()


@pytest.fixture
def client(place):
    with TestClient(create_app(place.settings), base_url="http://127.0.0.1") as client:
        yield client


def ask(client, **spec):
    return client.post("/v1/jobs", json={"kind": "compress", "spec": {**ASKED, **spec}})


def test_names_are_resolved_when_it_is_queued(client):
    made = ask(client, model="colours@default")
    assert made.status_code == 201, made.text
    assert made.json()["kind"] == "compress"
    assert made.json()["spec"] == {
        "model": "colours:1",
        "precision": "int8",
        "dataset": "flags:1",
        "output_model": None,
        "keep": "if_faster",
        "least_gain": 1.1,
        "least_agreement": 0.99,
        "least_iou": 0.95,
        "least_psnr_db": 40.0,
    }


REFUSED = [
    ({"model": "colour"}, 404, "unknown_model"),
    ({"model": "colours:9"}, 404, "unknown_version"),
    ({"model": "colours@best"}, 404, "unknown_version"),
    ({"model": "Colours!"}, 400, "invalid_request"),
    ({"model": ""}, 422, "invalid_payload"),
    ({"dataset": "flag"}, 404, "unknown_dataset"),
    ({"dataset": "flags:2"}, 404, "unknown_version"),
    ({"dataset": "no set"}, 400, "invalid_request"),
    ({"dataset": None}, 422, "invalid_payload"),
    ({"precision": "int4"}, 422, "invalid_payload"),
    ({"keep": "sometimes"}, 422, "invalid_payload"),
    ({"least_agreement": 1.5}, 422, "invalid_payload"),
    ({"least_gain": "much"}, 422, "invalid_payload"),
    ({"output_model": "No Name"}, 400, "invalid_request"),
    ({"output_model": "shapes"}, 409, "conflict"),
    ({"model": "shapes"}, 400, "invalid_spec"),
    ({"calibration": "entropy"}, 422, "invalid_payload"),
]


@pytest.mark.parametrize(("spec", "status", "code"), REFUSED)
def test_what_makes_no_sense_is_refused_and_makes_no_job(client, place, spec, status, code):
    publish_colour_segmenter(place.registry, place.folder / "shapes", name="shapes")
    answer = ask(client, **spec)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.json()["error"]["message"]
    assert client.get("/v1/jobs").json()["data"] == []
    assert ask(client).status_code == 201


def test_what_is_wrong_is_named_by_its_field(client):
    assert ask(client, precision="int4").json()["error"]["param"] == "spec.precision"
    assert ask(client, dataset=None).json()["error"]["param"] == "spec.dataset"
    assert client.post("/v1/jobs", json={"kind": "compress"}).json()["error"]["param"] == "spec"
    source = client.post("/v1/jobs", json={"kind": "import", "spec": {"name": "x"}})
    assert source.json()["error"]["param"] == "spec.source"


def test_a_compressed_version_is_not_compressed_again(client, place):
    place.publish(precision="fp16")
    refused = ask(client, model="colours:2")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_spec")
    assert "colours:2 is compressed already (fp16)" in refused.json()["error"]["message"]


def test_it_runs_again_with_fields_changed_and_checked_as_before(client):
    job_id = ask(client).json()["id"]
    again = client.post(f"/v1/jobs/{job_id}/rerun", json={"changes": {"precision": "fp16"}})
    assert (again.status_code, again.json()["spec"]["precision"]) == (201, "fp16")
    refused = client.post(f"/v1/jobs/{job_id}/rerun", json={"changes": {"precision": "int4"}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "changes.precision")
    refused = client.post(f"/v1/jobs/{job_id}/rerun", json={"changes": {"model": "colour"}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "unknown_model")


def test_what_it_needs_stays_until_it_has_ended(client):
    job_id = ask(client, output_model="not-there-yet").json()["id"]
    for path in ("/v1/models/colours", "/v1/datasets/flags"):
        refused = client.delete(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        assert job_id in refused.json()["error"]["message"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    for path in ("/v1/models/colours", "/v1/datasets/flags"):
        assert client.delete(path).status_code == 200


def test_the_result_says_in_what_precision_it_is(client, place):
    place.publish(precision="fp16")
    assert client.get("/v1/models/colours/versions/2").json()["precision"] == "fp16"
    certificate = client.get("/v1/models/colours/versions/2/certificate").json()
    assert certificate["compared_with"]["model"] == "colours:1"
    assert place.registry.get_version(SYSTEM, "colours", 1).certificate.compared_with is None
