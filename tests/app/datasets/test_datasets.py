import pytest

from app.access.principal import Principal
from app.datasets.dataset import DatasetStatus
from app.datasets.packs import Packs
from app.datasets.service import DatasetService
from app.db.tables import JobRow
from app.errors import Conflict, InvalidRequest, NotFound, StorageUnavailable, UnknownDataset, UnknownVersion
from app.jobs.job import JobError
from app.jobs.states import JobStatus
from app.jobs.store import JobStore
from models.data.pack import Split
from models.manifest import sha256_hex
from tests.colour_models import COLOURS
from tests.packs import publish_pack, write_pack

ALICE = Principal(tenant_id="alice")
BOB = Principal(tenant_id="bob")


@pytest.fixture
def datasets(database, objects):
    return DatasetService(database, objects)


@pytest.fixture
def publish(datasets, tmp_path):
    def act(principal=ALICE, **options):
        return str(publish_pack(datasets, principal, tmp_path / "packs", **{"name": "flowers", **options}))

    return act


def ask(datasets, jobs, name="flowers", principal=ALICE, **spec):
    """What POST /v1/datasets does once its body has been checked."""
    job = jobs.create(principal, kind="dataset", spec={"name": name, **spec})
    datasets.announce(principal, name, "classification")
    return job


def end(database, job, status, **options):
    store = JobStore(database)
    claimed = store.claim(job.id, holder="w1", lease_s=20)
    with database.begin() as session:
        store.finish(session, job.id, claimed.token, status, **options)


# -- publishing --------------------------------------------------------------------------------------


def test_packs_of_one_name_get_numbers_of_their_own(datasets, publish):
    assert [publish(seed=1), publish(seed=2), publish(name="trees")] == ["flowers:1", "flowers:2", "trees:1"]
    listed = datasets.list_datasets(ALICE)
    assert [(each.name, each.numbers, each.status) for each in listed] == [
        ("flowers", (1, 2), DatasetStatus.READY),
        ("trees", (1,), DatasetStatus.READY),
    ]
    assert datasets.get_version(ALICE, "flowers").number == 2
    first = datasets.get_version(ALICE, "flowers:1")
    assert (first.reference, first.task, first.report) == (
        "flowers:1",
        "classification",
        {"labels": list(COLOURS)},
    )
    assert [version.number for version in datasets.versions(ALICE, "flowers")] == [1, 2]


def test_the_pack_is_in_the_store_when_the_row_speaks_of_it(datasets, objects, publish, tmp_path):
    publish(seed=7)
    data = (tmp_path / "packs" / "flowers-7.pack").read_bytes()
    version = datasets.get_version(ALICE, "flowers:1")
    assert (version.sha256, version.size_bytes) == (sha256_hex(data), len(data))
    assert objects.read(ALICE, version.sha256) == data


def test_a_job_makes_one_version_however_often_it_publishes(datasets, publish):
    assert publish(seed=1, job_id="job_1") == "flowers:1"
    assert publish(seed=2, job_id="job_1") == "flowers:1"
    assert publish(seed=2, job_id="job_2") == "flowers:2"
    assert datasets.made_by(ALICE, "job_1") == "flowers:1"
    assert datasets.made_by(ALICE, "job_3") is None
    assert datasets.made_by(BOB, "job_1") is None


def test_a_publication_takes_effect_with_the_transaction_that_it_joins(database, datasets, publish):
    with pytest.raises(RuntimeError, match="lease"), database.begin() as session:
        assert publish(session=session) == "flowers:1"
        raise RuntimeError("the lease was lost")
    with pytest.raises(UnknownDataset):
        datasets.get(ALICE, "flowers")
    with database.begin() as session:
        publish(session=session)
    assert datasets.get(ALICE, "flowers").numbers == (1,)


def test_a_staged_pack_that_was_reclaimed_is_not_published(datasets, objects, publish, tmp_path):
    staged = datasets.stage(ALICE, write_pack(tmp_path / "a.pack"))
    objects.delete(ALICE, staged.sha256)
    with pytest.raises(StorageUnavailable):
        publish(pack=staged)
    assert datasets.list_datasets(ALICE) == []


