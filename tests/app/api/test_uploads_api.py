import hashlib
import os

import openai
import pytest
from starlette.testclient import TestClient

from app.db import migrate
from app.main import create_app
from app.settings import Settings
from tests.serving import gateway

MIB = 1 << 20


@pytest.fixture
def settings(tmp_path):
    settings = Settings(
        data_dir=tmp_path / "data",
        default_classifier="",
        starters="",
        max_file_bytes=3 * MIB,
        _env_file=None,
    )
    migrate.upgrade(settings.sqlalchemy_url)
    return settings


@pytest.fixture
def client(settings):
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def begin(client, size_bytes, **more):
    body = {"bytes": size_bytes, "filename": "a.zip", "mime_type": "application/zip", "purpose": "fine-tune"}
    answer = client.post("/v1/uploads", json={**body, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def send(client, upload, data):
    return client.post(f"/v1/uploads/{upload['id']}/parts", files={"data": data})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("openai")) as world:
        yield world


@pytest.fixture
def openai_client(world):
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_openais_client_uploads_a_file_in_parts(openai_client, tmp_path):
    data = os.urandom(3 * MIB + 17)
    path = tmp_path / "flowers.zip"
    path.write_bytes(data)
    upload = openai_client.uploads.upload_file_chunked(
        file=path, mime_type="application/zip", purpose="fine-tune", part_size=MIB
    )
    assert (upload.status, upload.bytes, upload.filename) == ("completed", len(data), "flowers.zip")
    assert upload.expires_at == upload.created_at + 3600
    assert (upload.file.bytes, upload.file.purpose) == (len(data), "fine-tune")
    assert openai_client.files.content(upload.file.id).read() == data
    assert openai_client.files.retrieve(upload.file.id) == upload.file


def test_openais_client_goes_step_by_step_and_cancels(openai_client):
    md5 = hashlib.md5(b"onetwo").hexdigest()
    upload = openai_client.uploads.create(bytes=6, filename="a", mime_type="pdf", purpose="user_data")
    assert (upload.status, upload.file) == ("pending", None)
    two = openai_client.uploads.parts.create(upload.id, data=b"two")
    one = openai_client.uploads.parts.create(upload.id, data=b"one")
    assert (one.object, one.upload_id) == ("upload.part", upload.id)
    with pytest.raises(openai.BadRequestError, match="MD5"):
        openai_client.uploads.complete(upload.id, part_ids=[two.id, one.id], md5=md5)
    done = openai_client.uploads.complete(upload.id, part_ids=[one.id, two.id], md5=md5)
    assert openai_client.files.content(done.file.id).read() == b"onetwo"

    other = openai_client.uploads.create(bytes=6, filename="a", mime_type="pdf", purpose="user_data")
    assert openai_client.uploads.cancel(other.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        openai_client.uploads.parts.create(other.id, data=b"one")
    with pytest.raises(openai.NotFoundError):
        openai_client.uploads.cancel("upload_none")


def test_a_client_that_comes_back_sees_what_has_arrived(client, settings):
    data = os.urandom(2 * MIB)
    upload = begin(client, len(data))
    first = send(client, upload, data[:MIB]).json()
    assert (first["bytes"], first["sha256"]) == (MIB, hashlib.sha256(data[:MIB]).hexdigest())
    broken = client.post(
        f"/v1/uploads/{upload['id']}/parts",
        content=b'--b\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\nhalf',
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert code(broken) == (422, "invalid_payload")

    seen = client.get(f"/v1/uploads/{upload['id']}").json()
    assert (seen["status"], seen["parts"]) == ("pending", [first])
    arrived = sum(part["bytes"] for part in seen["parts"])
    second = send(client, upload, data[arrived:]).json()
    ids = [part["id"] for part in (*seen["parts"], second)]
    done = client.post(f"/v1/uploads/{upload['id']}/complete", json={"part_ids": ids}).json()
    assert (done["status"], done["file"]["bytes"]) == ("completed", len(data))
    assert client.get(f"/v1/files/{done['file']['id']}/content").content == data
    again = client.get(f"/v1/uploads/{upload['id']}").json()
    assert (again["file"], again["parts"]) == (done["file"], [])
    assert list((settings.data_dir / "uploads").iterdir()) == []


def test_a_completion_that_is_sent_again_answers_alike(client):
    upload = begin(client, 3)
    part = send(client, upload, b"abc").json()
    url = f"/v1/uploads/{upload['id']}/complete"
    first = client.post(url, json={"part_ids": [part["id"]]})
    assert (first.status_code, client.post(url, json={"part_ids": [part["id"]]}).json()) == (
        200,
        first.json(),
    )
    assert len(client.get("/v1/files").json()["data"]) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bytes": 0}, (422, "invalid_payload")),
        ({"bytes": -1}, (422, "invalid_payload")),
        ({"bytes": 3 * MIB + 1}, (413, "payload_too_large")),
        ({"bytes": 2**60}, (422, "invalid_payload")),
        ({"bytes": "many"}, (422, "invalid_payload")),
        ({"purpose": ""}, (422, "invalid_payload")),
        ({"purpose": "a\0b"}, (422, "invalid_payload")),
        ({"mime_type": "x" * 129}, (422, "invalid_payload")),
        ({"filename": ""}, (422, "invalid_payload")),
    ],
)
def test_an_announcement_that_makes_no_sense_is_refused(client, change, expected):
    body = {"bytes": 10, "filename": "a.zip", "mime_type": "application/zip", "purpose": "fine-tune"}
    assert code(client.post("/v1/uploads", json={**body, **change})) == expected


def test_a_part_that_is_no_part_is_refused_and_leaves_nothing(client, settings):
    upload = begin(client, 10)
    url = f"/v1/uploads/{upload['id']}/parts"
    assert code(client.post(url, content=b"raw")) == (415, "unsupported_media")
    assert code(client.post(url, files={"file": b"abc"})) == (422, "invalid_payload")
    assert code(client.post(url, files=[("data", b"one"), ("data", b"two")])) == (422, "invalid_payload")
    assert code(client.post(url, files={"data": b"x" * 11})) == (413, "payload_too_large")
    assert code(client.post(url, files={"data": b"x" * MIB})) == (413, "payload_too_large")
    assert code(client.post("/v1/uploads/upload_none/parts", files={"data": b"x"})) == (404, "not_found")
    assert client.get(f"/v1/uploads/{upload['id']}").json()["parts"] == []
    assert [path for path in settings.data_dir.glob("objects/**/*") if path.is_file()] == []
    assert list((settings.data_dir / "uploads").iterdir()) == []


def test_a_completion_that_does_not_add_up_is_refused(client):
    upload = begin(client, 10)
    part = send(client, upload, b"abc").json()
    url = f"/v1/uploads/{upload['id']}/complete"
    for body, expected in (
        ({"part_ids": [part["id"]]}, (400, "invalid_request")),
        ({"part_ids": ["part_none"]}, (400, "invalid_request")),
        ({"part_ids": []}, (422, "invalid_payload")),
        ({"part_ids": [part["id"]], "md5": "short"}, (422, "invalid_payload")),
        ({}, (422, "invalid_payload")),
    ):
        assert code(client.post(url, json=body)) == expected, body
    assert client.post(f"/v1/uploads/{upload['id']}/cancel").json()["status"] == "cancelled"
    assert code(client.post(url, json={"part_ids": [part["id"]]})) == (409, "conflict")
