"""The kind as a child process runs it, on real files, up to the version that the worker publishes."""

import io
import zipfile

import pytest

from app.access.principal import SYSTEM
from app.datasets.packs import Packs
from app.datasets.service import DatasetService
from app.db.session import Database
from app.errors import InvalidDataset, InvalidRequest, NotFound, UnknownVersion
from app.files.service import FileService
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.data.pack import Pack, Split
from tests.colour_models import COLOURS, picture
from tests.models.data.coco_sets import contents, document
from tests.models.data.masked import halves, mask, pairs
from tests.models.data.pictures import png
from tests.packs import class_folders
from workers.context import Interrupted, JobContext
from workers.kinds.dataset import make_dataset, run


def zipped(contents):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return out.getvalue()


class Place:
    """What a worker gives the kind, and what it sees of it."""

    def __init__(self, tmp_path, url):
        self.settings = Settings(data_dir=tmp_path / "data", database_url=url, _env_file=None)
        self.database = Database(url)
        self.objects = ObjectStore.from_settings(self.settings)
        self.files = FileService(self.database, self.objects, self.settings)
        self.datasets = DatasetService(self.database, self.objects)
        self.folder = tmp_path / "work"
        self.facts = {}
        self.progress = []
        self.stops_after = None
        self.runs = 0

    def upload(self, data, filename="colours.zip"):
        with self.files.begin() as place:
            place.write(data)
            return self.files.commit(SYSTEM, place, filename=filename).id

    def context(self, *, job_id="job_1", **spec):
        self.runs += 1
        work_dir = self.folder / str(self.runs)
        work_dir.mkdir(parents=True)
        given = {"name": "colours", "task": "classification", "base": None, "options": {}}
        return JobContext(
            spec={**given, **spec},
            work_dir=work_dir,
            objects=self.objects,
            principal=SYSTEM,
            settings=self.settings,
            progress=lambda fraction, phase: self.progress.append((fraction, phase)),
            message=lambda text: None,
            job_id=job_id,
            facts=self.facts.update,
            stop_asked=lambda: self.stops_after is not None and len(self.progress) > self.stops_after,
            publish_dataset=lambda parcel: str(
                self.datasets.publish(
                    SYSTEM,
                    name=parcel.name,
                    task=parcel.task,
                    pack=parcel.pack,
                    source=parcel.source,
                    report=parcel.report,
                    job_id=job_id,
                )
            ),
        )

    def pack(self, reference):
        return Pack(self.objects.fetch(SYSTEM, self.datasets.get_version(SYSTEM, reference).sha256))


@pytest.fixture
def place(tmp_path, sqlite_url):
    place = Place(tmp_path, sqlite_url)
    yield place
    place.database.close()


def test_a_zip_of_class_folders_becomes_a_version_with_its_report(place):
    file_id = place.upload(class_folders(per_label=20), filename="my colours.zip")
    outcome = run(place.context(file_ids=[file_id], options={"test_share": 0.2}))
    assert outcome.result == {"dataset": "colours:1"}
    version = place.datasets.get_version(SYSTEM, "colours:1")
    report = version.report
    assert (report["images"], report["labels"]) == (60, sorted(COLOURS))
    assert report["counts"]["test"] == dict.fromkeys(COLOURS, 4)
    assert report["counts"]["validation"] == dict.fromkeys(COLOURS, 2)
    [file] = version.source["files"]
    assert (file["id"], file["filename"]) == (file_id, "my colours.zip")
    assert report["sources"][0]["file"] == "my colours.zip"
    assert version.source["options"]["test_share"] == 0.2
    facts, data = Packs(place.objects).image(SYSTEM, version, 0)
    assert data in [picture(facts.label, size=16, noise=noise) for noise in range(1, 300)]
    fractions = [fraction for fraction, _ in place.progress]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_a_job_that_is_tried_again_makes_no_second_version(place):
    file_id = place.upload(class_folders())
    assert run(place.context(file_ids=[file_id])).result == {"dataset": "colours:1"}
    assert run(place.context(file_ids=[file_id])).result == {"dataset": "colours:1"}
    assert place.datasets.get(SYSTEM, "colours").numbers == (1,)


def test_files_are_added_to_the_version_that_is_named(place):
    run(place.context(file_ids=[place.upload(class_folders())]))
    more = place.upload(class_folders(per_label=15), filename="more.zip")
    assert run(place.context(job_id="job_2", file_ids=[more], base="colours:1")).result == {
        "dataset": "colours:2"
    }
    before, after = place.pack("colours:1"), place.pack("colours:2")
    assert (len(before.items), len(after.items)) == (30, 45)
    kept = {item.sha256: item.split for item in after.items}
    assert {item.sha256: kept[item.sha256] for item in before.items} == {
        item.sha256: item.split for item in before.items
    }
    assert place.datasets.get_version(SYSTEM, "colours:2").source["base"] == "colours:1"


def test_each_file_may_be_for_a_split_of_its_own(place):
    training = place.upload(class_folders(per_label=4))
    validation = place.upload(class_folders(per_label=7))  # 4 of them are in training too
    spec = {"name": "colours", "file_ids": [training, validation], "file_splits": ["train", "validation"]}
    context = place.context()
    assert make_dataset(context, spec) == "colours:1"
    counts = {split: sum(of.values()) for split, of in place.pack("colours:1").counts().items()}
    assert counts == {Split.TRAIN: 12, Split.VALIDATION: 9, Split.TEST: 0}
    assert max(fraction for fraction, _ in place.progress) < 0.05


