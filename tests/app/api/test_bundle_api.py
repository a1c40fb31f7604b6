"""A version to take home: one zip, and a README whose few lines run without Athanor."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.access.principal import SYSTEM, Principal
from app.api.bundle_readme import README_FILE, readme
from app.api.stored_zip import Member, StoredZip
from app.db import migrate
from app.db.session import Database
from app.main import create_app
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import MODEL_FILE, Preprocessing, sha256_hex
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits
from tests.colour_models import (
    SIDE,
    picture,
    publish_colour_segmenter,
    publish_colours,
    publish_enlarger,
    publish_tiled_segmenter,
)
from tests.registry_world import build_certificate, build_manifest, publish

ADAPTER = b'{"peft_type": "LORA"}'
REPORT = b"<!doctype html><title>report</title>"


@pytest.fixture
def world(tmp_path):
    """A gateway over `colours:1` and `trained:1`, which has an adapter and a report."""
    settings = Settings(data_dir=tmp_path / "data", default_classifier="", starters="", _env_file=None)
    migrate.upgrade(settings.sqlalchemy_url)
    database, objects = Database(settings.sqlalchemy_url), ObjectStore.from_settings(settings)
    registry = Registry(database, objects)
    publish_colours(registry, tmp_path / "colours", name="colours")
    files = {"adapter_config.json": ADAPTER, "report.html": REPORT, MODEL_FILE: b"onnx" * 700_000}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    manifest = build_manifest()
    registry.publish(
        SYSTEM,
        name="trained",
        manifest=manifest,
        certificate=build_certificate(manifest, files[MODEL_FILE]),
        artifacts={name: tmp_path / name for name in files},
    )
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield SimpleNamespace(client=client, registry=registry, objects=objects, folder=tmp_path)
    database.close()


def bundle(client, name):
    answer = client.get(f"/v1/models/{name}/versions/1/bundle")
    assert answer.status_code == 200, answer.text
    assert len(answer.content) == int(answer.headers["content-length"])
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_the_bundle_holds_every_file_of_the_version_as_it_is(world):
    archive = bundle(world.client, "trained")
    assert archive.testzip() is None
    listed = world.client.get("/v1/models/trained/versions/1").json()["artifacts"]
    assert len(listed) == 5
    assert set(archive.namelist()) == {f"trained-1/{file['name']}" for file in listed} | {
        "trained-1/README.txt"
    }
    for file in listed:
        assert sha256_hex(archive.read(f"trained-1/{file['name']}")) == file["sha256"]
    assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    assert {info.flag_bits & 8 for info in archive.infolist()} == {0}  # sizes stand before the bytes
    text = archive.read("trained-1/README.txt").decode()
    assert "adapter_config.json how the base was changed" in " ".join(text.split())


def test_the_readme_lets_the_files_be_checked(world, tmp_path):
    bundle(world.client, "trained").extractall(tmp_path / "home")
    home = tmp_path / "home" / "trained-1"
    check = ["sha256sum", "--check", "--quiet", "README.txt"]
    subprocess.run(check, cwd=home, check=True, capture_output=True)
    (home / "report.html").write_text("another")
    assert subprocess.run(check, cwd=home, capture_output=True, check=False).returncode == 1


@pytest.mark.skipif(shutil.which("unzip") is None, reason="there is no unzip")
def test_other_programs_unpack_it(world, tmp_path):
    path = tmp_path / "trained.zip"
    path.write_bytes(world.client.get("/v1/models/trained/versions/1/bundle").content)
    subprocess.run(["unzip", "-tq", path], check=True, capture_output=True)


def test_it_has_a_name_a_tag_and_is_not_sent_twice(world):
    url = "/v1/models/trained/versions/1/bundle"
    first, second = world.client.get(url), world.client.get(url)
    assert first.content == second.content
    assert first.headers["content-disposition"] == "attachment; filename*=UTF-8''trained-1.zip"
    unchanged = world.client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    other = world.client.get("/v1/models/colours/versions/1/bundle")
    assert other.headers["etag"] != first.headers["etag"]


def script_of(text, name="classify.py"):
    return text.partition(f"--- {name} ---\n")[2].partition(f"\n--- end of {name} ---")[0]


def at_home(world, model, script, photo, folder):
    """What a bundle's script prints, for a picture."""
    bundle(world.client, model).extractall(folder)
    home = folder / f"{model}-1"
    (home / script).write_text(script_of((home / README_FILE).read_text(), script))
    (home / "photo.png").write_bytes(photo)
    command = [sys.executable, "-W", "error", script, "photo.png"]
    environment = {"PATH": os.environ["PATH"]}
    ran = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True)
    return home, ran.stdout


def test_the_readme_runs_the_model_without_athanor(world, tmp_path):
    photo = picture("green", noise=1)
    home, said = at_home(world, "colours", "classify.py", photo, tmp_path)
    assert len((home / "classify.py").read_text().splitlines()) == 10
    answer = world.client.post("/v1/classification", params={"model": "colours"}, content=photo).json()
    assert said.splitlines() == [f"{each['score']:.4f}  {each['label']}" for each in answer["predictions"]]


