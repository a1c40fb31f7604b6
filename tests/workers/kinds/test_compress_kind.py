"""Versions in fewer bits: certified on pictures that calibration has not seen, kept only where they are
faster."""

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.access.principal import SYSTEM
from app.errors import InvalidSpec, NotFaster, ParityFailed
from app.main import create_app
from app.registry.verification import verify
from models.data.pack import PackWriter, Split
from models.export.reference import read_reference
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, REFERENCE_FILE, Precision
from models.tasks.classification import ClassificationCodec
from models.tasks.image_facts import ImageLimits
from tests.colour_models import COLOURS, picture, publish_colours
from tests.compress_world import SIDE, CompressPlace, publish_convolutions
from tests.packs import publish_pack
from workers.context import Interrupted
from workers.kinds.compress import run


@pytest.fixture
def place(tmp_path, sqlite_url):
    place = CompressPlace(tmp_path, sqlite_url)
    yield place
    place.database.close()


def write_pack(path, *, train, test):
    """A pack of (colour, noise) for each split."""
    with PackWriter(path, COLOURS) as writer:
        for split, items in ((Split.TRAIN, train), (Split.TEST, test)):
            for colour, noise in items:
                writer.add(
                    picture(colour, size=SIDE, noise=noise),
                    name=f"{split}/{colour}/{noise}.png",
                    label=COLOURS.index(colour),
                    split=split,
                    width=SIDE,
                    height=SIDE,
                )
        writer.finish()
    return path


@pytest.mark.parametrize("precision", [precision.value for precision in Precision])
def test_a_compressed_version_answers_and_its_certificate_says_beside_what(place, precision):
    assert str(place.publish(precision=precision)) == "colours:2"
    version = place.registry.get_version(SYSTEM, "colours", 2)
    base = place.registry.get_version(SYSTEM, "colours", 1)
    assert (version.manifest.precision, base.manifest.precision) == (Precision(precision), None)
    agreement, compared = version.certificate.agreement, version.certificate.compared_with
    assert (agreement.samples, agreement.same_label, agreement.least_same_label) == (3, 1.0, 0.99)
    assert 0 < agreement.max_abs < agreement.tolerance < 1
    assert (compared.model, compared.dataset) == ("colours:1", "flags:1")
    assert compared.model_sha256 == base.certificate.model_sha256
    assert (compared.accuracy_before, compared.accuracy_after) == (1.0, 1.0)
    assert [(pace.threads, pace.batch) for pace in compared.paces] == [(1, 1), (1, 8)]
    with TestClient(create_app(place.settings), base_url="http://127.0.0.1") as client:
        for colour in COLOURS:
            sent = picture(colour, size=40, format_="PNG")
            answer = client.post("/v1/classification", params={"model": "colours:2"}, content=sent).json()
            assert (answer["model"], answer["predictions"][0]["label"]) == ("colours:2", colour)
        assert client.get("/v1/models/colours").json()["aliases"] == {"default": 1}


def test_a_compressed_graph_computes_in_what_it_says(place):
    import onnx

    kinds = {}
    for precision in Precision:
        artifacts = place.run(precision=precision.value, keep="always").publish.artifacts
        model = onnx.load(artifacts[MODEL_FILE])
        kinds[precision] = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    assert kinds == {
        Precision.INT8: {onnx.TensorProto.INT8},
        Precision.INT8_DYNAMIC: {onnx.TensorProto.FLOAT, onnx.TensorProto.INT8},
        Precision.FP16: {onnx.TensorProto.FLOAT16},
    }


def test_a_graph_that_is_not_enough_faster_is_refused_with_the_times(place):
    with pytest.raises(NotFaster) as refused:
        place.run(precision="fp16", least_gain=100)
    said = refused.value.message
    assert said.startswith("colours:1 in fp16 gives ")
    assert "1 thread, batch 1: " in said
    assert "the same label for 100.00% of 3 held-out pictures" in said
    assert said.endswith("100 times is asked.")
    outcome = place.run(precision="fp16", least_gain=100, keep="always")
    assert outcome.result["kept_though_slower"] is True
    assert outcome.publish.certificate.compared_with.kept_though_slower is True


def test_one_that_changes_labels_is_refused_however_fast_it_is(place):
    publish_convolutions(place.registry, place.folder / "odd", name="odd", outlier_in=1)
    with pytest.raises(ParityFailed, match=r"the same label for 33\.33% of 3 held-out pictures"):
        place.run(model="odd", keep="always")
    assert place.publish(model="odd", precision="fp16").number == 2


