"""`POST /v1/super-resolution` in all its forms, through real ONNX Runtime."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageCms

from app.db import migrate
from app.db.session import Database
from app.main import create_app
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.colour_models import enlarged, picture, publish_colours, publish_enlarger

URL = "/v1/super-resolution"
RANDOM = np.random.default_rng(11)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("super-resolution")
    settings = Settings(
        data_dir=folder / "data",
        default_classifier="colours",
        default_upscaler="double",
        starters="",
        max_body_bytes=2**20,
        max_image_pixels=200_000,
        upscale_at_once_pixels=100_000,
        max_result_pixels=1_000_000,
        log_format="json",
        _env_file=None,
    )
    migrate.upgrade(settings.sqlalchemy_url)
    database = Database(settings.sqlalchemy_url)
    registry = Registry(database, ObjectStore.from_settings(settings))
    publish_enlarger(registry, folder / "one", name="double")
    publish_enlarger(registry, folder / "two", name="double-denoise-1", scale=2)
    publish_enlarger(registry, folder / "three", name="fourfold", scale=4)
    publish_colours(registry, folder / "four", name="colours")
    database.close()
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def photo(height=50, width=70):
    """Pixels in which every place differs from every other."""
    return RANDOM.integers(0, 256, (height, width, 3), np.uint8)


def encoded(pixels, format_="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


def opened(response):
    assert response.status_code == 200, response.text
    image = Image.open(io.BytesIO(response.content))
    image.load()
    return image


def test_a_picture_becomes_twice_as_large_window_by_window(client):
    pixels = photo()
    response = client.post(URL, content=encoded(pixels))
    image = opened(response)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-athanor-model"] == "double:1"
    assert 'tiles;desc="6"' in response.headers["server-timing"]
    assert np.array_equal(np.asarray(image), enlarged(pixels))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 90), (64, 64), (97, 33)])
def test_any_size_will_do(client, height, width):
    pixels = photo(height, width)
    image = opened(client.post(URL, content=encoded(pixels)))
    assert np.array_equal(np.asarray(image), enlarged(pixels))


def test_four_times_is_twice_twice_and_three_times_is_that_made_smaller(client):
    pixels = photo(40, 30)
    fourfold = enlarged(enlarged(pixels))
    image = opened(client.post(f"{URL}?scale=4", content=encoded(pixels)))
    assert np.array_equal(np.asarray(image), fourfold)
    image = opened(client.post(f"{URL}?scale=3", content=encoded(pixels)))
    smaller = Image.fromarray(fourfold).resize((90, 120), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(image), np.asarray(smaller))


def test_a_network_that_enlarges_more_than_is_asked_for_is_made_smaller(client):
    pixels = photo(40, 30)
    image = opened(client.post(f"{URL}?model=fourfold&scale=2", content=encoded(pixels)))
    smaller = Image.fromarray(enlarged(pixels, scale=4)).resize((60, 80), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(image), np.asarray(smaller))
    assert opened(client.post(f"{URL}?model=fourfold", content=encoded(pixels))).size == (120, 160)


@pytest.mark.parametrize(
    ("given", "format_"), [("image/jpeg", "JPEG"), ("image/webp", "WEBP"), ("image/*", "PNG"), ("*/*", "PNG")]
)
def test_the_format_is_what_the_client_accepts(client, given, format_):
    image = opened(client.post(URL, content=encoded(photo()), headers={"accept": given}))
    assert image.format == format_
    assert image.size == (140, 100)


def test_the_format_is_what_the_client_names_and_quality_counts(client):
    small, large = (
        client.post(f"{URL}?format=jpg&quality={quality}", content=encoded(photo())) for quality in (10, 95)
    )
    assert opened(small).format == opened(large).format == "JPEG"
    assert len(small.content) < len(large.content) / 2


def test_json_in_and_out(client):
    pixels = photo()
    body = {
        "inputs": base64.b64encode(encoded(pixels)).decode(),
        "parameters": {"model": "double", "scale": 2, "format": "webp"},
    }
    answer = client.post(URL, json=body, headers={"accept": "application/json"}).json()
    image = Image.open(io.BytesIO(base64.b64decode(answer.pop("image"))))
    assert answer == {"model": "double:1", "width": 140, "height": 100, "format": "webp"}
    assert image.size == (140, 100)


def test_several_pictures_are_answered_in_their_order_and_a_broken_one_alone_fails(client):
    first, second = photo(20, 30), photo(40, 10)
    files = [("image", data) for data in (encoded(first), b"\x89PNG\r\n\x1a\nbroken", encoded(second))]
    results = client.post(URL, files=files).json()["results"]
    sizes = [(one.get("width"), one.get("height")) for one in results]
    assert sizes == [(60, 40), (None, None), (20, 80)]
    assert results[1]["error"]["code"] == "image_undecodable"
    image = Image.open(io.BytesIO(base64.b64decode(results[2]["image"])))
    assert np.array_equal(np.asarray(image), enlarged(second))


def test_grey_stays_grey(client):
    grey = photo()[..., 0]
    for format_ in ("PNG", "JPEG"):
        image = opened(client.post(URL, content=encoded(grey, format_)))
        assert image.mode == "L"
        assert image.size == (140, 100)
    colours = opened(client.post(URL, content=encoded(np.dstack([grey] * 3))))
    assert colours.mode == "RGB"


def test_transparency_stays_and_hides_no_colour(client):
    pixels, alpha = photo(), np.tile(np.arange(0, 140, 2, dtype=np.uint8), (50, 1))
    image = opened(client.post(URL, content=encoded(np.dstack([pixels, alpha]))))
    assert image.mode == "RGBA"
    assert np.array_equal(np.asarray(image)[..., :3], enlarged(pixels))
    expected = np.asarray(Image.fromarray(alpha).resize((140, 100), Image.Resampling.BICUBIC))
    assert np.array_equal(np.asarray(image)[..., 3], expected)
    refused = client.post(f"{URL}?format=jpeg", content=encoded(np.dstack([pixels, alpha])))
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "format"
    opaque = encoded(np.dstack([pixels, np.full((50, 70), 255, np.uint8)]))
    assert opened(client.post(f"{URL}?format=jpeg", content=opaque)).mode == "RGB"


def test_sixteen_bits_are_refused_unless_eight_will_do(client):
    deep = encoded(photo()[..., 0].astype(np.uint16) * 257)
    refused = client.post(URL, content=deep)
    assert refused.status_code == 415
    assert "depth=8" in refused.json()["error"]["hint"]
    assert opened(client.post(f"{URL}?depth=8", content=deep)).mode == "L"
    tiff = encoded(photo()[..., 0].astype(np.uint16) * 257, "TIFF")
    assert client.post(URL, content=tiff).status_code == 415


def test_colours_of_another_profile_become_srgb(client):
    pixels = np.full((20, 20, 3), (200, 100, 50), np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # none of RGB: left out
    with_broken = opened(client.post(URL, content=encoded(pixels, icc_profile=profile)))
    assert np.asarray(with_broken)[10, 10].tolist() == [200, 100, 50]
    assert "icc_profile" not in with_broken.info


def test_denoising_is_done_by_the_level_s_own_model(client):
    response = client.post(f"{URL}?denoise=1", content=encoded(photo()))
    assert response.headers["x-athanor-model"] == "double-denoise-1:1"
    missing = client.post(f"{URL}?denoise=2", content=encoded(photo())).json()["error"]
    assert missing["code"] == "unknown_model"
    assert "double-denoise-2" in missing["message"]
    both = client.post(f"{URL}?model=double:1&denoise=1", content=encoded(photo())).json()["error"]
    assert both["param"] == "denoise"


def test_a_starter_that_is_not_here_is_named_with_the_command_that_brings_it(client):
    error = client.post(f"{URL}?model=waifu2x-photo&denoise=3", content=encoded(photo())).json()["error"]
    assert error["hint"] == "`athanor pull waifu2x-photo-denoise-3` brings it."


REFUSALS = [
    ("scale=5", "invalid_request", "scale"),
    ("scale=two", "invalid_request", "scale"),
    ("scale=", "invalid_request", "scale"),
    ("denoise=4", "invalid_request", "denoise"),
    ("format=bmp", "invalid_request", "format"),
    ("quality=0", "invalid_request", "quality"),
    ("quality=1.5", "invalid_request", "quality"),
    ("depth=16", "invalid_request", "depth"),
    ("background=perhaps", "invalid_request", "background"),
    ("model=", "invalid_request", "model"),
    ("model=nobody", "unknown_model", "model"),
    ("model=double:9", "unknown_version", "model"),
    ("model=colours", "not_servable", "model"),
    ("sclae=2", "invalid_request", "sclae"),
]


@pytest.mark.parametrize(("query", "code", "param"), REFUSALS)
def test_a_wrong_option_is_named(client, query, code, param):
    error = client.post(f"{URL}?{query}", content=encoded(photo(8, 8))).json()["error"]
    assert (error["code"], error["param"]) == (code, param)


BODIES = [
    (b"", 400, "invalid_request"),
    (b"no picture at all", 415, "unsupported_media"),
    (encoded(np.zeros((30, 30, 3), np.uint8))[:60], 400, "image_undecodable"),
    (encoded(np.zeros((500, 500, 3), np.uint8)), 413, "image_too_large"),
    (bytes(2**20 + 1), 413, "payload_too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), BODIES)
def test_a_wrong_picture_is_refused_and_a_good_one_beside_it_is_not(client, body, status, code):
    good = encoded(photo())
    alone = client.post(URL, content=good).content
    with ThreadPoolExecutor() as pool:
        beside = pool.submit(client.post, URL, content=good)
        response = client.post(URL, content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert beside.result().content == alone


def test_what_no_format_or_limit_can_hold_is_refused_before_any_work(client):
    wide = encoded(np.zeros((2, 9_000, 3), np.uint8))
    error = client.post(f"{URL}?format=webp", content=wide).json()["error"]
    assert (error["code"], error["param"]) == ("image_too_large", "format")
    assert "16383" in error["message"]
    large = encoded(np.zeros((300, 300, 3), np.uint8))
    error = client.post(f"{URL}?scale=4", content=large).json()["error"]
    assert (error["code"], error["param"]) == ("image_too_large", "scale")
    assert "ATHANOR_MAX_RESULT_PIXELS" in error["hint"]


def test_a_large_picture_becomes_a_job_and_a_small_one_if_that_is_asked_for(client):
    large = encoded(np.zeros((400, 300, 3), np.uint8))
    response = client.post(URL, content=large)
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["kind"] == "super_resolution"
    assert job["spec"]["model"] == "double:1"
    assert client.get(response.headers["location"]).json()["id"] == job["id"]
    small = client.post(f"{URL}?background=true&scale=3", content=encoded(photo(8, 8)))
    assert small.status_code == 202
    assert small.json()["spec"]["scale"] == 3
    never = client.post(f"{URL}?background=false", content=large).json()["error"]
    assert never["code"] == "image_too_large"
    source = job["spec"]["source"].removeprefix("file:")
    assert client.delete(f"/v1/files/{source}").status_code == 409
    assert client.delete("/v1/models/double").status_code == 409


def test_thirty_two_clients_at_once_each_get_their_own_picture(client):
    pictures = [photo(20 + 3 * index, 110 - 2 * index) for index in range(32)]
    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(lambda one: client.post(URL, content=encoded(one)), pictures))
    batches = set()
    for pixels, response in zip(pictures, responses, strict=True):
        assert np.array_equal(np.asarray(opened(response)), enlarged(pixels))
        batches.add(response.headers["server-timing"].partition('batch;desc="')[2][0])
    assert batches != {"1"}, "windows of different requests never shared a batch"


def test_a_deadline_that_cannot_be_met_is_told(client):
    response = client.post(URL, content=encoded(photo(300, 300)), headers={"x-request-deadline": "0.001"})
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"


def test_pictures_of_other_tasks_are_not_enlarged_by_accident(client):
    body = picture("red")
    assert client.post("/v1/classification?model=double", content=body).status_code == 409
