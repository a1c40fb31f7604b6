"""The unmodified `openai` client against a real gateway process; jobs move as a worker would move them."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import openai
import pytest

from app.db.tables import JobRow
from app.jobs.job import JobError
from app.jobs.states import JobStatus
from tests.fine_tuning_world import furnish, publish_base
from tests.job_world import Hand
from tests.packs import class_folders
from tests.serving import gateway

PATH = "/v1/fine_tuning/jobs"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openai")
    with gateway(folder) as world:
        world.things = furnish(world.settings, folder)
        yield world


@pytest.fixture
def client(world):
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=2) as client:
        yield client


def test_a_job_from_upload_to_the_name_of_its_model(world, client):
    archive = class_folders(per_label=3)
    file = client.files.create(file=("digits.zip", archive), purpose="fine-tune")
    assert (file.bytes, file.filename, file.purpose) == (len(archive), "digits.zip", "fine-tune")
    assert client.files.wait_for_processing(file.id).status == "processed"
    job = client.fine_tuning.jobs.create(
        model="base",
        training_file=file.id,
        suffix="digits",
        seed=7,
        metadata={"team": "vision"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
        extra_body={"task": "image-classification", "adapter": {"method": "lora", "r": 8}},
    )
    assert (job.object, job.status, job.model) == ("fine_tuning.job", "queued", "base")
    assert (job.training_file, job.validation_file, job.seed) == (file.id, None, 7)
    assert job.metadata == {"team": "vision"}
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (3, "auto")
    assert job.method.supervised.hyperparameters.n_epochs == 3
    assert (job.fine_tuned_model, job.finished_at, job.error, job.result_files) == (None, None, None, [])
    assert job.organization_id == "default"
    assert abs(job.created_at - time.time()) < 10
    assert job.spec["adapter"] == {"method": "lora", "parameters": {"r": 8}}
    assert job.planned_model == "digits"

    worker = Hand(world.database, job.id)
    worker.note(phase="validating_files", progress=0.0)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "validating_files"
    facts = {"total_parameters": 1000, "trainable_parameters": 80, "dataset": "data-1:1"}
    worker.note(phase="training", progress=0.1, facts=facts, remaining_s=30.0)
    running = client.fine_tuning.jobs.retrieve(job.id)
    assert (running.status, running.phase, running.attempts) == ("running", "training", 1)
    assert (running.total_parameters, running.trainable_parameters) == (1000, 80)
    assert running.dataset == "data-1:1"
    assert abs(running.estimated_finish - time.time() - 30) < 5
    worker.end(result={"model": "digits:1"})
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model, done.progress) == ("succeeded", "digits", 1.0)
    assert done.finished_at >= done.created_at
    assert done.report["html"] == "/v1/models/digits/versions/1/artifacts/report.html"


def test_large_files_come_in_parts(client):
    archive = class_folders(per_label=3)
    upload = client.uploads.upload_file_chunked(
        file=archive,
        filename="digits.zip",
        bytes=len(archive),
        mime_type="application/zip",
        purpose="fine-tune",
    )
    assert (upload.status, upload.file.bytes) == ("completed", len(archive))
    job = client.fine_tuning.jobs.create(model="base", training_file=upload.file.id)
    assert job.training_file == upload.file.id
    client.fine_tuning.jobs.cancel(job.id)


def test_a_further_version_is_named_with_its_number_and_a_failure_says_why(world, client):
    create = client.fine_tuning.jobs.create
    further = create(model="base", training_file="colours", extra_body={"output_model": "base"})
    Hand(world.database, further.id).end(result={"model": "base:3"})
    assert client.fine_tuning.jobs.retrieve(further.id).fine_tuned_model == "base:3"
    failing = create(model="base", training_file="colours:1")
    error = JobError(code="invalid_dataset", message="digits/3.png is broken.", hint="Leave it out.")
    Hand(world.database, failing.id).end(JobStatus.FAILED, error=error)
    failed = client.fine_tuning.jobs.retrieve(failing.id)
    assert (failed.status, failed.error.code) == ("failed", "invalid_dataset")
    assert failed.error.message == "digits/3.png is broken."
    assert failed.fine_tuned_model is None


def test_events_and_metrics_are_one_line_newest_first_in_pages(world, client):
    job = client.fine_tuning.jobs.create(model="base", training_file="colours")
    worker = Hand(world.database, job.id)
    worker.note(phase="training", progress=0.1)
    for step in (10, 20, 30):
        worker.note(metrics={step: {"train_loss": 1 / step, "valid_accuracy": None}})
        worker.note(messages=(f"after {step}",))
    expected = [
        *(
            text
            for step in (30, 20, 10)
            for text in (f"after {step}", f"Step {step}: train_loss={1 / step:.4g}")
        ),
        "training",
        "started",
        "created",
    ]
    pages = client.fine_tuning.jobs.list_events(job.id, limit=2)
    assert len(pages.data) == 2
    events = list(pages)  # the client asks for page after page
    assert [event.message for event in events] == expected
    assert len({event.id for event in events}) == len(events)
    metrics = [event for event in events if event.type == "metrics"]
    assert [event.data["step"] for event in metrics] == [30, 20, 10]
    assert metrics[0].data["train_loss"] == 1 / 30
    assert {event.level for event in events} == {"info"}
    worker.end(JobStatus.CANCELLED)


def test_checkpoints_have_steps_metrics_and_names(world, client):
    job = client.fine_tuning.jobs.create(model="base", training_file="colours", suffix="kept")
    worker = Hand(world.database, job.id)
    for step in (10, 20, 30):
        worker.checkpoint(step, train_loss=1 / step, valid_accuracy=0.9)
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=2))
    assert [checkpoint.step_number for checkpoint in checkpoints] == [30, 20, 10]
    newest = checkpoints[0]
    assert newest.fine_tuned_model_checkpoint == "kept@ckpt-30"
    assert newest.fine_tuning_job_id == job.id
    assert (newest.metrics.step, newest.metrics.train_loss) == (30, 1 / 30)
    assert newest.metrics.valid_accuracy == 0.9
    worker.end(JobStatus.CANCELLED)


def test_jobs_pause_resume_and_cancel(world, client):
    jobs = client.fine_tuning.jobs
    job = jobs.create(model="base", training_file="colours")
    assert jobs.pause(job.id).status == "paused"
    assert jobs.retrieve(job.id).status == "paused"
    assert jobs.resume(job.id).status == "queued"
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.ConflictError) as refused:
        jobs.resume(job.id)
    assert refused.value.code == "conflict"
    assert refused.value.response.headers["x-should-retry"] == "false"
    done = jobs.create(model="base", training_file="colours")
    Hand(world.database, done.id).end(result={"model": "x:1"})
    with pytest.raises(openai.ConflictError) as refused:
        jobs.cancel(done.id)
    assert refused.value.code == "job_not_cancellable"


def test_jobs_are_listed_newest_first_and_found_by_metadata(client):
    create = client.fine_tuning.jobs.create
    made = []
    for number in range(3):
        metadata = {"batch": "listed", "number": str(number)}
        made.append(create(model="base", training_file="colours", metadata=metadata).id)
        time.sleep(0.002)  # ids made in one millisecond sort at random
    create(model="base", training_file="colours", metadata={"batch": "other"})
    listed = list(client.fine_tuning.jobs.list(limit=2, metadata={"batch": "listed"}))
    assert [job.id for job in listed] == made[::-1]
    [one] = client.fine_tuning.jobs.list(metadata={"batch": "listed", "number": "1"})
    assert one.id == made[1]
    for job_id in made:
        client.fine_tuning.jobs.cancel(job_id)


def test_refusals_are_what_the_client_knows(client):
    create = client.fine_tuning.jobs.create
    with pytest.raises(openai.BadRequestError) as refused:
        create(model="base", training_file="colours", extra_body={"adapter": {"method": "lroa"}})
    assert (refused.value.code, refused.value.param) == ("invalid_spec", "adapter.method")
    assert "lora" in refused.value.body["hint"]
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="bose", training_file="colours")
    assert (missing.value.code, missing.value.param) == ("unknown_model", "model")
    with pytest.raises(openai.NotFoundError) as missing:
        client.fine_tuning.jobs.retrieve("job_none")
    assert missing.value.code == "not_found"


# -- retries -----------------------------------------------------------------------------------------


@contextmanager
def losing_proxy(url, *, requests=0, answers=0):
    """A way to the gateway that loses the first requests to it, or the first answers from it."""
    left = {"requests": requests, "answers": answers}
    seen = []

    class Way(BaseHTTPRequestHandler):
        def do_POST(self):  # the only method that these tests send
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append(dict(self.headers))
            if left["requests"]:
                left["requests"] -= 1
                self.close_connection = True
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            answer = httpx.post(f"{url}{self.path}", content=body, headers=headers)
            if left["answers"]:
                left["answers"] -= 1
                self.close_connection = True
                return
            self.send_response(answer.status_code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_):
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Way)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("lost", "made_by"), [({"answers": 2}, 3), ({"requests": 1}, 2)])
def test_a_post_that_the_client_retries_makes_one_job(world, client, lost, made_by):
    metadata = {"lost": next(iter(lost))}
    with (
        losing_proxy(world.url, **lost) as (url, seen),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=2) as far,
    ):
        job = far.fine_tuning.jobs.create(model="base", training_file="colours", metadata=metadata)
        assert [request["x-stainless-retry-count"] for request in seen] == [str(n) for n in range(made_by)]
    assert not any("idempotency" in name.lower() for request in seen for name in request)
    [made] = client.fine_tuning.jobs.list(metadata=metadata)
    assert made.id == job.id
    client.fine_tuning.jobs.cancel(job.id)


def test_two_calls_for_the_same_are_two_jobs(client):
    metadata = {"twice": "yes"}
    first, second = (
        client.fine_tuning.jobs.create(model="base", training_file="colours", metadata=metadata)
        for _ in range(2)
    )
    assert first.id != second.id
    assert len(list(client.fine_tuning.jobs.list(metadata=metadata))) == 2


def test_a_key_makes_one_job_also_after_its_model_is_there(world):
    body = {"model": "base", "training_file": "colours", "suffix": "keyed"}
    with world.client(headers={"idempotency-key": "mine-1"}) as http:
        first = http.post(PATH, json=body).json()
        publish_base(world.registry, world.settings.data_dir / "keyed", name="keyed")
        assert http.post(PATH, json=body).json()["id"] == first["id"]
        other = http.post(PATH, json={**body, "n_epochs": 3})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
        assert http.post(PATH, json=body, params={"dry_run": "true"}).status_code == 409


def test_a_retry_gets_no_job_older_than_its_client_can_have_waited(world):
    body = {"model": "base", "training_file": "colours", "metadata": {"old": "yes"}}
    retry = {"x-stainless-retry-count": "1", "x-stainless-read-timeout": "600"}
    with world.client() as http:
        first = http.post(PATH, json=body).json()
        assert http.post(PATH, json=body, headers=retry).json()["id"] == first["id"]
        for age_s, is_same in ((700, True), (730, False)):
            with world.database.begin() as session:
                session.get(JobRow, first["id"]).created_at = time.time() - age_s
            again = http.post(PATH, json=body, headers=retry).json()
            assert (again["id"] == first["id"]) == is_same


def test_retries_that_come_while_the_first_try_is_worked_on_make_one_job(world):
    body = {"model": "base", "training_file": "colours", "metadata": {"crowd": "yes"}}
    ids = []

    def send(count):
        with world.client() as http:
            ids.append(
                http.post(PATH, json=body, headers={"x-stainless-retry-count": str(count)}).json()["id"]
            )

    threads = [threading.Thread(target=send, args=(count,)) for count in (1, 1, 2, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 5
    assert len(set(ids)) == 1
