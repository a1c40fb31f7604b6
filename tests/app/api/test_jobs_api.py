import json
import time

import pytest
from starlette.testclient import TestClient

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.session import Database
from app.jobs.job import JobError, Note
from app.jobs.records import RunRecords
from app.jobs.states import JobStatus
from app.jobs.store import JobStore
from app.main import create_app
from app.settings import Settings
from app.storage.objects import Stored

STARTER = {"kind": "import", "spec": {"source": "starter:efficientnet-lite0", "name": "lite"}}


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
def database(settings):
    database = Database(settings.sqlalchemy_url)
    yield database
    database.close()


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_a_job_is_queued_and_its_doorbell_rung(client, settings):
    made = client.post("/v1/jobs", json=STARTER)
    assert made.status_code == 201, made.text
    job = made.json()
    assert abs(job.pop("created_at") - time.time()) < 5
    job_id = job.pop("id")
    assert job == {
        "object": "job",
        "kind": "import",
        "status": "queued",
        "started_at": None,
        "finished_at": None,
        "progress": 0.0,
        "phase": None,
        "attempts": 0,
        "priority": 0,
        "pause_requested": False,
        "time_limit_s": None,
        "ran_s": 0.0,
        "rerun_of": None,
        "facts": {},
        "spec": STARTER["spec"],
        "result": None,
        "error": None,
    }
    assert client.get(f"/v1/jobs/{job_id}").json() == made.json()
    assert len(list((settings.data_dir / "broker" / "messages").iterdir())) == 1


def test_a_failed_job_says_why_and_how_it_came_to_it(client, database):
    job_id = client.post("/v1/jobs", json=STARTER).json()["id"]
    store = JobStore(database)
    claimed = store.claim(job_id, holder="w", lease_s=20)
    note = Note(progress=0.25, phase="downloading", messages=("from the index",))
    RunRecords(database).write(job_id, claimed.token, note)
    error = JobError(code="import_refused", message="No.", hint="Try another.")
    with database.begin() as session:
        store.finish(session, job_id, claimed.token, JobStatus.FAILED, error=error)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["progress"], job["attempts"]) == ("failed", 0.25, 1)
    assert job["error"] == {"code": "import_refused", "message": "No.", "hint": "Try another."}
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    events = client.get(f"/v1/jobs/{job_id}/events").json()
    assert [(event["kind"], event["level"], event["message"]) for event in events["data"]] == [
        ("state", "info", "created"),
        ("state", "info", "started"),
        ("progress", "info", "downloading"),
        ("message", "info", "from the index"),
        ("state", "error", "No."),
    ]
    first, *rest = events["data"]
    page = client.get(f"/v1/jobs/{job_id}/events", params={"after": first["id"], "limit": 2}).json()
    assert (page["data"], page["has_more"]) == (rest[:2], True)


