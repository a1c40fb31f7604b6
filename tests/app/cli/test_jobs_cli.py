"""`athanor jobs` as a person would type it, against a gateway; jobs move as a worker would move them."""

import json
import threading
import time

import pytest

from app.access.principal import SYSTEM
from app.cli.job_watch import metrics_text, show
from app.jobs.job import JobError
from app.jobs.service import JobService
from app.jobs.states import JobStatus
from tests.app.cli.conftest import Desk
from tests.fine_tuning_world import furnish
from tests.job_world import Hand
from tests.packs import class_folders
from tests.serving import environment, gateway

REQUEST = """\
model: base
training_file: digits.zip
adapter: {method: lora, r: 4}
n_epochs: 3
suffix: digits
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs-cli")
    with gateway(folder) as world:
        furnish(world.settings, folder)
        yield world


@pytest.fixture(scope="module")
def athanor(world, forge, tmp_path_factory):
    around = {**environment(world.settings), "ATHANOR_URL": world.url}
    desk = Desk(tmp_path_factory.mktemp("jobs-desk"), around, forge)
    (desk.folder / "digits.zip").write_bytes(class_folders(per_label=2))
    (desk.folder / "job.yaml").write_text(REQUEST)
    (desk.folder / "broken.yaml").write_text("model: base\n  n_epochs: [3\n")
    (desk.folder / "list.yaml").write_text("- model\n")
    return desk


@pytest.fixture
def job_id(athanor):
    return athanor("jobs", "submit", "--model", "base", "--data", "colours", "--json").json["id"]


def test_submit_takes_a_file_uploads_what_it_names_and_changes_fields(world, athanor):
    said = athanor("jobs", "submit", "job.yaml", "--set", "adapter.r=16", "--set", "augmentation=[flip]")
    assert said.code == 0, said
    job_id = said.out.split()[0]
    assert said.out == f"{job_id} is queued; `athanor jobs watch {job_id}` shows how it goes.\n"
    job = athanor("jobs", "show", job_id, "--json").json
    assert job["spec"]["adapter"] == {"method": "lora", "parameters": {"r": 16}}
    assert job["spec"]["augmentation"] == [{"method": "flip", "parameters": {}}]
    assert (job["suffix"], job["spec"]["n_epochs"]) == ("digits", 3)
    with world.client() as http:
        file = http.get(f"/v1/files/{job['training_file']}").json()
    assert (file["filename"], file["bytes"]) == ("digits.zip", (athanor.folder / "digits.zip").stat().st_size)


def test_submit_needs_no_file(athanor):
    flags = ("--model", "base", "--data", "colours:1", "--adapter", "bitfit", "--suffix", "tiny")
    job = athanor("jobs", "submit", *flags, "--dry-run", "--set", "seed=7", "--json").json
    assert (job["dry_run"], job["dataset"], job["suffix"], job["seed"]) == (True, "colours:1", "tiny", 7)
    assert job["spec"]["adapter"]["method"] == "bitfit"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["submit", "broken.yaml"], 2, "broken.yaml, line 2"),
        (["submit", "list.yaml"], 2, "holds no fields"),
        (["submit", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["submit", "job.yaml", "--set", "n_epochs"], 2, "'n_epochs' is no KEY=VALUE"),
        (["submit", "job.yaml", "--set", "n_epochs=[3"], 2, "no YAML"),
        (["submit", "--model", "base", "--data", "gone.zip"], 2, "There is no file gone.zip"),
        (["submit", "job.yaml", "--set", "n_epoch=3"], 1, "Did you mean n_epochs"),
        (["submit", "job.yaml", "--set", "adapter.rank=3"], 1, "lora has no parameter 'rank'"),
        (["submit", "job.yaml", "--model", "bose"], 1, "Did you mean base"),
        (["show", "job_none"], 1, "There is no job 'job_none'"),
        (["watch", "job_none"], 1, "There is no job 'job_none'"),
        (["logs", "job_none"], 1, "There is no job 'job_none'"),
        (["rerun", "job_none"], 1, "There is no job 'job_none'"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line_and_a_hint(athanor, arguments, code, says):
    assert says in athanor.refuses("jobs", *arguments, code=code)


def test_jobs_are_listed_shown_paused_resumed_and_cancelled(athanor, job_id):
    [line] = [line for line in athanor("jobs").out.splitlines() if line.startswith(job_id)]
    assert line.split()[1:5] == ["fine_tune", "queued", "0%", "base"]
    assert athanor("jobs", "pause", job_id).out == f"{job_id}: paused.\n"
    assert athanor("jobs", "resume", job_id).out == f"{job_id}: queued.\n"
    assert athanor("jobs", "cancel", job_id).out == f"{job_id}: cancelled.\n"
    listed = athanor("jobs", "list", "--status", "cancelled", "--kind", "fine_tune", "--json").json["data"]
    assert job_id in [job["id"] for job in listed]
    shown = athanor("jobs", "show", job_id).out.splitlines()
    assert shown[0] == f"{job_id}: training"
    assert {line.split()[0]: line.split(maxsplit=1)[1] for line in shown[1:]}["data"] == "colours:2"
    assert "is not paused" in athanor.refuses("jobs", "resume", job_id)
    assert athanor("jobs", "list", "--kind", "export").out == "There is no such job.\n"


def test_a_running_job_is_asked(world, athanor, job_id):
    hand = Hand(world.database, job_id)
    asked = f"{job_id}: pause asked for; it is running and will be paused soon.\n"
    assert athanor("jobs", "pause", job_id).out == asked
    hand.end(JobStatus.CANCELLED)


def test_checkpoints_are_listed_and_published_by_their_step(world, athanor, job_id):
    assert athanor("jobs", "checkpoints", job_id).out == "It keeps none.\n"
    hand = Hand(world.database, job_id)
    hand.checkpoint(10, train_loss=0.5)
    hand.checkpoint(20, valid_accuracy=0.9, valid_loss=0.25)
    name = athanor("jobs", "show", job_id, "--json").json["planned_model"]
    lines = athanor("jobs", "checkpoints", job_id).out.splitlines()
    assert [line.split() for line in lines if "@ckpt-" in line] == [
        ["20", "90.0%", "0.2500", "120", "B", f"{name}@ckpt-20"],
        ["10", "110", "B", f"{name}@ckpt-10"],
    ]
    assert "when it has ended" in athanor.refuses("jobs", "publish-checkpoint", job_id, "20")
    hand.end(JobStatus.CANCELLED)
    assert "It keeps ckpt-20, ckpt-10." in athanor.refuses("jobs", "publish-checkpoint", job_id, "30")
    asked = athanor("jobs", "publish-checkpoint", job_id, "20").out
    made = asked.split()[0]
    assert asked == f"{made} makes {name}@ckpt-20; `athanor jobs watch {made}` shows how it goes.\n"
    assert athanor("jobs", "show", made, "--json").json["kind"] == "publish_checkpoint"
    assert athanor("jobs", "publish-checkpoint", job_id, "ckpt-20", "--json").json["id"] == made
    athanor("jobs", "cancel", made)


def test_watch_tells_what_happens_and_how_it_ended(world, athanor, job_id):
    watching = athanor.start("jobs", "watch", job_id)
    hand = Hand(world.database, job_id)
    hand.note(phase="training", progress=0.5, metrics={10: {"train_loss": 0.25}})
    hand.end(result={"model": "base-1:1"})
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 0, err
    url = "/v1/models/base-1/versions/1/artifacts/report.html"
    assert out == f"base-1 is ready. Report: {url}\n"
    said = [line.split(maxsplit=1)[1] for line in err.splitlines()]
    assert said == ["created", "started", "training", "Step 10: train_loss=0.25", "succeeded"]


def test_watch_of_a_job_that_fails_says_why_and_ends_with_one(world, athanor, job_id):
    error = JobError(code="invalid_dataset", message="3.png is broken.", hint="Leave it out.")
    Hand(world.database, job_id).end(JobStatus.FAILED, error=error)
    said = athanor("jobs", "watch", job_id)
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-2:] == ["athanor: 3.png is broken.", "  Leave it out."]
    shown = athanor("jobs", "show", job_id).out
    assert "error       3.png is broken." in shown


def test_submit_can_stay_to_watch(world, athanor):
    watching = athanor.start(
        "jobs", "submit", "--model", "base", "--data", "colours", "--dry-run", "--watch", "--json"
    )
    jobs = JobService(world.database, lambda _: None)
    deadline_s = time.monotonic() + 60
    while not (found := jobs.list(SYSTEM, kind="preflight", status=JobStatus.QUEUED, limit=1)) or (
        found[0].spec["dataset"] != "colours:2"
    ):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    estimate = {"seconds": 42.0, "peak_bytes": 3e8}
    hand = Hand(world.database, found[0].id)
    hand.note(facts={"estimate": estimate})
    hand.end(result={"dataset": "colours:2", "estimate": estimate})
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 0, err
    assert json.loads(out)["estimate"] == estimate
    assert "about 42 s, 300.0 MB of memory" in athanor("jobs", "show", found[0].id).out


def test_logs_hold_events_and_metrics_and_can_follow(world, athanor, job_id):
    hand = Hand(world.database, job_id)
    hand.note(metrics={10: {"train_loss": 0.25}})
    lines = athanor("jobs", "logs", job_id).out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == ["created", "started", "Step 10: train_loss=0.25"]
    following = athanor.start("jobs", "logs", job_id, "--follow", "--json")
    timer = threading.Timer(1.0, lambda: hand.end(result={"model": "x:1"}))
    timer.start()
    out, _ = following.communicate(timeout=60)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["kind"] for event in events] == ["state", "state", "metrics", "state"]
    assert events[2]["data"] == {"step": 10, "train_loss": 0.25}


def test_rerun_changes_fields(athanor, job_id):
    again = athanor("jobs", "rerun", job_id, "--set", "adapter.r=2", "--set", "n_epochs=1", "--json").json
    assert again["rerun_of"] == job_id
    assert again["spec"]["adapter"] == {"method": "lora", "parameters": {"r": 2}}
    assert again["spec"]["n_epochs"] == 1
    said = athanor("jobs", "rerun", job_id).out
    assert said.endswith(f"is queued; it runs {job_id} again.\n")


def test_the_bar_shows_the_phase_the_progress_and_the_newest_metrics():
    updates, said = [], []
    told = [
        ("state", {"created_at": 0, "level": "info", "message": "started"}),
        ("status", {"status": "queued", "phase": None, "progress": 0.0}),
        ("status", {"status": "running", "phase": "training", "progress": 0.5}),
        ("metrics", {"data": {"step": 10, "train_loss": 0.51234, "valid_loss": None}}),
        ("metrics", {"data": {"step": 20, "valid_accuracy": 0.98}}),
        ("progress", {"created_at": 0, "level": "info", "message": "training"}),
    ]
    show(iter(told), lambda **changes: updates.append(changes), said.append)
    assert updates == [
        {"description": "queued", "completed": 0.0},
        {"description": "training", "completed": 0.5},
        {"metrics": "step 10 · train_loss 0.5123"},
        {"metrics": "step 20 · train_loss 0.5123 · valid_accuracy 0.98"},
    ]
    assert said == ["00:00:00 started"]
    assert metrics_text({}) == ""
