"""`POST /v1/segmentation` in all its forms, through real ONNX Runtime."""

import base64
import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.db import migrate
from app.db.session import Database
from app.main import create_app
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.colour_models import (
    COLOURS,
    RGB,
    picture,
    publish_colour_segmenter,
    publish_colours,
    publish_tiled_segmenter,
)

URL = "/v1/segmentation"
PNG = {"accept": "image/png"}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    settings = Settings(
        data_dir=folder / "data",
        default_classifier="colours",
        default_segmenter="where",
        starters="",
        max_body_bytes=2**20,
        max_image_pixels=1_000_000,
        max_result_pixels=100_000,
        log_format="json",
        _env_file=None,
    )
    migrate.upgrade(settings.sqlalchemy_url)
    database = Database(settings.sqlalchemy_url)
    registry = Registry(database, ObjectStore.from_settings(settings))
    publish_colour_segmenter(registry, folder / "one", name="where")
    publish_colour_segmenter(registry, folder / "two", name="padded", activation="sigmoid", fit="pad")
    publish_colours(registry, folder / "three", name="colours")
    publish_tiled_segmenter(registry, folder / "four", name="windows")
    database.close()
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def halves(width=90, height=60, *, left="red", right="blue", format_="PNG", **options):
    """A picture of two colours, side by side."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2] = RGB[left]
    pixels[:, width // 2 :] = RGB[right]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def masks(body):
    assert all(set(one) == {"label", "score", "mask"} for one in body["segments"])
    return {
        one["label"]: np.asarray(opened(base64.b64decode(one["mask"]))) == 255 for one in body["segments"]
    }


def refusal(response):
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


def test_each_label_gets_a_mask_as_large_as_the_picture(client):
    response = client.post(URL, content=halves())
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["model"], body["width"], body["height"]) == ("where:1", 90, 60)
    found = masks(body)
    assert set(found) == {"red", "blue"}
    assert found["red"][:, :43].all()
    assert not found["red"][:, 47:].any()
    assert found["blue"][:, 47:].all()
    assert (found["red"] & found["blue"]).sum() == 0
    assert all(one["score"] > 0.9 for one in body["segments"])
    assert all(f"{stage};dur=" in response.headers["server-timing"] for stage in ("infer", "render"))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("size", [(17, 300), (640, 480), (33, 32)])
def test_every_format_in_every_size(client, format_, size):
    body = client.post(URL, content=halves(*size, format_=format_)).json()
    assert (body["width"], body["height"]) == size
    found = masks(body)
    assert found["red"].shape == size[::-1]
    assert found["red"].mean() == pytest.approx(0.5, abs=0.1)


def test_a_picture_that_lies_on_its_side_is_answered_upright(client):
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored picture is to be turned by 90 degrees clockwise
    body = client.post(URL, content=halves(90, 60, format_="JPEG", quality=95, exif=exif)).json()
    assert (body["width"], body["height"]) == (60, 90)
    found = masks(body)
    assert found["red"][:40].all()  # what was on the left is on top
    assert found["blue"][50:].all()


def test_a_picture_that_was_padded_gets_masks_of_its_own_region(client):
    found = masks(client.post(URL, params={"model": "padded"}, content=halves(200, 50)).json())
    assert found["red"].shape == (50, 200)
    assert found["red"][:, :90].all()
    assert found["blue"][:, 110:].all()


def test_chosen_classes_and_a_threshold(client):
    for query in ({"classes": "blue,green"}, {"classes": "blue", "threshold": "0.9"}):
        assert list(masks(client.post(URL, params=query, content=halves()).json())) == ["blue"]
    query = {"classes": "green", "model": "padded", "threshold": 0.99}
    assert client.post(URL, params=query, content=halves()).json()["segments"] == []


@pytest.mark.parametrize(("output", "mode"), [("labelmap", "P"), ("overlay", "RGB"), ("cutout", "RGBA")])
def test_other_outputs_are_png_as_large_as_the_picture(client, output, mode):
    response = client.post(URL, params={"output": output}, content=halves())
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-athanor-model"] == "where:1"
    image = opened(response.content)
    assert (image.mode, image.size) == (mode, (90, 60))
    wrapped = client.post(
        URL, params={"output": output}, content=halves(), headers={"accept": "application/json"}
    ).json()
    assert base64.b64decode(wrapped["image"]) == response.content


def test_who_accepts_pictures_alone_gets_a_label_map(client):
    response = client.post(URL, content=halves(), headers=PNG)
    values = np.asarray(opened(response.content))
    assert (values[:, 5] == 1).all()
    assert (values[:, -5] == 3).all()


def test_json_and_multipart_take_the_same_options(client):
    data = base64.b64encode(halves()).decode()
    options = {"classes": ["blue"], "threshold": 0.6, "model": "where"}
    by_json = client.post(URL, json={"inputs": data, "parameters": options}).json()
    form = {"classes": "blue", "threshold": "0.6", "model": "where"}
    by_form = client.post(URL, data=form, files={"image": ("x.png", halves())}).json()
    by_query = client.post(URL, params=form, content=halves()).json()
    assert by_json == by_form == by_query


def test_of_several_a_broken_one_alone_fails(client):
    files = [("image", ("a", halves())), ("image", ("b", b"nothing")), ("image", ("c", picture("green")))]
    results = client.post(URL, files=files).json()["results"]
    assert set(masks(results[0])) == {"red", "blue"}
    assert results[1]["error"]["code"] == "unsupported_media"
    assert list(masks(results[2])) == ["green"]


def test_several_as_pictures_come_in_json(client):
    files = [("image", ("a", halves())), ("image", ("b", halves(20, 10)))]
    results = client.post(URL, params={"output": "cutout"}, files=files).json()["results"]
    assert [opened(base64.b64decode(one["image"])).size for one in results] == [(90, 60), (20, 10)]


@pytest.mark.parametrize(
    ("query", "expected", "hint"),
    [
        ({"output": "cutuot"}, (400, "invalid_request", "output"), "cutout"),
        ({"threshold": "1"}, (400, "invalid_request", "threshold"), None),
        ({"threshold": "nan"}, (400, "invalid_request", "threshold"), None),
        ({"threshold": "much"}, (400, "invalid_request", "threshold"), None),
        ({"classes": ""}, (400, "invalid_request", "classes"), None),
        ({"classes": "gren"}, (400, "invalid_request", "classes"), "green"),
        ({"top_k": "3"}, (400, "invalid_request", "top_k"), "Known"),
        ({"treshold": "0.5"}, (400, "invalid_request", "treshold"), "threshold"),
        ({"model": "colours"}, (409, "not_servable", "model"), None),
        ({"model": "nobody"}, (404, "unknown_model", "model"), None),
    ],
)
def test_a_wrong_option_is_named(client, query, expected, hint):
    response = client.post(URL, params=query, content=halves())
    assert refusal(response) == expected, response.text
    assert hint is None or hint in response.json()["error"]["hint"]
    assert masks(client.post(URL, content=halves()).json()).keys() == {"red", "blue"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", (400, "invalid_request", "image")),
        (b"%PDF-1.7", (415, "unsupported_media", "image")),
        (halves(2000, 1000), (413, "image_too_large", "image")),
        (halves()[:150], (400, "image_undecodable", "image")),
        (b"x" * (2**20 + 1), (413, "payload_too_large", None)),
    ],
)
def test_a_picture_that_cannot_be_taken_is_refused(client, content, expected):
    assert refusal(client.post(URL, content=content)) == expected


def test_a_starter_that_is_not_there_yet_is_named_with_how_to_get_it(client):
    response = client.post(URL, params={"model": "u2netp"}, content=halves())
    assert refusal(response) == (404, "unknown_model", "model")
    assert response.json()["error"]["hint"] == "`athanor pull u2netp` brings it."


def test_a_classifier_is_not_asked_for_masks_nor_a_segmenter_for_labels(client):
    response = client.post("/v1/classification", params={"model": "where"}, content=halves())
    assert refusal(response) == (409, "not_servable", "model")


def mosaic(height, width, seed=0):
    """Pixels of the three colours in no order, and the index of each one's colour."""
    indices = np.random.default_rng(seed).integers(0, 3, (height, width))
    return np.array([RGB[colour] for colour in COLOURS], np.uint8)[indices], indices


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (30, 32), (97, 131), (33, 200)])
def test_in_windows_every_pixel_of_a_picture_of_any_size_gets_its_own_label(client, height, width):
    pixels, indices = mosaic(height, width)
    response = client.post(f"{URL}?model=windows&output=labelmap", content=encoded(pixels))
    assert response.status_code == 200, response.text
    assert np.array_equal(np.asarray(opened(response.content)), indices + 1)


