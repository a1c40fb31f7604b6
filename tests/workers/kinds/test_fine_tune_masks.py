"""Segmentation from a data set to a published version that answers, as a child process runs the kind."""

import html
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.access.principal import SYSTEM
from app.compression.plan import plan_compression
from app.compression.spec import CompressSpec
from app.datasets.service import DatasetService
from app.errors import InvalidSpec
from models.build.network import build_network, save_weights
from models.build.state_file import read_state
from models.catalogue import CATALOGUE, Kind
from models.data.masks import fit_mask
from models.data.pack import Split
from models.evaluate.masks import MaskTally
from models.evaluate.report import MaskReport, read_report
from models.export.parity import verify
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, REFERENCE_FILE, WEIGHTS_FILE, Level, Preprocessing, Task
from models.tasks.images import ImageLimits, decode_image
from models.tasks.segmentation import SegmentationCodec, TiledSegmentationCodec
from models.tasks.tiles import TileGrid
from tests.fine_tuning_world import publish_base
from tests.models.train.tiny_masks import write_mask_pack
from tests.packs import publish_pack
from tests.workers.kinds.training_place import TrainingPlace
from workers.context import ResumePoint
from workers.kinds.compress import run as compress
from workers.kinds.fine_tune import run

UNET = {
    "task": "segmentation",
    "model": "unet_tiny",
    "image_size": 32,
    "max_steps": None,
    "n_epochs": 30,
    "batch_size": 4,
    "learning_rate": 0.01,
    "ema_decay": None,
    "loss": {"method": "dice", "cross_entropy_weight": 1.0},
}

FAMILIES = (
    "unet_tiny",
    "u2netp",
    "unet_test_resnet",
    "unetplusplus_test_resnet",
    "fpn_test_resnet",
    "pspnet_test_resnet",
    "deeplabv3plus_test_resnet",
    "segformer_tiny",
)


class MaskPlace(TrainingPlace):
    """With a data set of discs."""

    def __init__(self, folder, url, labels):
        super().__init__(folder, url)
        self.pack = write_mask_pack(folder / "discs.pack", labels=labels)
        self.masks = publish_pack(
            DatasetService(self.database, self.objects),
            SYSTEM,
            folder,
            name="discs",
            task="segmentation",
            pack=folder / "discs.pack",
            report={"labels": list(labels)},
        )

    def order(self, **train):
        """The spec of a training of the smallest U-Net, with changes."""
        return super().order(around={"dataset": str(self.masks)}, **{**UNET, **train})


@pytest.fixture
def place_of(tmp_path, sqlite_url):
    places = []

    def make(*labels):
        places.append(MaskPlace(tmp_path, sqlite_url, labels))
        return places[0]

    yield make
    places[0].pack.close()
    places[0].database.close()


def report_of(outcome) -> MaskReport:
    report = read_report(outcome.publish.artifacts["report.json"].read_bytes())
    assert isinstance(report, MaskReport)
    return report


