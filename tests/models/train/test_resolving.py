"""What a spec leaves open, and what does not go with the data."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from models.catalogue import CATALOGUE, Kind
from models.data.pack import Pack, PackWriter, Split
from models.manifest import Preprocessing
from models.train.checkpoint import CheckpointDamaged, read_facts
from models.train.resolve import ResolvedSpec, resolve
from models.train.spec import SpecError, read_spec

RESNET = CATALOGUE.get(Kind.ARCHITECTURE, "resnet18")
FIXTURES = Path(__file__).parents[2] / "fixtures"
VIT = replace(RESNET, id="some_vit", family="vit", side_multiple=16)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Makes packs of so many training images by label, of one size."""
    folder = tmp_path_factory.mktemp("packs")
    opened = []

    def make(*counts, side=64):
        path = folder / f"{len(opened)}.pack"
        with PackWriter(path, [f"l{index}" for index in range(len(counts))]) as writer:
            for label, count in enumerate(counts):
                for index in range(count):
                    writer.add(
                        b"x", name=f"{label}/{index}", label=label, split=Split.TRAIN, width=side, height=side
                    )
            writer.finish()
        opened.append(Pack(path))
        return opened[-1]

    yield make
    for pack in opened:
        pack.close()


def test_a_spec_with_a_model_alone_has_no_gaps_left(packs):
    spec = resolve(read_spec({"model": "m"}), RESNET, pack=packs(700, 737))
    assert (spec.batch_size, spec.n_epochs, spec.steps_per_epoch, spec.total_steps) == (32, 7, 45, 315)
    assert spec.learning_rate == 5e-3
    assert spec.image_size == 112
    assert [choice.method for choice in spec.augmentation] == ["random_crop"]
    assert spec.threads >= 1
    assert spec.checkpoint_every_steps == 16
    assert spec.log_every_steps == 1
    assert spec.labels == ("l0", "l1")
    assert all(
        getattr(spec, name) is not None for name in ("learning_rate", "n_epochs", "batch_size", "image_size")
    )
    assert ResolvedSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("images", "n_epochs"), [(10, 60), (100, 60), (1000, 10), (1300, 8), (4000, 5), (20_000, 3)]
)
def test_few_images_are_seen_often_and_many_seldom(packs, images, n_epochs):
    assert resolve(read_spec({"model": "m"}), RESNET, pack=packs(images)).n_epochs == n_epochs


@pytest.mark.parametrize(("images", "n_epochs"), [(100, 100), (20_000, 25), (60_000, 10)])
def test_a_network_that_knows_nothing_yet_takes_longer(packs, images, n_epochs):
    spec = resolve(read_spec({"model": "m"}), RESNET, pack=packs(images), is_pretrained=False)
    assert spec.n_epochs == n_epochs


def test_large_data_sets_are_not_changed_by_default(packs):
    assert resolve(read_spec({"model": "m"}), RESNET, pack=packs(20_000)).augmentation == ()


@pytest.mark.parametrize(
    ("side", "architecture", "is_pretrained", "chosen"),
    [
        (28, RESNET, True, 96),
        (64, RESNET, True, 112),
        (70, RESNET, True, 128),
        (500, RESNET, True, 224),
        (64, VIT, True, 112),
        (64, replace(VIT, side_multiple=32), True, 128),
        (64, replace(RESNET, is_size_free=False), True, 224),
        (64, RESNET, False, 224),
    ],
)
def test_small_pictures_are_not_enlarged_for_nothing(packs, side, architecture, is_pretrained, chosen):
    spec = resolve(
        read_spec({"model": "m"}), architecture, pack=packs(3, side=side), is_pretrained=is_pretrained
    )
    assert spec.image_size == chosen


@pytest.mark.parametrize(
    ("raw", "architecture", "is_pretrained", "rate"),
    [
        ({}, RESNET, True, 5e-3),
        ({}, VIT, True, 2.5e-3),
        ({"adapter": "full"}, RESNET, True, 2e-4),
        ({"adapter": "full"}, RESNET, False, 1e-3),
        ({"optimizer": "sgd"}, RESNET, True, 1e-1),
        ({"optimizer": "lion", "adapter": "head"}, RESNET, True, 1e-3),
        ({"learning_rate": 0.7}, VIT, True, 0.7),
    ],
)
def test_the_rate_goes_by_adapter_family_and_optimiser(packs, raw, architecture, is_pretrained, rate):
    spec = resolve(
        read_spec({"model": "m", **raw}), architecture, pack=packs(40), is_pretrained=is_pretrained
    )
    assert spec.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize(
    ("raw", "is_pretrained", "scale"),
    [
        ({}, True, 0.1),
        ({"learning_rate": 0.7}, True, 0.1),
        ({"adapter": "full"}, True, 1.0),
        ({"adapter": "head"}, True, 1.0),
        ({"adapter": "full"}, False, 1.0),
        ({"head_rate_scale": 3.0}, True, 3.0),
    ],
)
def test_a_head_on_features_moves_more_slowly_than_an_adapter_that_begins_at_zero(
    packs, raw, is_pretrained, scale
):
    spec = resolve(read_spec({"model": "m", **raw}), RESNET, pack=packs(40), is_pretrained=is_pretrained)
    assert spec.head_rate_scale == pytest.approx(scale)


