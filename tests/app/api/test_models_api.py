from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.session import Database
from app.main import create_app
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import Certificate, Manifest, sha256_hex
from tests.colour_models import picture, publish_colours
from tests.registry_world import publish
from workers.kinds.import_spec import read_spec


@contextmanager
def gateway(folder):
    """A client of a gateway with two versions of one model, and the registry as a worker would use it."""
    settings = Settings(data_dir=folder / "data", default_classifier="", starters="", _env_file=None)
    migrate.upgrade(settings.sqlalchemy_url)
    database = Database(settings.sqlalchemy_url)
    registry = Registry(database, ObjectStore.from_settings(settings))
    publish_colours(registry, folder / "one", name="colours")
    publish_colours(registry, folder / "two", name="colours", labels=("rot", "gruen", "blau"))
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client, registry
    database.close()


@pytest.fixture
def client_and_registry(tmp_path):
    with gateway(tmp_path) as both:
        yield both


@pytest.fixture
def client(client_and_registry):
    return client_and_registry[0]


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory):
    """For tests that change nothing: requests that are refused."""
    with gateway(tmp_path_factory.mktemp("shared")) as (client, _):
        yield client


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def classify(client, reference):
    answer = client.post("/v1/classification", params={"model": reference}, content=picture("red"))
    assert answer.status_code == 200, answer.text
    return answer.json()["model"], answer.json()["predictions"][0]["label"]


def test_the_list_is_openais_with_more_keys(client):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    (model,) = listed["data"]
    created = model.pop("created")
    assert isinstance(created, int)
    assert model == {
        "id": "colours",
        "object": "model",
        "owned_by": "default",
        "task": "classification",
        "aliases": {"default": 1},
        "versions": [1, 2],
        "level": "imported",
        "ready": False,
    }
    classify(client, "colours")
    assert client.get("/v1/models/colours").json() == {**model, "created": created, "ready": True}


