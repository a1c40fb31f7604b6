"""Every verb as a person would type it: real `athanor` processes against one real `athanor serve`."""

import csv
import io
import json
import os
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.cli import VERBS
from tests.app.supervisor.service_process import REPOSITORY
from tests.colour_models import COLOURS, enlarged, picture, write_enlarger

IMPORT = ("import", "colours.onnx", "--size", "32", "--crop", "1")


# -- import ------------------------------------------------------------------------------------------
# Each import is a process of its own and takes seconds: where it is not the point, versions are published.


def test_import_shows_its_phases_and_brings_the_next_version(athanor):
    said = athanor(*IMPORT, "--name", "colours", "--labels", "labels.txt", "--json")
    assert (said.code, said.json["result"]["model"]) == (0, "colours:2")
    assert said.err.splitlines()[-1] == "colours: succeeded (100%)"
    assert "colours: checking" in said.err


def test_import_with_a_reference_is_certified_and_verifies(athanor):
    certified = (*IMPORT, "--name", "proven", "--reference", "reference.safetensors")
    said = athanor(*certified, "--labels", "red,green,blue", "--json")
    assert (said.code, said.json["result"]["level"]) == (0, "certified")
    proof = athanor("verify", "proven")
    assert proof.code == 0
    assert "proven:1 holds: it reproduces 3 samples by the test." in proof.out
    facts = athanor("verify", "proven:1", "--json").json
    assert facts["computed"]["agreement"]["max_abs"] <= facts["stored"]["agreement"]["tolerance"]
    refused = athanor.refuses(*certified, "--labels", "green,red,blue")
    assert "labels" in refused


def test_import_of_an_upscaler_needs_no_labels_and_makes_pictures_larger_at_once(athanor):
    write_enlarger(athanor.folder / "larger.onnx", scale=3)
    what = ("--name", "larger", "--task", "super-resolution", "--size", "96")
    assert athanor("import", "larger.onnx", *what, "--json").json["result"]["model"] == "larger:1"
    pixels = np.random.default_rng(2).integers(0, 256, (40, 100, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    address = json.loads((Path(athanor.environment["ATHANOR_DATA_DIR"]) / "serve.json").read_text())["url"]
    url = f"{address}/v1/super-resolution?model=larger"
    headers = {"authorization": f"Bearer {athanor.environment['ATHANOR_API_KEY']}"}
    answer = httpx.post(url, content=file.getvalue(), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), enlarged(pixels, scale=3))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["colours.onnx", "--labels", "a,b,c", "--size", "33"], "Give height 32"),
        (["notes.onnx", "--labels", "a,b", "--size", "32"], "not ONNX"),
    ],
)
def test_import_refuses_what_does_not_fit_the_file(athanor, arguments, says):
    assert says in athanor.refuses("import", *arguments, "--name", "bad")
    assert "There is no model 'bad'" in athanor.refuses("models", "show", "bad")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["colours.onnx", "--size", "32"], "--labels"),
        (["colours.onnx", "--size", "32", "--labels", "nowhere.txt"], "'nowhere.txt'"),
        (["colours.onnx", "--size", "0", "--labels", "a,b,c"], "'0' is no size"),
        (["colours.onnx", "--size", "9999", "--labels", "a,b,c"], "4096"),
        (["colours.onnx", "--size", "32", "--labels", "a,b,c", "--mean", "1,2"], "--mean"),
        (["nowhere.onnx", "--size", "32", "--labels", "a,b,c"], "nowhere.onnx"),
        (["colours.onnx", "--size", "32", "--labels", "a,b,c", "--fit", "stretch"], "squash"),
    ],
)
def test_import_says_what_is_wrong_with_its_command_line(athanor, arguments, says):
    refused = athanor.refuses("import", *arguments, "--name", "bad", code=2)
    assert says in refused
    assert "`athanor import --help`" in refused


def test_import_refuses_a_name_that_is_taken_for_another_task_or_no_name(athanor):
    clash = athanor.refuses(*IMPORT, "--name", "colours", "--labels", "a,b,c", "--task", "segmentation")
    assert "colours is a classification model" in clash
    assert "cannot be named 'Colours'" in athanor.refuses(*IMPORT, "--name", "Colours", "--labels", "a,b,c")


# -- pull --------------------------------------------------------------------------------------------
# Its success is in `tests/docs/test_readme.py`: it needs a package index.