def test_a_name_keeps_its_task_once_something_was_made_for_it(datasets, publish):
    datasets.announce(ALICE, "flowers", "segmentation")
    publish()
    assert datasets.get(ALICE, "flowers").task == "classification"
    for act in (
        lambda: publish(seed=2, task="segmentation"),
        lambda: datasets.announce(ALICE, "flowers", "segmentation"),
        lambda: datasets.check_task(ALICE, "flowers", "segmentation"),
    ):
        with pytest.raises(Conflict, match="is for classification"):
            act()


def test_a_name_that_no_model_could_have_is_refused(publish):
    with pytest.raises(InvalidRequest, match="cannot be named"):
        publish(name="Flowers!")


# -- reading -----------------------------------------------------------------------------------------


def test_unknown_things_are_answered_with_what_there_is(datasets, publish):
    publish()
    with pytest.raises(UnknownDataset) as refused:
        datasets.get(ALICE, "flower")
    assert "flowers" in refused.value.hint
    with pytest.raises(UnknownVersion) as refused:
        datasets.get_version(ALICE, "flowers:2", param="training_file")
    assert (refused.value.param, refused.value.hint) == ("training_file", "It has: 1.")
    for wrong in ("flowers:0", "flowers:x", "Flowers", "flowers@1", "", "flowers:", "flowers:1:1", "fl\0"):
        with pytest.raises(InvalidRequest):
            datasets.get_version(ALICE, wrong)
    for unknown in ("\0", "x" * 300, "a/b"):
        with pytest.raises(UnknownDataset):
            datasets.get(ALICE, unknown)


def test_tenants_do_not_see_each_other(datasets, jobs, publish):
    publish()
    ask(datasets, jobs, "trees")
    assert datasets.list_datasets(BOB) == []
    for act in (datasets.get, datasets.versions, datasets.delete, datasets.get_version):
        with pytest.raises(UnknownDataset):
            act(BOB, "flowers")
    assert publish(BOB) == "flowers:1"
    datasets.delete(BOB, "flowers")
    assert datasets.get(ALICE, "flowers").numbers == (1,)


def test_status_is_that_of_the_last_thing_asked(database, datasets, jobs, publish):
    job = ask(datasets, jobs)
    assert datasets.get(ALICE, "flowers").status is DatasetStatus.VALIDATING
    with pytest.raises(UnknownVersion, match="no version yet"):
        datasets.get_version(ALICE, "flowers")

    publish(job_id=job.id)
    end(database, job, JobStatus.SUCCEEDED)
    ready = datasets.get(ALICE, "flowers")
    assert (ready.status, ready.making.job_id) == (DatasetStatus.READY, job.id)

    other = ask(datasets, jobs, "trees")
    again = ask(datasets, jobs, base="flowers:1")
    both = {each.name: (each.status, each.making.job_id) for each in datasets.list_datasets(ALICE)}
    assert both == {
        "flowers": (DatasetStatus.VALIDATING, again.id),
        "trees": (DatasetStatus.VALIDATING, other.id),
    }
    problems = [{"file": "a.png", "line": None, "message": "cut off", "hint": None}]
    with database.begin() as session:
        session.get(JobRow, again.id).facts = {"problems": problems}
    end(database, again, JobStatus.FAILED, error=JobError(code="invalid_dataset", message="a.png: cut off"))
    failed = datasets.get(ALICE, "flowers")
    assert (failed.status, failed.numbers) == (DatasetStatus.FAILED, (1,))
    assert (failed.making.error["code"], list(failed.making.problems)) == ("invalid_dataset", problems)

    publish(seed=2)  # by a training job that was given a file
    assert datasets.get(ALICE, "flowers").status is DatasetStatus.READY


# -- deleting ----------------------------------------------------------------------------------------