def test_a_version_shows_its_manifest_and_files_that_can_be_fetched_and_checked(client):
    listed = client.get("/v1/models/colours/versions").json()["data"]
    assert [(item["id"], item["aliases"]) for item in listed] == [
        ("colours:1", ["default"]),
        ("colours:2", []),
    ]
    version = client.get("/v1/models/colours/versions/2").json()
    assert version["labels"] == ["rot", "gruen", "blau"]
    assert version["inputs"] == [{"name": "image", "dtype": "uint8", "shape": [-1, 32, 32, 3]}]
    assert version["level"] == "imported"
    files = {file["name"]: file for file in version["artifacts"]}
    assert set(files) == {"model.onnx", "manifest.json", "certificate.json"}
    for file in files.values():
        answer = client.get(file["url"])
        assert sha256_hex(answer.content) == file["sha256"]
        assert len(answer.content) == file["bytes"]
        assert answer.headers["etag"] == f'"{file["sha256"]}"'
        unchanged = client.get(file["url"], headers={"If-None-Match": answer.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
    manifest = Manifest.model_validate_json(client.get(files["manifest.json"]["url"]).content)
    assert list(manifest.labels) == version["labels"]
    certificate = Certificate.model_validate(client.get("/v1/models/colours/versions/2/certificate").json())
    assert certificate.model_sha256 == files["model.onnx"]["sha256"]
    assert certificate.manifest_sha256 == files["manifest.json"]["sha256"]


def test_promote_and_rollback_change_what_answers_at_once(client):
    assert classify(client, "colours") == ("colours:1", "red")
    moved = client.put("/v1/models/colours/aliases/default", json={"version": 2}).json()
    assert moved == {
        "object": "model.alias",
        "model": "colours",
        "alias": "default",
        "version": 2,
        "previous_version": 1,
    }
    assert classify(client, "colours") == ("colours:2", "rot")
    assert client.post("/v1/models/colours/aliases/default/rollback").json()["version"] == 1
    assert classify(client, "colours") == ("colours:1", "red")


def test_an_alias_does_not_move_to_a_version_that_does_not_load(client_and_registry, tmp_path):
    client, registry = client_and_registry
    manifest = client.get("/v1/models/colours/versions/1").json()
    assert classify(client, "colours") == ("colours:1", "red")
    broken = publish(
        registry, SYSTEM, tmp_path / "broken", name="colours", model=b"not a graph", reference=None
    )
    answer = client.put("/v1/models/colours/aliases/default", json={"version": broken.number})
    assert code(answer) == (409, "not_servable")
    assert client.get("/v1/models/colours/versions/1").json()["aliases"] == manifest["aliases"]
    assert classify(client, "colours") == ("colours:1", "red")


def test_what_is_deleted_is_gone_and_what_is_needed_stays(client):
    client.put("/v1/models/colours/aliases/production", json={"version": 2})
    answer = client.delete("/v1/models/colours/versions/2")
    assert code(answer) == (409, "conflict")
    assert "colours@production" in answer.json()["error"]["message"]
    assert code(client.delete("/v1/models/colours")) == (409, "conflict")
    assert client.delete("/v1/models/colours/aliases/production").json()["id"] == "colours@production"
    assert client.delete("/v1/models/colours/versions/2").json() == {
        "id": "colours:2",
        "object": "model.version",
        "deleted": True,
    }
    assert code(client.get("/v1/models/colours/versions/2")) == (404, "unknown_version")
    assert classify(client, "colours") == ("colours:1", "red")
    assert client.delete("/v1/models/colours").json()["object"] == "model"
    assert client.get("/v1/models").json()["data"] == []
    answer = client.post("/v1/classification?model=colours", content=picture("red"))
    assert code(answer) == (404, "unknown_model")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/models/color", (404, "unknown_model")),
        ("GET", "/v1/models/NO%00PE", (404, "unknown_model")),
        ("GET", "/v1/models/color/versions", (404, "unknown_model")),
        ("GET", "/v1/models/colours/versions/9", (404, "unknown_version")),
        ("GET", "/v1/models/colours/versions/0", (422, "invalid_payload")),
        ("GET", f"/v1/models/colours/versions/{10**30}", (422, "invalid_payload")),
        ("GET", "/v1/models/colours/versions/9/certificate", (404, "unknown_version")),
        ("GET", "/v1/models/colours/versions/1/artifacts/secret", (404, "not_found")),
        ("POST", "/v1/models/colours/aliases/nope/rollback", (404, "unknown_version")),
        ("POST", "/v1/models/colours/aliases/default/rollback", (409, "conflict")),
        ("DELETE", "/v1/models/colours/aliases/default", (409, "conflict")),
        ("DELETE", "/v1/models/color", (404, "unknown_model")),
    ],
)
def test_what_does_not_exist_or_cannot_be_says_so(shared_client, method, path, expected):
    assert code(shared_client.request(method, path)) == expected


@pytest.mark.parametrize(
    ("alias", "body", "expected"),
    [
        ("default", {"version": 9}, (404, "unknown_version")),
        ("7", {"version": 2}, (400, "invalid_request")),
        ("default", {"version": "x"}, (422, "invalid_payload")),
        ("default", {"version": 2, "more": 1}, (422, "invalid_payload")),
        ("default", {}, (422, "invalid_payload")),
    ],
)
def test_an_alias_is_pointed_only_at_what_there_is(shared_client, alias, body, expected):
    assert code(shared_client.put(f"/v1/models/colours/aliases/{alias}", json=body)) == expected


@pytest.fixture
def file_id(client):
    return client.post("/v1/files", files={"file": ("m.onnx", b"graph")}).json()["id"]


def test_a_model_of_ones_own_becomes_an_import_job(client, file_id):
    body = {
        "name": "mine",
        "file": file_id,
        "labels": ["cat", "dog"],
        "mean": [1.0, 2.0, 3.0],
        "std": 127.5,
        "size": 64,
    }
    answer = client.post("/v1/models", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["kind"], job["status"]) == ("job", "import", "queued")
    assert client.get(answer.headers["location"]).json()["id"] == job["id"]
    assert job["spec"] == {
        "source": f"file:{file_id}",
        "sha256": sha256_hex(b"graph"),
        "name": "mine",
        "task": "classification",
        "manifest": {
            "labels": ["cat", "dog"],
            "mean": [1.0, 2.0, 3.0],
            "std": [127.5] * 3,
            "height": 64,
            "width": 64,
            "fit": "crop",
            "crop": 0.875,
            "interpolation": "bicubic",
            "channels": "rgb",
        },
        "reference": None,
    }