def test_pull_lists_the_starters(athanor):
    listed = athanor("pull").out
    starters = athanor("pull", "--json").json
    assert len(starters) >= 2
    for starter in starters:
        assert starter["name"] in listed
        assert starter["source"].startswith("pypi:")


def test_pull_refuses_what_it_does_not_know(athanor):
    assert "there is efficientnet-lite0" in athanor.refuses("pull", "efficientnet-lite9")
    assert "--name" in athanor.refuses("pull", "hf:org/name@main#model.onnx", code=2)
    assert "source" in athanor.refuses("pull", "ftp://elsewhere/model", "--name", "elsewhere")


# -- models ------------------------------------------------------------------------------------------


def test_models_move_their_aliases_and_go(athanor, publish):
    publish("line")
    publish("line")
    [line] = [line for line in athanor("models").out.splitlines() if line.startswith("line")]
    assert line.split()[:5] == ["line", "classification", "default=1", "2", "imported"]
    assert athanor("models", "promote", "line", "2").out == "line@default is version 2; before it was 1.\n"
    assert athanor("models", "rollback", "line").out == "line@default is version 1; before it was 2.\n"
    assert athanor("models", "promote", "line", "2", "--alias", "beta").out == "line@beta is version 2.\n"
    shown = athanor("models", "show", "line").out.splitlines()
    assert shown[0].startswith("line: classification, since 20")
    assert [line.split()[4:5] for line in shown[2:]] == [["default"], ["beta"]]
    assert "line@default points at" in athanor.refuses("models", "delete", "line:1", "--yes")
    assert athanor("models", "delete", "line@beta", "--yes").out == "line@beta is deleted.\n"
    assert athanor("models", "delete", "line:2", "--yes", "--json").json["deleted"] is True
    assert athanor("models", "delete", "line", "-y").out == "line is deleted.\n"
    assert "line" not in athanor("models", "list").out


def test_models_in_json_are_what_the_api_says(athanor):
    [model] = [each for each in athanor("models", "--json").json["data"] if each["id"] == "colours"]
    assert (model["aliases"], model["task"]) == ({"default": 1}, "classification")
    shown = athanor("models", "show", "colours", "--json").json
    assert shown["versions"][0]["id"] == "colours:1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "colour"], "Did you mean colours?"),
        (["promote", "colours", "9"], "has no version 9"),
        (["rollback", "colours"], "no version to go back to"),
        (["rollback", "colours", "--alias", "beta"], "has no alias 'beta'"),
        (["delete", "nothing", "--yes"], "There is no model 'nothing'"),
    ],
)
def test_models_refuse_what_is_not_there(athanor, arguments, says):
    assert says in athanor.refuses("models", *arguments)


def test_models_delete_asks_first(athanor):
    said = athanor("models", "delete", "colours")  # standard input is empty: nobody says yes
    assert said.code == 130
    assert athanor("models", "show", "colours").code == 0
    assert "'colours:first' names no version" in athanor.refuses("models", "delete", "colours:first", code=2)


# -- classify ----------------------------------------------------------------------------------------


def test_classify_answers_in_the_order_given(athanor):
    said = athanor("classify", "pictures/red.png", "pictures", "--top-k", "1")
    assert said.code == 0
    assert [line.split() for line in said.out.splitlines()] == [
        [f"pictures/{colour}.png", colour, "1.00"] for colour in ("red", "blue", "green", "red")
    ]


def test_classify_looks_deeper_when_told(athanor):
    lines = athanor("classify", "-r", "pictures", "--json", "--top-k", "1").out.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [Path(answer["path"]).name for answer in answers] == [
        "blue.png", "green.png", "deep.JPG", "red.png",
    ]  # fmt: skip
    assert [answer["predictions"][0]["label"] for answer in answers] == ["blue", "green", "blue", "red"]
    assert {answer["model"] for answer in answers} == {"colours:1"}  # a further version moves no alias
    (athanor.folder / "empty" / "pictures").mkdir(parents=True)
    assert "--recursive looks deeper" in athanor.refuses("classify", "empty", code=2)


