import gc
import io
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.tables import JobRow
from app.jobs.job import JobError
from app.jobs.states import JobStatus
from app.jobs.store import JobStore
from app.main import create_app
from app.services import build_services
from app.settings import Settings
from tests.colour_models import COLOURS
from tests.packs import publish_pack


@pytest.fixture
def settings(tmp_path):
    settings = Settings(data_dir=tmp_path / "data", default_classifier="", starters="", _env_file=None)
    migrate.upgrade(settings.sqlalchemy_url)
    return settings


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def services(settings):
    """Another process on the same data dir."""
    services = build_services(settings)
    yield services
    services.database.close()


@pytest.fixture
def file_id(client):
    return client.post("/v1/files", files={"file": ("flowers.zip", b"PK")}).json()["id"]


@pytest.fixture
def publish(services, tmp_path):
    """Publish a version as a worker does, and give its name and number."""

    def act(name="flowers", **options):
        return str(publish_pack(services.datasets, SYSTEM, tmp_path / "packs", name=name, **options))

    return act


@pytest.fixture
def end(services):
    """End a job as a worker does."""

    def act(job_id, status, *, facts=None, **options):
        store = JobStore(services.database)
        claimed = store.claim(job_id, holder="w1", lease_s=20)
        with services.database.begin() as session:
            session.get(JobRow, job_id).facts = facts
            session.flush()
            store.finish(session, job_id, claimed.token, status, **options)

    return act


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def post(client, **body):
    return client.post("/v1/datasets", json=body)


def test_a_data_set_is_seen_from_the_moment_it_is_asked_for(client, services, file_id, publish, end):
    made = post(
        client, name="flowers", file_id=file_id, options={"validation_share": 0.2, "skip_broken": True}
    )
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/v1/datasets/flowers"
    body = made.json()
    assert {key: body[key] for key in ("id", "object", "task", "status", "error", "latest", "versions")} == {
        "id": "flowers",
        "object": "dataset",
        "task": "classification",
        "status": "validating",
        "error": None,
        "latest": None,
        "versions": [],
    }
    job = services.jobs.get(SYSTEM, body["job_id"])
    assert (job.kind, job.spec) == (
        "dataset",
        {
            "name": "flowers",
            "task": "classification",
            "file_ids": [file_id],
            "base": None,
            "options": {"validation_share": 0.2, "skip_broken": True},
        },
    )
    assert client.get("/v1/datasets/flowers").json() == body
    assert client.get("/v1/datasets").json() == {"object": "list", "data": [body]}
    assert code(client.delete(f"/v1/files/{file_id}")) == (409, "conflict")
    assert code(client.delete("/v1/datasets/flowers")) == (409, "conflict")

    publish(job_id=job.id)
    end(job.id, JobStatus.SUCCEEDED, result={"dataset": "flowers:1"})
    ready = client.get("/v1/datasets/flowers").json()
    assert (ready["status"], ready["latest"], ready["versions"]) == ("ready", 1, [1])


def test_refused_files_are_told_with_all_their_problems(client, file_id, end):
    body = post(client, name="flowers", file_id=file_id).json()
    problems = [
        {"file": f"red/{number}.png", "line": None, "message": "It is cut off.", "hint": None}
        for number in range(3)
    ]
    error = JobError(code="invalid_dataset", message="red/0.png: It is cut off. And 2 more.", hint="Mend it.")
    end(body["job_id"], JobStatus.FAILED, facts={"problems": problems}, error=error)
    failed = client.get("/v1/datasets/flowers").json()
    assert (failed["status"], failed["error"], failed["problems"]) == ("failed", error.to_dict(), problems)
    assert code(client.get("/v1/datasets/flowers/versions/1")) == (404, "unknown_version")

    again = post(client, name="flowers", file_id=file_id).json()
    assert (again["status"], again["error"], again["problems"]) == ("validating", None, [])
    client.post(f"/v1/jobs/{again['job_id']}/cancel")
    cancelled = client.get("/v1/datasets/flowers").json()
    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    assert client.delete("/v1/datasets/flowers").json()["deleted"] is True
    assert client.get("/v1/datasets").json()["data"] == []