def test_jobs_are_listed_newest_first_in_pages_and_by_status(client):
    made = []
    for _ in range(3):
        made.append(client.post("/v1/jobs", json=STARTER).json()["id"])
        time.sleep(0.002)  # ids made in one millisecond sort at random
    client.post(f"/v1/jobs/{made[0]}/cancel")
    page = client.get("/v1/jobs", params={"limit": 2}).json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
    rest = client.get("/v1/jobs", params={"after": made[1]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([made[0]], False)
    queued = client.get("/v1/jobs", params={"status": "queued", "kind": "import"}).json()
    assert [job["id"] for job in queued["data"]] == [made[2], made[1]]
    assert client.get("/v1/jobs", params={"kind": "export"}).json()["data"] == []


def test_cancelling_ends_a_waiting_job_and_a_failed_one_cannot_be_cancelled(client, database):
    job_id = client.post("/v1/jobs", json=STARTER).json()["id"]
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    other = client.post("/v1/jobs", json=STARTER).json()["id"]
    store = JobStore(database)
    claimed = store.claim(other, holder="w", lease_s=20)
    with database.begin() as session:
        store.finish(session, other, claimed.token, JobStatus.SUCCEEDED)
    assert code(client.post(f"/v1/jobs/{other}/cancel")) == (409, "job_not_cancellable")


def test_a_request_made_again_with_its_key_is_the_same_job(client):
    key = {"Idempotency-Key": "abc"}
    first = client.post("/v1/jobs", json=STARTER, headers=key).json()
    assert client.post("/v1/jobs", json=STARTER, headers=key).json() == first
    other = {**STARTER, "spec": {**STARTER["spec"], "name": "other"}}
    assert code(client.post("/v1/jobs", json=other, headers=key)) == (409, "conflict")
    assert len(client.get("/v1/jobs").json()["data"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "probe", "spec": {}},
        {"kind": "import", "spec": {"name": "x"}},
        {"kind": "import", "spec": {"name": "x", "source": "file:/etc/passwd"}},
        {"kind": "import", "spec": {"name": "x", "source": "file:file_../../etc/passwd"}},
        {"kind": "import", "spec": {"name": "x", "source": "/etc/passwd"}},
        {"kind": "import", "spec": {"name": "x", "source": "https://example.org/model.onnx"}},
        {"kind": "import", "spec": {"name": "x", "source": "starter:x\nhf:y"}},
        {"kind": "import", "spec": {"name": "x", "source": "starter:x", "std": float("nan")}},
        {"kind": "import", "spec": {"name": "x", "source": "starter:x", "labels": ["x" * 2**20]}},
    ],
)
def test_a_job_that_must_not_be_asked_for_here_is_refused(client, body):
    answer = client.post("/v1/jobs", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert code(answer) == (422, "invalid_payload")
    assert client.get("/v1/jobs").json()["data"] == []


def test_unknown_jobs_are_not_found(client):
    for answer in (
        client.get("/v1/jobs/job_none"),
        client.get("/v1/jobs/job_none/events"),
        client.get("/v1/jobs/job_none/checkpoints"),
        client.get("/v1/jobs/job_none/metrics"),
        client.post("/v1/jobs/job_none/cancel"),
        client.post("/v1/jobs/job_none/pause"),
        client.post("/v1/jobs/job_none/resume"),
        client.post("/v1/jobs/job_none/rerun", json={}),
    ):
        assert code(answer) == (404, "not_found")


def test_another_tenants_job_is_not_found(client, database):
    from app.access.principal import Principal
    from app.jobs.service import JobService

    jobs = JobService(database, lambda _: None)
    theirs = jobs.create(Principal(tenant_id="b"), kind="import", spec={})
    ours = jobs.create(SYSTEM, kind="import", spec={"source": "starter:x", "name": "x"})
    assert code(client.get(f"/v1/jobs/{theirs.id}")) == (404, "not_found")
    assert [job["id"] for job in client.get("/v1/jobs").json()["data"]] == [ours.id]


def test_a_job_is_paused_and_resumed(client, settings):
    job_id = client.post("/v1/jobs", json=STARTER).json()["id"]
    assert client.post(f"/v1/jobs/{job_id}/pause").json()["status"] == "paused"
    assert client.post(f"/v1/jobs/{job_id}/resume").json()["status"] == "queued"
    assert code(client.post(f"/v1/jobs/{job_id}/resume")) == (409, "conflict")
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert code(client.post(f"/v1/jobs/{job_id}/pause")) == (409, "conflict")
    assert len(list((settings.data_dir / "broker" / "messages").iterdir())) == 2


def test_a_job_is_run_again_with_fields_changed(client):
    first = client.post("/v1/jobs", json={**STARTER, "priority": 3, "time_limit_s": 60}).json()
    assert (first["priority"], first["time_limit_s"]) == (3, 60.0)
    answer = client.post(f"/v1/jobs/{first['id']}/rerun", json={"changes": {"name": "lite-2"}})
    assert answer.status_code == 201, answer.text
    second = answer.json()
    assert second["id"] != first["id"]
    assert second["spec"] == {"source": "starter:efficientnet-lite0", "name": "lite-2"}
    assert (second["rerun_of"], second["priority"], second["time_limit_s"]) == (first["id"], 3, 60.0)
    assert client.post(f"/v1/jobs/{first['id']}/rerun", json={}).json()["spec"] == first["spec"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"source": "file:/etc/passwd"}, "changes.source"),
        ({"nmae": "x"}, "changes.nmae"),
        ({"name": ""}, "changes.name"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_naming_the_field(client, changes, param):
    job_id = client.post("/v1/jobs", json=STARTER).json()["id"]
    answer = client.post(f"/v1/jobs/{job_id}/rerun", json={"changes": changes})
    assert code(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == param
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_checkpoints_and_metrics_of_a_run_can_be_read(client, database):
    job_id = client.post("/v1/jobs", json=STARTER).json()["id"]
    claimed = JobStore(database).claim(job_id, holder="w", lease_s=20)
    records = RunRecords(database)
    note = Note(metrics={step: {"loss": 1 / step, "norm": None} for step in (1, 2, 3)}, facts={"threads": 1})
    stored = Stored(sha256="0" * 64, size_bytes=7)
    records.add_checkpoint(
        claimed, note, step=3, stored=stored, metrics={"valid_loss": 0.5}, is_kept=lambda: True
    )
    [checkpoint] = client.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]
    assert (checkpoint["step"], checkpoint["bytes"]) == (3, 7)
    assert checkpoint["metrics"] == {"valid_loss": 0.5}
    page = client.get(f"/v1/jobs/{job_id}/metrics", params={"after_step": 1, "limit": 1}).json()
    assert [(m["step"], m["values"]) for m in page["data"]] == [(2, {"loss": 0.5, "norm": None})]
    assert page["has_more"] is True
    assert client.get(f"/v1/jobs/{job_id}").json()["facts"]["threads"] == 1


def test_of_one_tenant_no_more_jobs_wait_than_may(settings):
    few = settings.model_copy(update={"max_queued_jobs": 1})
    with TestClient(create_app(few), base_url="http://127.0.0.1") as client:
        assert client.post("/v1/jobs", json=STARTER).status_code == 201
        assert code(client.post("/v1/jobs", json=STARTER)) == (429, "quota_exceeded")


def test_a_job_is_refused_before_the_disk_is_full(settings):
    wanting = settings.model_copy(update={"min_free_disk_bytes": 2**60})
    with TestClient(create_app(wanting), base_url="http://127.0.0.1") as client:
        assert code(client.post("/v1/jobs", json=STARTER)) == (507, "disk_full")
        assert client.get("/v1/jobs").json()["data"] == []