def test_an_upscaler_of_ones_own_has_no_labels_and_goes_in_windows(client, file_id):
    body = {"name": "larger", "file": file_id, "task": "super-resolution", "size": 96, "std": 255.0}
    answer = client.post("/v1/models", json=body | {"context": 4})
    assert answer.status_code == 202, answer.text
    usage = read_spec(answer.json()["spec"]).manifest
    assert (usage.fit, usage.height, usage.context, usage.overlap, usage.labels) == ("tiles", 96, 4, None, ())
    assert code(client.post("/v1/models", json=body | {"labels": ["cat"]})) == (400, "invalid_request")
    assert code(client.post("/v1/models", json=body | {"fit": "crop"})) == (400, "invalid_request")
    unlabelled = body | {"task": "segmentation", "fit": "tiles"}
    assert code(client.post("/v1/models", json=unlabelled)) == (422, "invalid_payload")


def test_an_import_is_asked_for_once_per_idempotency_key(client, file_id):
    body = {"name": "mine", "file": file_id, "labels": ["cat"], "height": 8, "width": 16}
    headers = {"Idempotency-Key": "once"}
    first, second = (client.post("/v1/models", json=body, headers=headers).json()["id"] for _ in range(2))
    assert first == second
    other = client.post("/v1/models", json={**body, "name": "other"}, headers=headers)
    assert code(other) == (409, "conflict")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/jobs", "/v1/datasets", "/v1/fine_tuning/jobs"])
def test_keys_of_the_services_own_are_not_for_clients(client, path):
    for key in ("starter:x", "checkpoint:ckpt_1", "request:0"):
        refused = client.post(path, json={}, headers={"Idempotency-Key": key})
        assert code(refused) == (422, "invalid_payload")
        told = refused.json()["error"]
        assert told["param"] == "idempotency-key"
        assert "begin with starter:" in told["message"]


@pytest.mark.parametrize(
    ("change", "expected", "param"),
    [
        ({"name": "Not A Name"}, (400, "invalid_request"), "name"),
        ({"file": "file_nope"}, (404, "not_found"), "file"),
        ({"reference": "file_nope"}, (404, "not_found"), "reference"),
        ({"name": "colours", "task": "segmentation"}, (409, "conflict"), "name"),
        ({"size": None}, (400, "invalid_request"), "size"),
        ({"height": 8}, (400, "invalid_request"), "size"),
        ({"std": 0}, (400, "invalid_request"), "std"),
        ({"std": [1, 0, 1]}, (400, "invalid_request"), "std"),
        ({"mean": 1e30}, (400, "invalid_request"), "mean"),
        ({"task": "embedding"}, (400, "invalid_request"), "task"),
        ({"task": "segmentation", "fit": "crop"}, (400, "invalid_request"), "fit"),
        ({"activation": "sigmoid"}, (400, "invalid_request"), "activation"),
        ({"labels": []}, (422, "invalid_payload"), "labels"),
        ({"task": "nonsense"}, (422, "invalid_payload"), "task"),
        ({"path": "/etc/passwd"}, (422, "invalid_payload"), "path"),
    ],
)
def test_an_import_that_cannot_work_is_refused_at_the_door(shared_client, change, expected, param):
    file_id = shared_client.post("/v1/files", files={"file": b"graph"}).json()["id"]
    body = {"name": "mine", "file": file_id, "labels": ["cat"], "size": 8, **change}
    answer = shared_client.post("/v1/models", json=body)
    assert code(answer) == expected
    assert answer.json()["error"]["param"] == param
    assert shared_client.get("/v1/jobs").json()["data"] == []