def test_classify_reports_a_broken_picture_and_goes_on(athanor):
    said = athanor("classify", "broken.png", "nowhere.png", "pictures/green.png", "--csv", "--top-k", "2")
    assert said.code == 1
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [(row["path"], row["rank"], row["label"], row["error"]) for row in rows] == [
        ("broken.png", "", "", "image_undecodable"),
        ("nowhere.png", "", "", "unreadable"),
        ("pictures/green.png", "1", "green", ""),
        ("pictures/green.png", "2", rows[3]["label"], ""),
    ]
    assert said.err.splitlines() == [
        "athanor: broken.png: The PNG is cut short: its end chunk is missing.",
        "athanor: nowhere.png: No such file or directory",
        "athanor: 2 of 3 had no answer.",
    ]


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["pictures", "--model", "colors"], "Did you mean colours?", 1),
        (["pictures", "--model", "colours:9"], "has no version 9", 1),
        (["pictures", "--top-k", "0"], "--top-k", 2),
        (["pictures", "--csv", "--json"], "--csv", 2),
        ([], "PATH", 2),
    ],
)
def test_classify_says_once_what_every_picture_would_meet(athanor, arguments, says, code):
    process = athanor("classify", *arguments)
    assert process.code == code
    assert says in process.err
    assert len(process.err.splitlines()) <= 2
    assert process.out in ("", "path,model,rank,label,score,error\n")


def test_classify_takes_many_pictures_in_bounded_time(athanor):
    many = athanor.folder / "many"
    many.mkdir()
    for index in range(200):
        (many / f"{index:03}.png").write_bytes(picture(COLOURS[index % 3], noise=index + 1))
    lines = athanor("classify", many, "--json", "--top-k", "1").out.splitlines()
    labels = [json.loads(line)["predictions"][0]["label"] for line in lines]
    assert labels == [COLOURS[index % 3] for index in range(200)]


# -- reaching the service ----------------------------------------------------------------------------

REQUESTS = [
    ["models"],
    ["models", "show", "colours"],
    ["classify", "pictures"],
    ["pull", "efficientnet-lite0"],
    [*IMPORT, "--name", "colours", "--labels", "a,b,c"],
]


@pytest.mark.parametrize("arguments", REQUESTS)
def test_a_service_that_does_not_run_is_two_lines(stranger, arguments):
    assert stranger.refuses(*arguments).splitlines() == [
        "athanor: Nobody answers at http://127.0.0.1:1 (connection refused).",
        "  Start it with `athanor serve`, or name the right address with --url or ATHANOR_URL.",
    ]


@pytest.mark.parametrize("arguments", REQUESTS)
def test_a_wrong_key_is_two_lines(athanor, arguments):
    refused = athanor.refuses(*arguments, ATHANOR_API_KEY="wrong")
    assert "key" in refused


def test_an_address_and_a_key_reach_it_from_elsewhere(athanor, service, stranger):
    url = json.loads((service.data_dir / "serve.json").read_text())["url"]
    key = service.environment["ATHANOR_API_KEY"]
    assert "colours" in stranger("models", "--url", url, ATHANOR_API_KEY=key).out
    assert "colours" in stranger("models", ATHANOR_URL=url, ATHANOR_API_KEY=key).out
    assert "key" in stranger.refuses("models", "--url", url)


def test_ctrl_c_stops_watching_and_not_the_job(athanor, service):
    worker = service.pid_of("workers")
    os.kill(worker, signal.SIGSTOP)  # the job must not end before Ctrl-C does
    try:
        process = athanor.start(*IMPORT, "--name", "watched", "--labels", "a,b,c")
        first = process.stderr.readline()
        assert first.startswith("watched: ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert process.returncode == 130
    assert "goes on" in err
    assert "Traceback" not in err
    deadline_s = time.monotonic() + 60
    while athanor("models", "show", "watched").code:
        assert time.monotonic() < deadline_s


# -- the frame ---------------------------------------------------------------------------------------


def test_help_is_quick_and_lists_every_verb(stranger):
    cpu_s = []
    for _ in range(3):
        before = os.times()
        said = stranger("--help")
        after = os.times()
        cpu_s.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
        assert said.code == 0
    assert all(f" {verb} " in said.out for verb in VERBS)
    assert min(cpu_s) < 0.4, cpu_s


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(stranger, verb):
    said = stranger(verb, "--help")
    assert said.code == 0
    assert f"athanor {verb}" in said.out


def test_the_console_command_is_this_one():
    assert 'athanor = "app.cli:main"' in (REPOSITORY / "pyproject.toml").read_text()