def mosaic():
    """A picture of many colours, encoded; of no size that a network likes."""
    small = np.random.default_rng(4).integers(0, 256, (9, 13, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((101, 67), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("how", ["squash", "pad", "tiles"])
def test_a_segmenters_script_finds_what_its_route_answers(world, how, tmp_path):
    if how == "tiles":
        publish_tiled_segmenter(world.registry, tmp_path / "made", name="where")
    else:
        activation = "sigmoid" if how == "pad" else "softmax"
        publish_colour_segmenter(
            world.registry, tmp_path / "made", name="where", fit=how, activation=activation
        )
    home, said = at_home(world, "where", "segment.py", mosaic(), tmp_path)
    answer = world.client.post("/v1/segmentation?model=where&output=labelmap", content=mosaic())
    expected = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert said == ""
    assert np.array_equal(np.asarray(Image.open(home / "labels.png")), expected)
    assert len(np.unique(expected)) > 2


def test_an_upscalers_script_makes_what_its_route_answers(world, tmp_path):
    publish_enlarger(world.registry, tmp_path / "made", name="larger")
    home, _ = at_home(world, "larger", "enlarge.py", mosaic(), tmp_path)
    answer = world.client.post("/v1/super-resolution?model=larger", content=mosaic())
    assert answer.status_code == 200, answer.text
    expected = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    made = np.asarray(Image.open(home / "enlarged.png"))
    assert np.abs(made - expected).max() <= 1


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("interpolation", ["bicubic", "nearest"])
@pytest.mark.parametrize("size", [(90, 61), (61, 90), (400, 33), (101, 67)])
def test_the_lines_see_the_pixels_that_the_codec_sees(fit, interpolation, size, monkeypatch, tmp_path):
    manifest = build_manifest().model_copy(
        update={
            "preprocessing": Preprocessing(
                height=24, width=SIDE, fit=fit, crop=0.8, interpolation=interpolation
            )
        }
    )
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "manifest.json").write_bytes(manifest.to_json())
    version = SimpleNamespace(
        manifest=manifest,
        number=1,
        certificate=build_certificate(manifest, b""),
        artifacts=(SimpleNamespace(name=MODEL_FILE, sha256="0" * 64),),
        artifact=lambda name: name,
    )
    seen = []

    class Session:
        def __init__(self, path):
            assert path == MODEL_FILE

        def run(self, outputs, inputs):
            seen.append(inputs["image"])
            return [np.zeros((1, 2), np.float32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(sys, "argv", ["classify.py", "photo.png"])
    monkeypatch.chdir(tmp_path)
    exec(script_of(readme("any", version)), {})
    codec = ClassificationCodec(manifest, ImageLimits())
    expected = codec.decode((tmp_path / "photo.png").read_bytes())
    assert np.array_equal(seen[0][0], expected)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nothing/versions/1", (404, "unknown_model")),
        ("colours/versions/9", (404, "unknown_version")),
        ("colours/versions/0", (422, "invalid_payload")),
    ],
)
def test_what_is_not_there_is_said(world, path, expected):
    answer = world.client.get(f"/v1/models/{path}/bundle")
    assert (answer.status_code, answer.json()["error"]["code"]) == expected


def test_a_missing_or_damaged_file_is_an_error_and_no_broken_zip(world):
    version = world.registry.get_version(SYSTEM, "trained", 1)
    path = world.objects.fetch(SYSTEM, version.artifact(MODEL_FILE).sha256)
    path.write_bytes(b"other" * 100)
    answer = world.client.get("/v1/models/trained/versions/1/bundle")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    path.unlink()
    answer = world.client.get("/v1/models/trained/versions/1/bundle")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_another_tenants_version_is_not_there(world, tmp_path):
    publish(world.registry, Principal(tenant_id="other"), tmp_path / "theirs", name="theirs")
    answer = world.client.get("/v1/models/theirs/versions/1/bundle")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_model")


GIGABYTE = 1 << 30
ZEROS = bytes(1 << 20)


@pytest.mark.parametrize("gigabytes", [3, 4, 5])
def test_a_zip_of_many_gigabytes_is_read_by_others_and_takes_no_memory(gigabytes, tmp_path):
    taken = []

    def zeros():
        for _ in range(gigabytes << 10):
            taken.append(None)
            yield ZEROS

    members = [
        Member(name="a/large", size_bytes=gigabytes * GIGABYTE, crc32=0, chunks=zeros),
        Member(name="a/gr\u00f6\u00dfer", size_bytes=5, crc32=0x3610A686, chunks=lambda: iter((b"hello",))),
    ]
    archive = StoredZip(members, created_at=1_767_225_600.0)
    path = tmp_path / "large.zip"
    with path.open("wb") as file:  # sparse: the zeros are skipped
        for chunk in archive.stream():
            if chunk is ZEROS:
                file.seek(len(chunk), os.SEEK_CUR)
            else:
                file.write(chunk)
    assert len(taken) == gigabytes << 10
    assert path.stat().st_size == archive.size_bytes
    with zipfile.ZipFile(path) as found:
        large, small = found.infolist()
        assert (large.filename, large.file_size) == ("a/large", gigabytes * GIGABYTE)
        assert found.read(small) == b"hello"
        assert small.filename == "a/gr\u00f6\u00dfer"
        assert small.date_time == (2026, 1, 1, 0, 0, 0)
        with found.open(large) as first:
            assert first.read(10) == bytes(10)
