import hashlib
import os
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from app.db import migrate
from app.main import create_app
from app.settings import Settings


@pytest.fixture
def settings(tmp_path):
    settings = Settings(
        data_dir=tmp_path / "data",
        default_classifier="",
        starters="",
        max_file_bytes=3 << 20,
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


def test_a_file_is_stored_and_given_back_as_it_was(client):
    data = os.urandom(2_500_000)
    made = client.post("/v1/files", files={"file": ("a.onnx", data)}, data={"purpose": "fine-tune"})
    assert made.status_code == 200, made.text
    body = made.json()
    assert body["object"] == "file"
    assert body["bytes"] == len(data)
    assert body["filename"] == "a.onnx"
    assert body["purpose"] == "fine-tune"
    assert body["status"] == "processed"
    assert body["sha256"] == hashlib.sha256(data).hexdigest()
    assert client.get(f"/v1/files/{body['id']}").json() == body
    content = client.get(f"/v1/files/{body['id']}/content")
    assert content.content == data
    assert content.headers["content-length"] == str(len(data))
    again = client.get(f"/v1/files/{body['id']}/content", headers={"If-None-Match": content.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    listed = client.get("/v1/files").json()
    assert (listed["object"], listed["data"], listed["has_more"]) == ("list", [body], False)
    gone = client.delete(f"/v1/files/{body['id']}").json()
    assert gone == {"id": body["id"], "object": "file", "deleted": True}
    assert code(client.get(f"/v1/files/{body['id']}")) == (404, "not_found")


def test_fields_may_come_after_the_file_and_a_purpose_is_optional(client):
    boundary = "xxBOUNDxx"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n',
        f"--not{boundary}\r\n",
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nlater',
        f"\r\n--{boundary}--\r\n",
    ]
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    made = client.post("/v1/files", content="".join(parts).encode(), headers=headers).json()
    assert made["purpose"] == "later"
    assert client.get(f"/v1/files/{made['id']}/content").content == f"--not{boundary}\r\n".encode()
    assert client.post("/v1/files", files={"file": b""}).json()["purpose"] == "user_data"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"raw", "application/octet-stream", (415, "unsupported_media")),
        (b"raw", "multipart/form-data", (415, "unsupported_media")),
        (b"raw", "multipart/form-data; boundary=b", (422, "invalid_payload")),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", (422, "invalid_payload")),
        (
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            (422, "invalid_payload"),
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut off he',
            "multipart/form-data; boundary=b",
            (422, "invalid_payload"),
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 5000,
            "multipart/form-data; boundary=b",
            (422, "invalid_payload"),
        ),
        (b"", "multipart/form-data; boundary=b", (422, "invalid_payload")),
    ],
    ids=["raw", "no boundary", "not a form", "nameless part", "no file", "cut off", "long field", "empty"],
)
def test_a_body_that_is_no_upload_is_refused_and_leaves_nothing(
    client, settings, body, content_type, expected
):
    answer = client.post("/v1/files", content=body, headers={"content-type": content_type})
    assert code(answer) == expected
    assert client.get("/v1/files").json()["data"] == []
    assert list((settings.data_dir / "uploads").iterdir()) == []


def test_two_files_in_one_form_are_refused(client):
    answer = client.post("/v1/files", files=[("file", b"one"), ("file", b"two")])
    assert code(answer) == (422, "invalid_payload")


def test_a_file_over_the_limit_is_refused_whether_or_not_its_length_is_told(client, settings):
    data = b"x" * ((3 << 20) + 1)
    assert code(client.post("/v1/files", files={"file": data})) == (413, "payload_too_large")
    request = client.build_request("POST", "/v1/files", files={"file": data})
    headers = {"content-type": request.headers["content-type"], "transfer-encoding": "chunked"}
    body = request.read()
    pieces = (body[start : start + 100_000] for start in range(0, len(body), 100_000))
    assert code(client.post("/v1/files", content=pieces, headers=headers)) == (413, "payload_too_large")
    assert list((settings.data_dir / "uploads").iterdir()) == []


def test_pages_are_asked_for_as_openai_does(client):
    ids = [client.post("/v1/files", files={"file": bytes([n])}).json()["id"] for n in range(3)]
    first = client.get("/v1/files", params={"limit": 2, "order": "asc"}).json()
    assert ([item["id"] for item in first["data"]], first["has_more"]) == (ids[:2], True)
    rest = client.get("/v1/files", params={"limit": 2, "order": "asc", "after": first["last_id"]}).json()
    assert ([item["id"] for item in rest["data"]], rest["has_more"]) == (ids[2:], False)
    for wrong in ({"limit": 0}, {"order": "up"}, {"after": "\0"}, {"purpose": "\0"}):
        assert code(client.get("/v1/files", params=wrong)) == (422, "invalid_payload")


def test_a_large_upload_does_not_sit_in_memory(tmp_path):
    program = """
import asyncio, sys
from pathlib import Path
from app.api.upload_form import read_upload_form
from app.files.upload import Upload
MIB = 1 << 20
async def body():
    yield b'--b\\r\\nContent-Disposition: form-data; name="file"; filename="a"\\r\\n\\r\\n'
    for n in range(100):
        yield bytes(MIB)
    yield b'\\r\\n--b--\\r\\n'
def peak_mib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
before = peak_mib()
with Upload(Path(sys.argv[1]), limit_bytes=1 << 30) as place:
    asyncio.run(read_upload_form("multipart/form-data; boundary=b", body(), place))
    assert place.finish().stat().st_size == 100 * MIB
print(peak_mib() - before)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 30, f"an upload of 100 MiB took {run.stdout} MiB"