def test_pictures_with_masks_become_a_version_for_segmentation(place):
    contents = {"labels.txt": b"sky\nsea\n", **pairs(10)}
    file_id = place.upload(zipped(contents), filename="shores.zip")
    spec = {"name": "shores", "task": "segmentation", "file_ids": [file_id]}
    run(place.context(**spec))
    version, pack = place.datasets.get_version(SYSTEM, "shores:1"), place.pack("shores:1")
    assert (version.task, pack.labels) == ("segmentation", ("sky", "sea"))
    assert all(item.mask for item in pack.items)
    assert version.report["pixels"] == {"sky": 720, "sea": 720}
    contents["masks/3.png"] = mask(halves(9))
    with pytest.raises(InvalidDataset, match=r"masks/3.png: The mask holds the number 9"):
        run(place.context(job_id="job_2", **spec | {"file_ids": [place.upload(zipped(contents))]}))


def test_outlines_of_coco_become_one_and_a_wrong_one_is_named(place):
    told = document(10)
    file_id = place.upload(zipped(contents(told, count=10)), filename="cells.zip")
    spec = {"name": "cells", "task": "segmentation", "file_ids": [file_id]}
    run(place.context(**spec))
    version, pack = place.datasets.get_version(SYSTEM, "cells:1"), place.pack("cells:1")
    assert pack.labels == ("background", "cell", "nucleus")
    assert version.report["pixels"] == {"background": 720, "cell": 720, "nucleus": 0}
    assert [source["layout"] for source in version.report["sources"]] == ["coco"]
    told["annotations"][3]["segmentation"] = [[1, 2, 3]]
    file_id = place.upload(zipped(contents(told, count=10)))
    with pytest.raises(InvalidDataset, match=r"annotations.json: Annotation 103 has a polygon of 3 numbers"):
        run(place.context(job_id="job_2", **spec | {"file_ids": [file_id]}))


def test_pairs_of_pictures_become_a_version_for_super_resolution(place):
    sides = {"hr": 48, "lr": 24}
    contents = {f"{role}/{at}.png": png(at, side=side) for role, side in sides.items() for at in range(10)}
    spec = {"name": "larger", "task": "super-resolution", "file_ids": [place.upload(zipped(contents))]}
    run(place.context(**spec))
    version, pack = place.datasets.get_version(SYSTEM, "larger:1"), place.pack("larger:1")
    assert (version.task, version.report["ratio"], pack.ratio) == ("super-resolution", 2, 2)
    assert all(item.small for item in pack.items)


def test_refused_files_are_all_named(place):
    broken = ("red/3.png", "blue/0.png")
    file_id = place.upload(class_folders(broken=broken))
    with pytest.raises(InvalidDataset) as refused:
        run(place.context(file_ids=[file_id]))
    named = {problem["file"]: problem["message"] for problem in place.facts["problems"]}
    assert set(named) == set(broken)
    first = place.facts["problems"][0]["file"]
    assert refused.value.message == f"{first}: {named[first]} And 1 more."
    assert place.facts["problem_count"] == 2
    assert place.datasets.list_datasets(SYSTEM) == []
    run(place.context(file_ids=[file_id], options={"skip_broken": True}))
    report = place.datasets.get_version(SYSTEM, "colours").report
    assert (report["images"], {each["file"] for each in report["left_out"]}) == (28, set(broken))


def test_a_file_that_is_no_archive_is_refused_by_the_name_its_owner_gave_it(place):
    with pytest.raises(InvalidDataset, match=r"^notes\.zip: "):
        run(place.context(file_ids=[place.upload(b"these are notes", filename="notes.zip")]))


@pytest.mark.parametrize("filename", ["..", ".", "x" * 255, "模" * 255, "a b\n.zip"])
def test_no_filename_leads_out_of_the_work_folder_or_is_too_long(place, filename):
    file_id = place.upload(class_folders(), filename=filename)
    context = place.context(file_ids=[file_id])
    run(context)
    assert [path.parent.parent for path in context.work_dir.glob("files/0/*")] == [context.work_dir / "files"]


def test_an_image_over_the_services_limit_is_refused(place):
    place.settings = place.settings.model_copy(update={"max_image_pixels": 100})
    with pytest.raises(InvalidDataset, match="no sound image"):
        run(place.context(file_ids=[place.upload(class_folders())]))
    over = [problem for problem in place.facts["problems"] if "pixels" in problem["message"]]
    assert len(over) == 30


def test_a_job_that_is_asked_to_stop_leaves_off(place):
    place.stops_after = 3
    with pytest.raises(Interrupted):
        run(place.context(file_ids=[place.upload(class_folders(per_label=40))]))
    assert place.datasets.list_datasets(SYSTEM) == []


def test_what_has_gone_or_makes_no_sense_is_named(place):
    file_id = place.upload(class_folders())
    run(place.context(file_ids=[file_id]))
    for spec, error in (
        ({"file_ids": ["file_none"]}, NotFound),
        ({"file_ids": [file_id], "base": "colours:9"}, UnknownVersion),
        ({"file_ids": []}, InvalidRequest),
        ({"file_ids": [file_id], "file_splits": []}, InvalidRequest),
        ({"file_ids": [file_id], "options": {"seeds": 1}}, InvalidRequest),
        ({"file_ids": [file_id], "name": "Colours"}, InvalidRequest),
    ):
        with pytest.raises(error):
            run(place.context(job_id="job_2", **spec))
    assert place.datasets.get(SYSTEM, "colours").numbers == (1,)
