import re

import pytest
from fastapi.testclient import TestClient

from app.db import migrate
from app.main import create_app
from app.settings import Settings


@pytest.fixture
def client(tmp_path):
    settings = Settings(
        data_dir=tmp_path, default_classifier="", starters="", log_format="json", _env_file=None
    )
    migrate.upgrade(settings.sqlalchemy_url)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def test_a_live_gateway_says_so_and_names_the_request(client):
    response = client.get("/health/live")
    assert response.json() == {"status": "live"}
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", response.headers["x-request-id"])


def test_a_request_id_of_the_client_is_kept_if_it_is_a_plain_one(client):
    assert client.get("/health/live", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/health/live", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_ready_without_a_default_classifier_means_live(client):
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_the_documentation_asks_nothing_of_other_hosts(client):
    page = client.get("/", follow_redirects=True)
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) >= 3
    for address in addresses:
        assert address.startswith("/")
        assert client.get(address).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/classification", 405, "method_not_allowed"),
        ("DELETE", "/health/live", 405, "method_not_allowed"),
        ("PUT", "/v1/classification", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_said_in_the_one_error_body(client, method, path, status, code):
    response = client.request(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert error["hint"]
    assert error["request_id"] == response.headers["x-request-id"]


def test_strangers_are_shown_out(client):
    assert client.get("/health/live", headers={"host": "evil.test"}).status_code == 403
    assert client.post("/v1/classification", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/v1/files", headers={"origin": "http://evil.test"}).status_code == 403


def test_metrics_count_requests_by_route(client):
    client.get("/health/live")
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'athanor_requests_total{route="/health/live",status="200"}' in text
    assert "/nowhere" not in text