def test_files_are_added_to_a_version_that_is_named(client, services, file_id, publish):
    publish()
    for body, name in (
        ({"base": "flowers:1"}, "flowers"),
        ({"base": "flowers"}, "flowers"),
        ({"base": "flowers:1", "name": "more"}, "more"),
    ):
        made = post(client, file_ids=[file_id], **body).json()
        spec = services.jobs.get(SYSTEM, made["job_id"]).spec
        assert (made["id"], spec["name"], spec["base"]) == (name, name, "flowers:1")
    assert code(client.delete("/v1/datasets/flowers/versions/1")) == (409, "conflict")


def test_a_request_that_is_sent_again_makes_one_job(client, services, file_id):
    def send(**body):
        headers = {"idempotency-key": "once"}
        return client.post("/v1/datasets", json={"name": "flowers", **body}, headers=headers)

    first, again = send(file_id=file_id), send(file_ids=[file_id])
    assert (first.status_code, again.json()) == (201, first.json())
    assert len(services.jobs.list(SYSTEM, kind="dataset")) == 1
    assert code(send(file_id=file_id, options={"seed": 1})) == (409, "conflict")
    client.post(f"/v1/jobs/{first.json()['job_id']}/cancel")
    client.delete("/v1/datasets/flowers")
    assert code(send(file_id=file_id)) == (404, "unknown_dataset")  # and it has not come back to life
    assert client.get("/v1/datasets").json()["data"] == []