def test_a_deleted_version_takes_its_pack_along_and_its_number_never_comes_back(datasets, objects, publish):
    publish(seed=1)
    publish(seed=2)
    gone, kept = (datasets.get_version(ALICE, f"flowers:{number}") for number in (1, 2))
    datasets.delete_version(ALICE, "flowers", 1)
    assert datasets.get(ALICE, "flowers").numbers == (2,)
    assert not objects.exists(ALICE, gone.sha256)
    assert objects.exists(ALICE, kept.sha256)
    datasets.delete(ALICE, "flowers")
    assert not objects.exists(ALICE, kept.sha256)
    with pytest.raises(UnknownDataset):
        datasets.get(ALICE, "flowers")
    assert publish(seed=3, task="segmentation") == "flowers:3"
    assert datasets.get(ALICE, "flowers").task == "segmentation"


def test_a_pack_that_another_version_has_too_stays(datasets, objects, publish):
    publish(seed=1)
    publish(seed=1, name="copy")
    datasets.delete(ALICE, "flowers")
    assert objects.exists(ALICE, datasets.get_version(ALICE, "copy:1").sha256)


@pytest.mark.parametrize(
    ("spec", "kept", "free"),
    [
        ({"dataset": "flowers:1"}, ["flowers", "flowers:1"], ["flowers:2", "flowers-2"]),
        ({"base": "flowers:2", "name": "new"}, ["flowers", "flowers:2"], ["flowers:1", "flowers-2"]),
        ({"name": "flowers", "base": None}, ["flowers"], ["flowers:1", "flowers:2", "flowers-2"]),
        ({"dataset": "flowers-2:1"}, ["flowers-2"], ["flowers:1", "flowers:2", "flowers"]),
    ],
)
def test_what_an_unfinished_job_needs_is_not_deleted(datasets, jobs, publish, *, spec, kept, free):
    for name in ("flowers", "flowers", "flowers-2"):
        publish(name=name)
    job = jobs.create(ALICE, kind="dataset" if "name" in spec else "fine_tune", spec=spec)

    def delete(reference):
        name, _, number = reference.partition(":")
        if number:
            datasets.delete_version(ALICE, name, int(number))
        else:
            datasets.delete(ALICE, name)

    for reference in kept:
        with pytest.raises(Conflict, match=job.id):
            delete(reference)
    for reference in free:
        delete(reference)
    jobs.cancel(ALICE, job.id)
    for reference in kept[::-1]:
        delete(reference)
    assert {each.name for each in datasets.list_datasets(ALICE)} <= {"flowers-2"} - set(free + kept)


# -- looking in --------------------------------------------------------------------------------------


def test_images_are_paged_by_index_and_filtered_by_split_and_label(datasets, objects, publish):
    publish()
    version = datasets.get_version(ALICE, "flowers:1")
    packs = Packs(objects)

    def page(**options):
        given = {"split": None, "label": None, "limit": 100, "after": -1}
        return packs.page(ALICE, version, **{**given, **options})

    everything = page()
    assert [facts.index for facts in everything.images] == list(range(12))
    assert not everything.has_more
    seen = []
    after = -1
    while True:
        part = page(limit=5, after=after)
        seen += [facts.index for facts in part.images]
        if not part.has_more:
            break
        after = seen[-1]
    assert seen == list(range(12))
    greens = page(label="green", split=Split.TRAIN)
    assert [(each.label, each.item.split, each.item.name) for each in greens.images] == [
        ("green", Split.TRAIN, "green/0.png"),
        ("green", Split.TRAIN, "green/1.png"),
    ]
    with pytest.raises(InvalidRequest) as refused:
        page(label="grin")
    assert "green" in refused.value.hint


def test_an_images_bytes_are_those_that_were_packed(datasets, objects, publish):
    publish()
    version = datasets.get_version(ALICE, "flowers:1")
    packs = Packs(objects)
    for index in (0, 5, 11):
        facts, data = packs.image(ALICE, version, index)
        assert sha256_hex(data) == facts.item.sha256
    for index in (-1, 12):
        with pytest.raises(NotFound):
            packs.image(ALICE, version, index)


def test_more_packs_than_are_kept_open_can_be_looked_into(datasets, objects, publish):
    packs = Packs(objects)
    for _ in range(2):
        for seed in range(1, 12):
            publish(name=f"set{seed}", seed=seed)
            version = datasets.get_version(ALICE, f"set{seed}")
            facts, data = packs.image(ALICE, version, 0)
            assert sha256_hex(data) == facts.item.sha256
