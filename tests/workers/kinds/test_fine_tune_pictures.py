"""Super-resolution from a data set to a published version that answers, as a child process runs the kind."""

import json

import numpy as np
import pytest

from app.access.principal import SYSTEM
from app.datasets.service import DatasetService
from app.errors import InvalidSpec
from models.data.pack import Split
from models.evaluate.picture_marks import PictureTally
from models.evaluate.report import PictureReport, read_report
from models.export.parity import verify
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, REFERENCE_FILE, WEIGHTS_FILE, Level, Task
from models.tasks.images import ImageLimits, decode_image
from models.tasks.restoration import smaller
from models.tasks.tiles import TileGrid, tiled
from tests.models.train.tiny_pictures import write_picture_pack
from tests.packs import publish_pack
from tests.workers.kinds.training_place import TrainingPlace
from workers.kinds.fine_tune import run

TRAINING = {
    "task": "super-resolution",
    "model": "espcn_residual",
    "image_size": 24,
    "max_steps": None,
    "n_epochs": 20,
    "batch_size": 4,
    "learning_rate": 0.005,
    "ema_decay": None,
}


class PicturePlace(TrainingPlace):
    """With a data set of stripes."""

    def __init__(self, folder, url, ratio):
        super().__init__(folder, url)
        self.pack = write_picture_pack(folder / "stripes.pack", ratio=ratio)
        self.pictures = publish_pack(
            DatasetService(self.database, self.objects),
            SYSTEM,
            folder,
            name="stripes",
            task="super-resolution",
            pack=folder / "stripes.pack",
            report={"labels": ["picture"], "ratio": ratio},
        )

    def order(self, **train):
        """The spec of a training of a small network, with changes."""
        return super().order(around={"dataset": str(self.pictures)}, **{**TRAINING, **train})


@pytest.fixture
def place_of(tmp_path, sqlite_url):
    places = []

    def make(ratio=None):
        places.append(PicturePlace(tmp_path, sqlite_url, ratio))
        return places[0]

    yield make
    places[0].pack.close()
    places[0].database.close()


def report_of(outcome) -> PictureReport:
    report = read_report(outcome.publish.artifacts["report.json"].read_bytes())
    assert isinstance(report, PictureReport)
    return report


@pytest.mark.parametrize(("ratio", "scale", "gain"), [(None, 2, 0.7), (3, 3, 0.2)])
def test_a_training_becomes_a_certified_version_that_is_nearer_than_cubic(place_of, ratio, scale, gain):
    place = place_of(ratio)
    outcome = run(place.context(place.order()))
    manifest, files = outcome.publish.manifest, outcome.publish.artifacts
    marks = report_of(outcome).evaluation
    assert outcome.result["psnr"] == marks.psnr > marks.cubic_psnr + gain
    assert (report_of(outcome).split, marks.samples, marks.scale) == ("test", 3, scale)
    gains = [row["valid_psnr_gain"] for row in place.measured.values() if "valid_psnr_gain" in row]
    assert len(gains) == 20
    assert max(gains) > gain
    assert (manifest.task, manifest.labels, manifest.tiles.scale) == (Task.SUPER_RESOLUTION, (), scale)
    assert manifest.tiles.context == 4
    assert outcome.publish.certificate.level is Level.CERTIFIED
    certificate = verify(
        files[MODEL_FILE], manifest, files[REFERENCE_FILE], against=outcome.publish.certificate
    )
    assert certificate.agreement.max_abs <= certificate.agreement.tolerance

    served = marks_of_served(place.pack, files[MODEL_FILE], manifest)
    assert served.psnr == pytest.approx(marks.psnr, abs=0.01)
    assert served.ssim == pytest.approx(marks.ssim, abs=1e-4)


def marks_of_served(pack, model, manifest):
    """The held-out split through session and windows, as a request goes."""
    session, tally = ServedSession(model), PictureTally(manifest.tiles.scale)
    for item in pack.of(Split.TEST):
        large = decode_image(pack.read(item), limits=ImageLimits())
        small = smaller(large, manifest.tiles.scale)
        grid = TileGrid(*small.shape[:2], manifest.tiles)
        made = np.concatenate(list(tiled(small, grid, session.run)))
        tally.add(made, large, small, name=item.name)
    return tally.evaluation()


def test_the_page_shows_parts_of_the_worst_and_the_best(place_of):
    place = place_of()
    outcome = run(place.context(place.order(n_epochs=2)))
    page = outcome.publish.artifacts["report.html"].read_text()
    evaluation = report_of(outcome).evaluation
    assert page.count("data:image/jpeg;base64,") == len(evaluation.worst) + len(evaluation.best) == 6
    for words in ("over cubic interpolation", "Where it gained least", "validation PSNR", "SSIM"):
        assert words in page


def test_a_network_that_makes_no_border_is_a_base_of_its_own_scale(place_of):
    place, upconv7 = place_of(), {"model": "upconv7", "image_size": 48, "n_epochs": 1}
    outcome = run(place.context(place.order(**upconv7)))
    assert (outcome.publish.manifest.tiles.margin, outcome.publish.manifest.tiles.context) == (7, 0)
    published = place.publish(outcome)
    changed = place.order(**upconv7 | {"model": str(published), "adapter": {"method": "lora", "r": 2}})
    outcome = run(place.context(changed))
    spec = json.loads(outcome.publish.artifacts["report.json"].read_bytes())["spec"]
    assert (spec["adapter"]["method"], spec["scale"]) == ("lora", 2)
    assert outcome.publish.manifest.tiles.margin == 7
    assert outcome.publish.manifest.architecture == "upconv7"
    assert WEIGHTS_FILE in outcome.publish.artifacts
    with pytest.raises(InvalidSpec, match="scale of the base is 2") as refused:
        run(place.context(place.order(model=str(published), scale=3)))
    assert refused.value.param == "scale"


@pytest.mark.parametrize(
    ("changes", "ratio", "param", "message"),
    [
        ({"scale": 2}, 3, "scale", "ratio of the pairs is 3, the scale asked for 2"),
        ({"image_size": 96}, None, "image_size", "has only 60 pixels"),
        ({"image_size": 50}, None, "image_size", "steps of 12"),
        ({"degradation": {"noise": 3}}, 2, "degradation", "small pictures of its own"),
    ],
)
def test_what_does_not_go_with_the_pictures_is_refused_before_the_first_step(
    place_of, changes, ratio, param, message
):
    place = place_of(ratio)
    with pytest.raises(InvalidSpec, match=message) as refused:
        run(place.context(place.order(**changes)))
    assert refused.value.param == param