def test_in_windows_segments_and_several_pictures_are_as_of_any_segmenter(client):
    (first, indices), (second, _) = mosaic(40, 50), mosaic(20, 90, seed=1)
    files = [("image", data) for data in (encoded(first), b"no picture", encoded(second))]
    results = client.post(f"{URL}?model=windows&classes=green", files=files).json()["results"]
    assert [(one.get("width"), one.get("height")) for one in results] == [(50, 40), (None, None), (90, 20)]
    assert results[1]["error"]["code"] == "unsupported_media"
    (segment,) = results[0]["segments"]
    mask = np.asarray(opened(base64.b64decode(segment["mask"])))
    assert np.array_equal(mask == 255, indices == 1)


def test_in_windows_a_broken_picture_alone_and_one_with_too_many_values_are_refused(client):
    broken = client.post(f"{URL}?model=windows", content=b"no picture")
    assert (broken.status_code, broken.json()["error"]["code"]) == (415, "unsupported_media")
    large = client.post(f"{URL}?model=windows", content=encoded(mosaic(200, 200)[0]))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "image_too_large")
    files = [("image", encoded(mosaic(150, 150)[0]))] * 2
    results = client.post(f"{URL}?model=windows", files=files).json()["results"]
    assert [one.get("error", {}).get("code") for one in results] == [None, "image_too_large"]


def test_masks_that_take_longer_than_the_deadline_are_given_up(client):
    files = [("image", ("red.jpg", halves(1000, 1000, format_="JPEG"), "image/jpeg"))] * 40
    url = f"{URL}?output=overlay"
    assert client.post(url, files=files[:1]).status_code == 200  # the model is loaded
    given_up = client.post(url, files=files, headers={"x-request-deadline": "1"})
    assert refusal(given_up)[:2] == (504, "deadline_exceeded")
