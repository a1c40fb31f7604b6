"""`POST /v1/classification` in all its forms, through real ONNX Runtime."""

import base64
import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.db import migrate
from app.db.session import Database
from app.main import create_app
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.colour_models import RGB, picture, publish_colours

URL = "/v1/classification"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classification")
    settings = Settings(
        data_dir=folder / "data",
        default_classifier="colours",
        starters="",
        max_body_bytes=2**20,
        log_format="json",
        _env_file=None,
    )
    migrate.upgrade(settings.sqlalchemy_url)
    database = Database(settings.sqlalchemy_url)
    publish_colours(Registry(database, ObjectStore.from_settings(settings)), folder / "one", name="colours")
    database.close()
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def first(response):
    assert response.status_code == 200, response.text
    return response.json()["predictions"][0]["label"]


def refusal(response):
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


def encoded(colour):
    return base64.b64encode(picture(colour)).decode()


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_raw_bytes_of_every_format_whatever_the_content_type_says(client, format_):
    for kind in ("image/png", "application/octet-stream", "application/x-www-form-urlencoded", ""):
        headers = {"content-type": kind} if kind else {}
        assert first(client.post(URL, content=picture("blue", format_=format_), headers=headers)) == "blue"


def test_the_answer_names_the_version_and_its_times(client):
    response = client.post(URL, content=picture("red"))
    assert response.json()["model"] == "colours:1"
    scores = [prediction["score"] for prediction in response.json()["predictions"]]
    assert sum(scores) == pytest.approx(1.0)
    assert scores == sorted(scores, reverse=True)
    stages = [stage.partition(";")[0] for stage in response.headers["server-timing"].split(", ")]
    assert stages == ["decode", "queue", "batch", "infer", "encode"]


def test_multipart_one_or_several(client):
    one = client.post(URL, files={"image": ("a.png", picture("green"))}, data={"top_k": "1"})
    assert one.json()["predictions"] == [
        {"label": "green", "score": pytest.approx(one.json()["predictions"][0]["score"])}
    ]
    several = client.post(URL, files=[("image", ("a", picture(colour))) for colour in RGB])
    assert [result["predictions"][0]["label"] for result in several.json()["results"]] == list(RGB)


def test_json_one_or_several(client):
    assert first(client.post(URL, json={"inputs": encoded("green")})) == "green"
    data_url = f"data:image/png;base64,{encoded('blue')}"
    assert first(client.post(URL, json={"inputs": data_url, "parameters": {"top_k": 2}})) == "blue"
    several = client.post(URL, json={"inputs": [encoded(colour) for colour in RGB]})
    assert [result["predictions"][0]["label"] for result in several.json()["results"]] == list(RGB)


def test_a_broken_picture_among_several_fails_alone(client):
    broken = base64.b64encode(picture("red", format_="JPEG")[:300]).decode()
    results = client.post(URL, json={"inputs": [encoded("red"), broken, encoded("blue")]}).json()["results"]
    assert results[0]["predictions"][0]["label"] == "red"
    assert results[1]["error"]["code"] == "image_undecodable"
    assert results[2]["predictions"][0]["label"] == "blue"


@pytest.mark.parametrize("reference", ["colours", "colours:1", "colours@default"])
def test_a_model_is_named_by_name_version_or_alias(client, reference):
    assert first(client.post(f"{URL}?model={reference}", content=picture("green"))) == "green"


def test_a_turned_picture_with_alpha_is_seen_as_a_person_sees_it(client):
    out = io.BytesIO()
    Image.new("RGBA", (40, 40), (0, 0, 255, 255)).save(out, "PNG")
    assert first(client.post(URL, content=out.getvalue())) == "blue"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?model=colour", (404, "unknown_model", "model")),
        ("?model=colours:7", (404, "unknown_version", "model")),
        ("?model=colours@next", (404, "unknown_version", "model")),
        ("?model=../etc", (400, "invalid_request", "model")),
        ("?model=", (400, "invalid_request", "model")),
        ("?top_k=0", (400, "invalid_request", "top_k")),
        ("?top_k=many", (400, "invalid_request", "top_k")),
        ("?topk=3", (400, "invalid_request", "topk")),
    ],
)
def test_wrong_options_are_named(client, query, expected):
    assert refusal(client.post(URL + query, content=picture("red"))) == expected


def test_a_near_miss_is_helped(client):
    hint = client.post(f"{URL}?model=colour", content=picture("red")).json()["error"]["hint"]
    assert "colours" in hint
    assert "top_k" in client.post(f"{URL}?topk=3", content=picture("red")).json()["error"]["hint"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"content": b""}, (400, "invalid_request", "image")),
        ({"content": b"%PDF-1.4 hello"}, (415, "unsupported_media", "image")),
        ({"content": picture("red", format_="JPEG")[:200]}, (400, "image_undecodable", "image")),
        ({"content": b"x" * (2**20 + 1)}, (413, "payload_too_large", None)),
        ({"json": {"inputs": 3}}, (422, "invalid_payload", "inputs")),
        ({"json": {"inputs": "!!"}}, (422, "invalid_payload", "inputs")),
        ({"json": {"inputs": []}}, (400, "invalid_request", "image")),
        ({"json": {"image": "…"}}, (422, "invalid_payload", "inputs")),
        ({"json": {"inputs": "", "extra": 1}}, (422, "invalid_payload", "extra")),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, (400, "invalid_request", None)),
        ({"files": {"photo": b"x"}}, (422, "invalid_payload", None)),
        (
            {"content": b"--x", "headers": {"content-type": "multipart/form-data"}},
            (422, "invalid_payload", None),
        ),
    ],
)
def test_wrong_bodies_are_named(client, body, expected):
    assert refusal(client.post(URL, **body)) == expected


@pytest.mark.parametrize("deadline", ["soon", "-1", "0", "1e9", "nan"])
def test_a_deadline_that_is_none_is_refused(client, deadline):
    response = client.post(URL, content=picture("red"), headers={"x-request-deadline": deadline})
    assert refusal(response) == (400, "invalid_request", "X-Request-Deadline")