@pytest.mark.parametrize(
    ("change", "expected", "param"),
    [
        ({"name": "Flowers"}, (400, "invalid_request"), "name"),
        ({"name": "a--b"}, (400, "invalid_request"), "name"),
        ({"name": None}, (400, "invalid_request"), "name"),
        ({"name": "x" * 65}, (422, "invalid_payload"), "name"),
        ({"task": "embedding"}, (400, "invalid_request"), "task"),
        ({"task": "classify"}, (422, "invalid_payload"), "task"),
        ({"file_ids": []}, (400, "invalid_request"), "file_ids"),
        ({"file_ids": ["file_none"]}, (404, "not_found"), "file_ids.0"),
        ({"file_ids": ["file_\0"]}, (422, "invalid_payload"), "file_ids.0"),
        ({"base": "trees:1"}, (404, "unknown_dataset"), "base"),
        ({"base": "flowers:9"}, (404, "unknown_version"), "base"),
        ({"base": "a/b"}, (400, "invalid_request"), "base"),
        ({"options": {"test_share": 1.0}}, (422, "invalid_payload"), "options.test_share"),
        ({"options": {"test_share": 0.95}}, (422, "invalid_payload"), "options"),
        ({"options": {"seeds": 1}}, (422, "invalid_payload"), "options.seeds"),
        ({"shuffle": True}, (422, "invalid_payload"), "shuffle"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field_and_makes_no_job(
    client, services, file_id, publish, *, change, expected, param
):
    publish()
    answer = post(client, **{"name": "more", "file_ids": [file_id], **change})
    assert code(answer) == expected
    assert answer.json()["error"]["param"] == param
    assert services.jobs.list(SYSTEM) == []
    assert [each["id"] for each in client.get("/v1/datasets").json()["data"]] == ["flowers"]


def test_a_file_that_is_named_twice_is_refused(client, file_id):
    answer = post(client, name="flowers", file_ids=[file_id, file_id])
    assert (code(answer), answer.json()["error"]["param"]) == ((400, "invalid_request"), "file_ids.1")


def test_a_name_that_is_taken_for_another_task_is_refused(client, services, file_id, publish):
    publish(task="segmentation")
    assert code(post(client, name="flowers", file_id=file_id)) == (409, "conflict")
    assert services.jobs.list(SYSTEM) == []


def test_files_are_not_added_to_a_version_for_another_task(client, file_id, publish):
    publish()
    answer = post(client, name="cells", file_id=file_id, base="flowers:1", task="segmentation")
    assert (code(answer), answer.json()["error"]["param"]) == ((400, "invalid_request"), "base")
    assert "classification, not for segmentation" in answer.json()["error"]["message"]


def test_a_version_tells_what_it_was_made_of_and_what_was_found(client, publish):
    source = {"files": [{"id": "file_1", "filename": "a.zip", "sha256": "0" * 64}], "base": None}
    publish(report={"labels": list(COLOURS), "duplicates": ["a", "b"]}, source=source, job_id="job_1")
    publish(seed=2)
    version = client.get("/v1/datasets/flowers/versions/1").json()
    assert (version["id"], version["dataset"], version["version"]) == ("flowers:1", "flowers", 1)
    assert (version["source"], version["job_id"]) == (source, "job_1")
    assert version["report"]["duplicates"] == ["a", "b"]
    assert version["bytes"] > 0
    listed = client.get("/v1/datasets/flowers/versions").json()["data"]
    assert [each["id"] for each in listed] == ["flowers:1", "flowers:2"]
    assert listed[0] == version
    gone = client.delete("/v1/datasets/flowers/versions/2").json()
    assert gone == {"id": "flowers:2", "object": "dataset.version", "deleted": True}
    assert client.get("/v1/datasets/flowers").json()["versions"] == [1]
    for path, expected in (
        ("flowers/versions/2", (404, "unknown_version")),
        ("flowers/versions/0", (422, "invalid_payload")),
        ("trees/versions/1", (404, "unknown_dataset")),
        ("trees", (404, "unknown_dataset")),
        ("trees/versions", (404, "unknown_dataset")),
    ):
        assert code(client.get(f"/v1/datasets/{path}")) == expected, path
    assert client.get("/v1/datasets/flower").json()["error"]["hint"].startswith("Did you mean flowers?")


def test_a_deleted_version_leaves_nothing_on_disk_though_it_was_looked_into(client, publish):
    publish()
    publish(name="kept", seed=2)
    for name in ("flowers", "kept"):
        assert client.get(f"/v1/datasets/{name}/versions/1/images/0").status_code == 200
    assert [name for name in mapped_objects() if name.endswith("(deleted)")] == []
    assert len(mapped_objects()) == 2
    client.delete("/v1/datasets/flowers/versions/1")
    gc.collect()
    [left] = mapped_objects()
    assert not left.endswith("(deleted)")


def mapped_objects():
    """Files of object stores that this process has in its memory map."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if "/data/objects/" in line}


def test_images_can_be_listed_and_looked_at(client, publish):
    publish()
    url = "/v1/datasets/flowers/versions/1/images"
    page = client.get(url, params={"split": "train", "label": "green", "limit": 1}).json()
    [image] = page["data"]
    assert (image["name"], image["label"], image["split"], image["width"]) == (
        "green/0.png",
        "green",
        "train",
        16,
    )
    assert (page["has_more"], page["last_index"]) == (True, image["index"])
    rest = client.get(url, params={"split": "train", "label": "green", "after": page["last_index"]}).json()
    assert ([each["name"] for each in rest["data"]], rest["has_more"]) == (["green/1.png"], False)
    assert len(client.get(url).json()["data"]) == 12

    got = client.get(image["url"])
    assert (got.headers["content-type"], len(got.content)) == ("image/png", image["bytes"])
    pixels = Image.open(io.BytesIO(got.content)).convert("RGB")
    assert pixels.getpixel((8, 8)) == (0, 255, 0)
    assert got.headers["etag"] == f'"{image["sha256"]}"'
    assert got.headers["x-content-type-options"] == "nosniff"
    assert client.get(image["url"], headers={"if-none-match": got.headers["etag"]}).status_code == 304
    for path, expected in (
        (f"{url}/12", (404, "not_found")),
        (f"{url}/-1", (422, "invalid_payload")),
        (f"{url}?label=grin", (400, "invalid_request")),
        (f"{url}?split=dev", (422, "invalid_payload")),
        (f"{url}?limit=0", (422, "invalid_payload")),
    ):
        assert code(client.get(path)) == expected, path