def test_a_run_of_release_0_1_0_keeps_its_identity(packs):
    spec = resolve(read_spec({"model": "m", "head_rate_scale": 1.0}), RESNET, pack=packs(40, 40))
    frozen = spec.model_dump(
        mode="json", exclude={"head_rate_scale", "fit", "scale", "degradation", "encoder"}
    )
    assert ResolvedSpec.model_validate(frozen) == spec
    told = {key: frozen[key] for key in sorted(frozen) if not key.endswith("every_steps")}
    assert spec.identity() == hashlib.sha256(orjson.dumps(told)).hexdigest()


def test_checkpoints_of_every_release_are_of_the_run_that_goes_on_from_them():
    """Whatever fields a spec has got since."""
    facts = []
    for path in filter(Path.is_file, FIXTURES.glob("data-*/objects/**/*")):
        with suppress(CheckpointDamaged):
            facts.append(read_facts(path))
    assert len(facts) >= 1
    for each in facts:
        assert ResolvedSpec.model_validate(each["spec"]).identity() == each["identity"]


def test_every_adapter_of_the_catalogue_has_a_rate_of_its_own(packs):
    from models.train.resolve import _RATES

    assert sorted(_RATES) == sorted(row.id for row in CATALOGUE.find(kind=Kind.ADAPTER))


def test_steps_end_a_run_before_its_epochs(packs):
    pack = packs(100)
    spec = resolve(read_spec({"model": "m", "max_steps": 6, "batch_size": 25}), RESNET, pack=pack)
    assert (spec.total_steps, spec.n_epochs, spec.steps_per_epoch) == (6, 2, 4)
    raw = {"model": "m", "max_steps": 600, "n_epochs": 2, "batch_size": 25, "accumulate_steps": 3}
    spec = resolve(read_spec(raw), RESNET, pack=pack)
    assert (spec.total_steps, spec.steps_per_epoch) == (4, 2)


def test_a_batch_is_no_larger_than_the_data(packs):
    assert resolve(read_spec({"model": "m", "batch_size": 512}), RESNET, pack=packs(9)).batch_size == 9


def test_balanced_weights_make_labels_weigh_the_same(packs):
    spec = resolve(read_spec({"model": "m", "class_weights": "balanced"}), RESNET, pack=packs(10, 30))
    assert spec.weights_by_label() == [2.0, pytest.approx(2 / 3)]


def test_labels_without_a_weight_weigh_one(packs):
    spec = resolve(read_spec({"model": "m", "class_weights": {"l1": 4}}), RESNET, pack=packs(10, 30, 3))
    assert spec.weights_by_label() == [1.0, 4.0, 1.0]


@pytest.mark.parametrize(
    ("raw", "architecture", "param", "hint"),
    [
        ({"class_weights": {"l7": 2.0}}, RESNET, "class_weights.l7", "l1"),
        ({"image_size": 120}, VIT, "image_size", "The nearest is 128."),
        ({"image_size": 16}, RESNET, "image_size", "The nearest is 32."),
        ({"image_size": 128}, replace(RESNET, is_size_free=False), "image_size", "The nearest is 224."),
    ],
)
def test_what_does_not_go_with_data_or_base_is_refused(packs, raw, architecture, param, hint):
    with pytest.raises(SpecError) as refused:
        resolve(read_spec({"model": "m", **raw}), architecture, pack=packs(10, 10))
    assert refused.value.param == param
    assert hint in refused.value.hint


def test_a_data_set_without_training_images_is_refused(packs):
    with pytest.raises(SpecError, match="no training images"):
        resolve(read_spec({"model": "m"}), RESNET, pack=packs())


def test_the_identity_is_of_what_decides_the_bits(packs):
    pack = packs(40, 40)
    spec = resolve(read_spec({"model": "m", "threads": 2}), RESNET, pack=pack)
    assert spec.identity() == resolve(read_spec({"model": "m", "threads": 2}), RESNET, pack=pack).identity()
    same = spec.model_copy(update={"checkpoint_every_steps": 1, "log_every_steps": 9})
    assert same.identity() == spec.identity()
    for raw in ({"seed": 1}, {"threads": 1}, {"loss": "focal"}, {"adapter": {"method": "lora", "r": 4}}):
        other = resolve(read_spec({"model": "m", "threads": 2, **raw}), RESNET, pack=pack)
        assert other.identity() != spec.identity()


def test_preprocessing_is_the_base_s_at_the_run_s_size_without_its_margin(packs):
    base = Preprocessing(height=224, width=224, crop=0.875, interpolation="bilinear", mean=(1, 2, 3))
    sized = resolve(read_spec({"model": "m"}), RESNET, pack=packs(4)).sized(base)
    assert sized == base.model_copy(update={"height": 112, "width": 112, "crop": 1.0})
