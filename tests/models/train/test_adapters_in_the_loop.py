"""Adapted networks through the loop: only what they train changes, and they are taken up to the same bits."""

import pytest

from models.adapt.adapter import adapt
from models.build.network import build_network, head_of
from models.catalogue import CATALOGUE, Kind
from models.data.pack import Split
from models.manifest import Preprocessing
from models.train.checkpoint import load_evaluated, read_checkpoint
from models.train.feed import PackSource
from models.train.loop import TrainRun, train
from models.train.measure import measure
from models.train.resolve import resolve
from models.train.spec import read_spec
from tests.models.train.tiny_runs import Diary, bits

CASES = [
    ("test_resnet", {"method": "lora", "r": 4, "dropout": 0.1}),
    ("test_efficientnet", {"method": "full"}),
    ("test_vit", {"method": "adalora"}),
    ("test_swin", {"method": "full"}),
    ("test_convnext", {"method": "bitfit"}),
]


def adapted_for(architecture, spec):
    network = build_network(architecture, num_classes=3, image_size=spec.image_size, seed=spec.seed)
    return adapt(
        network,
        spec.adapter.row(Kind.ADAPTER),
        spec.adapter.told(Kind.ADAPTER),
        architecture=architecture,
        head=head_of(network),
        total_steps=spec.total_steps,
        seed=spec.seed,
    )


@pytest.mark.parametrize(("name", "adapter"), CASES, ids=[f"{name}-{one['method']}" for name, one in CASES])
def test_an_adapted_network_is_taken_up_to_the_same_bits(pack, tmp_path, name, adapter):
    architecture = CATALOGUE.get(Kind.ARCHITECTURE, name)
    raw = {"model": name, "adapter": adapter, "max_steps": 6, "batch_size": 8, "threads": 1, "image_size": 64}
    raw |= {"checkpoint_every_steps": 2, "ema_decay": 0.8, "mixing": "mixup"}
    spec = resolve(read_spec(raw), architecture, pack=pack)
    preprocessing = spec.sized(Preprocessing(height=1, width=1, mean=architecture.mean, std=architecture.std))

    def run(folder, resume=None, *, measured=False):
        folder.mkdir()
        adapted, diary = adapted_for(architecture, spec), Diary()
        if measured:
            measure(adapted, spec, pack, preprocessing)
        sources = [
            PackSource.of(pack, split, spec, preprocessing=preprocessing)
            for split in (Split.TRAIN, Split.VALIDATION)
        ]
        train(
            TrainRun(
                adapted=adapted,
                spec=spec,
                batches=sources[0],
                validation=sources[1],
                resume=resume,
                work_dir=folder,
            ),
            diary.hooks(),
        )
        return adapted, diary

    whole, diary = run(tmp_path / "whole", measured=True)
    first = adapted_for(architecture, spec)
    changed = {name for name, tensor in bits(first.network).items() if tensor != bits(whole.network)[name]}
    parameters = {name for name, _ in whole.network.named_parameters()}
    assert changed & parameters
    assert changed & parameters <= set(whole.trainable_names)
    for step in (2, 4):
        resumed, _ = run(tmp_path / str(step), diary.checkpoints[step])
        assert bits(resumed.network) == bits(whole.network), f"taken up from step {step}"

    served = adapted_for(architecture, spec)
    load_evaluated(served.network, diary.checkpoints[6])
    if read_checkpoint(diary.checkpoints[6]).facts["best"]["step"] == 6:
        assert bits(served.network) == bits(whole.network)