def test_first_layers_stay_in_float_where_labels_need_it(place):
    publish_convolutions(place.registry, place.folder / "deep", name="deep", layers=5, outlier_in=1)
    outcome = place.run(model="deep", keep="always")
    assert outcome.publish.certificate.compared_with.float_layers == 3
    assert any("3 of 6 layers stay in float32" in message for message in place.messages)


def test_calibration_does_not_see_what_is_held_out(place):
    train = [(colour, noise) for colour in ("red", "green") for noise in (1, 2)]
    packs = {
        "seen": write_pack(place.folder / "seen", train=train, test=[("red", 7), ("blue", 8)]),
        "other": write_pack(place.folder / "other", train=train, test=[("green", 9)]),
        # A picture for training that is also held out calibrates nothing.
        "both": write_pack(place.folder / "both", train=[*train, ("blue", 99)], test=[("blue", 99)]),
        "more": write_pack(place.folder / "more", train=[*train, ("blue", 99)], test=[("green", 9)]),
    }
    made = {}
    for name, pack in packs.items():
        publish_pack(place.datasets, SYSTEM, place.folder, name=name, pack=pack)
        made[name] = place.run(dataset=name, keep="always").publish
    graphs = {name: parcel.artifacts[MODEL_FILE].read_bytes() for name, parcel in made.items()}
    assert graphs["seen"] == graphs["other"] == graphs["both"]
    assert graphs["more"] != graphs["other"]
    reference = read_reference(made["seen"].artifacts[REFERENCE_FILE])
    assert reference.samples == tuple(picture(c, size=SIDE, noise=n) for c, n in (("red", 7), ("blue", 8)))
    assert made["seen"].certificate.compared_with.calibrated_on == len(train)


def test_the_reference_is_what_the_original_gives(place):
    parcel = place.run(keep="always").publish
    reference = read_reference(parcel.artifacts[REFERENCE_FILE])
    base = place.registry.get_version(SYSTEM, "colours", 1)
    session = ServedSession(place.objects.fetch(SYSTEM, base.certificate.model_sha256))
    codec = ClassificationCodec(base.manifest, ImageLimits())
    expected = session.run(np.stack([codec.decode(sample) for sample in reference.samples]))
    np.testing.assert_allclose(reference.logits, expected, rtol=0, atol=1e-5)
    assert reference.by == "colours:1, which it was made from"
    assert reference.labels == COLOURS


def test_verify_computes_the_comparison_again(place):
    place.publish()
    done = verify(place.settings, "colours:2")
    assert done.computed.agreement == done.stored.agreement
    assert done.computed.agreement.same_label == 1.0
    assert done.computed.compared_with == done.stored.compared_with


def test_another_model_can_be_given_the_version(place):
    assert str(place.publish(output_model="small-colours")) == "small-colours:1"
    assert place.registry.get_model(SYSTEM, "small-colours").aliases == {"default": 1}
    assert set(place.registry.get_model(SYSTEM, "colours").versions) == {1}


def test_a_graph_without_layers_and_a_set_without_held_out_pictures_are_refused(place):
    publish_colours(place.registry, place.folder / "plain", name="plain")
    for precision in Precision:
        with pytest.raises(InvalidSpec) as refused:
            place.run(model="plain", precision=precision.value)
        assert (refused.value.param, bool(refused.value.hint)) == ("precision", True)
    for name, train, test in (("all-train", [("red", 1)], []), ("all-test", [], [("red", 1)])):
        pack = write_pack(place.folder / name, train=train, test=test)
        publish_pack(place.datasets, SYSTEM, place.folder, name=name, pack=pack)
        with pytest.raises(InvalidSpec) as refused:
            place.run(dataset=name)
        assert refused.value.param == "dataset"


def test_it_leaves_off_between_phases(place):
    place.run(keep="always")
    phases = sorted(set(place.phases))
    assert phases == ["calibrating", "certifying", "choosing", "comparing", "preparing", "timing"]
    for phase in set(phases) - {"certifying"}:  # after that it is done
        place.phases.clear()

        def is_there(phase=phase):
            return phase in place.phases

        with pytest.raises(Interrupted):
            run(place.context(place.spec(keep="always"), stop_asked=is_there))
        assert place.phases[-1] == phase


def test_no_torch_is_loaded(run_python):
    script = (
        "import sys, workers.kinds.compress; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert run_python(script) == "False False"