@pytest.mark.parametrize("labels", [("disc",), ("ground", "red", "blue")])
def test_a_training_becomes_a_certified_version_that_finds_what_it_was_taught(place_of, labels):
    place = place_of(*labels)
    outcome = run(place.context(place.order()))
    manifest, files = outcome.publish.manifest, outcome.publish.artifacts
    report = report_of(outcome)
    marks = report.evaluation
    assert outcome.result["mean_iou"] == marks.mean_iou > 0.8
    assert (report.split, marks.samples, len(marks.classes)) == ("test", 6, len(labels))
    assert max(place.measured[step].get("valid_miou", 0) for step in place.measured) > 0.8
    assert manifest.task is Task.SEGMENTATION
    assert manifest.masks.activation == ("sigmoid" if len(labels) == 1 else "softmax")
    assert outcome.publish.certificate.level is Level.CERTIFIED
    certificate = verify(
        files[MODEL_FILE], manifest, files[REFERENCE_FILE], against=outcome.publish.certificate
    )
    assert certificate.agreement.max_abs <= certificate.agreement.tolerance

    served = tally_of_served(place.pack, files[MODEL_FILE], manifest)
    assert served.mean_iou == pytest.approx(marks.mean_iou, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("model", FAMILIES)
def test_a_network_of_each_family_learns_and_is_certified(place_of, model):
    place = place_of("ground", "red", "blue")
    outcome = run(place.context(place.order(model=model, n_epochs=15, learning_rate=0.003)))
    assert outcome.result["mean_iou"] > 0.6
    assert outcome.publish.certificate.level is Level.CERTIFIED


SEEN = {"mean": (10.0, 20.0, 30.0), "std": (40.0, 50.0, 60.0)}


def publish_classifier(place, architecture="test_resnet"):
    """`classifier:1`, which sees colours otherwise than the segmenter's row says; its network."""
    network = build_network(CATALOGUE.get(Kind.ARCHITECTURE, architecture), num_classes=2, seed=7)
    weights = place.folder / WEIGHTS_FILE
    save_weights(network, weights)
    publish_base(
        place.registry,
        place.folder / "classifier",
        name="classifier",
        architecture="test_resnet",
        weights=weights.read_bytes(),
        preprocessing=Preprocessing(height=64, width=64, crop=1.0, **SEEN),
        licence="MIT",
    )
    return network


OVER_CLASSIFIER = {"model": "unet_test_resnet", "encoder": "classifier:1", "n_epochs": 1}


@pytest.mark.parametrize("fit", ["squash", "tiles"])
def test_an_encoder_goes_on_from_the_weights_and_the_colours_of_a_classifier(place_of, fit):
    place = place_of("disc")
    network = publish_classifier(place)
    order = place.order(**OVER_CLASSIFIER, max_steps=1, learning_rate=1e-9, fit=fit)
    outcome = run(place.context(order))
    manifest, files = outcome.publish.manifest, outcome.publish.artifacts
    made = read_state(files[WEIGHTS_FILE], file_name=WEIGHTS_FILE)
    compared = 0
    for name, tensor in network.state_dict().items():
        if name.endswith(".weight") and not name.startswith("fc"):
            assert torch.allclose(made[f"encoder.{name}"], tensor, atol=1e-5), name
            compared += 1
    assert compared > 10
    assert (manifest.preprocessing.mean, manifest.preprocessing.std) == tuple(SEEN.values())
    assert manifest.source == "catalogue:unet_test_resnet, encoder of model:classifier:1"
    assert manifest.licence == "MIT"
    assert outcome.publish.certificate.level is Level.CERTIFIED


def test_a_run_over_a_classifier_goes_on_to_the_same_bits(place_of):
    place = place_of("disc")
    publish_classifier(place)
    order = place.order(**OVER_CLASSIFIER, max_steps=4, checkpoint_every_steps=2, threads=1)
    kept = []

    def keep(step, path, metrics):
        copy = place.folder / f"kept-{len(kept)}"
        copy.write_bytes(path.read_bytes())
        kept.append(ResumePoint(step=step, path=copy, metrics=metrics))

    undisturbed = run(place.context(order, checkpoint=keep)).publish.artifacts[WEIGHTS_FILE].read_bytes()
    assert kept[0].step == 2
    again = run(place.context(order, resume=kept[0], attempt=2)).publish.artifacts[WEIGHTS_FILE]
    assert again.read_bytes() == undisturbed


def test_weights_that_are_no_such_encoders_are_refused_by_that_name(place_of):
    place = place_of("disc")
    publish_classifier(place, architecture="test_efficientnet")
    with pytest.raises(InvalidSpec, match="no such tensor") as refused:
        run(place.context(place.order(**OVER_CLASSIFIER)))
    assert refused.value.param == "encoder"


def test_every_family_is_here():
    families = {row.family for row in CATALOGUE.find(kind=Kind.ARCHITECTURE, task=Task.SEGMENTATION)}
    assert {CATALOGUE.get(Kind.ARCHITECTURE, model).family for model in FAMILIES} == families
    assert len(FAMILIES) == 8


def tally_of_served(pack, model, manifest):
    """The held-out split through session and codec, as a request goes."""
    codec, session = SegmentationCodec(manifest, ImageLimits()), ServedSession(model)
    tally = MaskTally(len(manifest.labels))
    for item in pack.of(Split.TEST):
        (shares,) = codec.encode_batch(session.run(codec.decode(pack.read(item))[None]), [None])
        masks = codec.masks_of(shares, (item.height, item.width))
        best = masks.best(0.5 if len(manifest.labels) == 1 else 0.0)[0].astype(np.uint8)
        said = best if len(manifest.labels) == 1 else best - 1
        wanted = fit_mask(pack.read_mask(item), item.height, item.width)
        tally.add(said[None], wanted[None])
    return tally


def test_the_page_shows_the_worst_and_the_best_with_their_masks(place_of):
    place = place_of("ground", "red", "blue")
    outcome = run(place.context(place.order(n_epochs=2)))
    page = outcome.publish.artifacts["report.html"].read_text()
    report = report_of(outcome)
    shown = len(report.evaluation.worst) + len(report.evaluation.best)
    assert page.count("data:image/jpeg;base64,") == shown == 12
    for words in ("Mean IoU", "Where it was most wrong", "Label by label", "validation miou", "red"):
        assert words in page
    assert report.evaluation.baseline.label == "ground"


def test_a_segmenter_is_a_base_and_keeps_its_head_for_the_same_labels(place_of):
    place = place_of("disc")
    published = place.publish(run(place.context(place.order())))
    changed = place.order(model=str(published), adapter={"method": "lora", "r": 2}, n_epochs=1)
    outcome = run(place.context(changed))
    assert outcome.result["mean_iou"] > 0.7
    spec = json.loads(outcome.publish.artifacts["report.json"].read_bytes())["spec"]
    assert spec["adapter"]["method"] == "lora"
    assert outcome.publish.manifest.architecture == "unet_tiny"
    assert WEIGHTS_FILE in outcome.publish.artifacts


def test_a_training_in_windows_answers_pictures_of_any_size_at_their_own(place_of):
    place = place_of("ground", "red", "blue")
    order = place.order(fit="tiles", image_size=16, batch_size=16)
    outcome = run(place.context(order))
    manifest, files = outcome.publish.manifest, outcome.publish.artifacts
    assert outcome.result["mean_iou"] > 0.8
    assert (manifest.preprocessing.fit, manifest.tiles.scale) == ("tiles", 1)
    assert manifest.inputs[0].shape == (-1, -1, -1, 3)
    assert manifest.outputs[0].shape == (-1, 3, -1, -1)
    assert outcome.publish.certificate.level is Level.CERTIFIED
    assert report_of(outcome).spec["training_images"] == 12 * 4
    codec, session = TiledSegmentationCodec(manifest, ImageLimits()), ServedSession(files[MODEL_FILE])
    tally = MaskTally(3)
    for item in place.pack.of(Split.TEST):
        pixels = decode_image(place.pack.read(item), limits=ImageLimits())
        grid = TileGrid(*pixels.shape[:2], manifest.tiles)
        (shares,) = codec.encode_batch(session.run(grid.window(pixels, 0, 0)[None]), [None])
        around = manifest.tiles.context
        said = shares[around : around + item.height, around : around + item.width].argmax(axis=2)
        tally.add(said[None].astype(np.uint8), fit_mask(place.pack.read_mask(item), *said.shape)[None])
    assert tally.mean_iou == pytest.approx(outcome.result["mean_iou"], abs=1e-3)
    page = files["report.html"].read_text()
    assert page.count("data:image/jpeg;base64,") == 12
    assert "at the pictures' own size" in html.unescape(page)

    published = place.publish(outcome)
    again = run(place.context(place.order(model=str(published), image_size=16, n_epochs=1)))
    assert again.publish.manifest.tiles == manifest.tiles
    squashed = run(place.context(place.order(model=str(published), fit="squash", n_epochs=1)))
    assert squashed.publish.manifest.tiles is None


@pytest.mark.slow
@pytest.mark.parametrize("model", FAMILIES)
def test_a_network_of_each_family_learns_in_windows_and_is_compressed(place_of, model):
    place = place_of("ground", "red", "blue")
    outcome = run(place.context(place.order(model=model, fit="tiles", n_epochs=15, learning_rate=0.003)))
    assert outcome.result["mean_iou"] > 0.5
    assert outcome.publish.certificate.level is Level.CERTIFIED
    asked = CompressSpec(
        model=str(place.publish(outcome)),
        precision="int8",
        dataset=str(place.masks),
        keep="always",
        least_agreement=0.9,
        least_iou=0.5,
    )
    datasets = DatasetService(place.database, place.objects)
    spec = plan_compression(SYSTEM, asked, registry=place.registry, datasets=datasets)
    parcel = compress(place.context(spec)).publish
    assert parcel.certificate.agreement.same_label >= 0.9
    assert parcel.certificate.compared_with.calibrated_on == 12  # a picture is one window
    assert parcel.manifest.tiles == outcome.publish.manifest.tiles


def test_a_network_that_cannot_have_that_size_is_refused_before_the_first_step(place_of):
    place = place_of("disc")
    with pytest.raises(InvalidSpec, match="steps of 4") as refused:
        run(replace(place.context(place.order()), spec=place.order(image_size=30)))
    assert refused.value.param == "image_size"
