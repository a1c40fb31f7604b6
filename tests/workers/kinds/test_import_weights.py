"""Weights without a graph come in when the network they belong to is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from app.errors import ImportRefused
from models.build.state_file import read_state
from models.build.timm_ import build_timm
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, WEIGHTS_FILE, Level, sha256_hex
from tests.hub import hub_server
from workers.context import Interrupted
from workers.kinds.import_model import run

LABELS = [f"class {index}" for index in range(7)]
USAGE = {
    "labels": LABELS,
    "architecture": "test_efficientnet",
    "height": 64,
    "width": 64,
    "mean": 127.5,
    "std": 127.5,
    "licence": "MIT",
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_timm("test_efficientnet", num_classes=7)


@pytest.fixture
def weights(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_a_named_network_is_built_exported_and_answers_as_in_pytorch(imports, weights, network):
    outcome = imports.run({"source": f"file:{weights}", "name": "mine", "manifest": USAGE})

    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = network((torch.from_numpy(image).permute(0, 3, 1, 2).float() - 127.5) / 127.5).numpy()
    served = ServedSession(outcome.publish.artifacts[MODEL_FILE]).run(image)
    assert served == pytest.approx(expected, abs=1e-5)
    assert outcome.publish.certificate.level is Level.IMPORTED
    assert outcome.publish.manifest.architecture == "test_efficientnet"
    assert outcome.publish.manifest.licence == "MIT"


@pytest.mark.parametrize("phase", ["downloading", "building", "exporting"])
def test_an_import_that_is_to_stop_leaves_off_before_the_next_phase(imports, weights, phase):
    phases = []
    context = replace(
        imports.context({"source": f"file:{weights}", "name": "mine", "manifest": USAGE}),
        progress=lambda fraction, phase: phases.append(phase),
        stop_asked=lambda: phase in phases,
    )
    with pytest.raises(Interrupted):
        run(context)
    assert phases[-1] == phase


def test_the_weights_are_published_too_under_the_networks_own_names(imports, weights, network):
    outcome = imports.run({"source": f"file:{weights}", "name": "mine", "manifest": USAGE})

    kept = read_state(outcome.publish.artifacts[WEIGHTS_FILE], file_name=WEIGHTS_FILE)
    assert kept.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": None}, "weights without a graph"),
        ({"architecture": "test_resnet"}, "Missing key|size mismatch"),
        ({"architecture": "no_such_network"}, "no network 'no_such_network'"),
        ({"labels": LABELS[:3]}, "size mismatch"),
    ],
)
def test_weights_that_do_not_fit_are_refused(imports, weights, change, says):
    with pytest.raises(ImportRefused, match=says) as caught:
        imports.run({"source": f"file:{weights}", "name": "mine", "manifest": USAGE | change})

    assert caught.value.hint


def test_weights_come_from_the_hub_as_well(imports, weights, run_python):
    spec = {"source": "hf:org/name@v1#net.safetensors", "name": "mine", "manifest": USAGE}
    with hub_server({("org/name", "v1", "net.safetensors"): weights.read_bytes()}) as hub:
        told = run_python(
            f"""
            from pathlib import Path
            from tests.importing import Imports
            from app.settings import Settings
            imports = Imports(Settings(data_dir=Path({str(imports.settings.data_dir)!r}), _env_file=None))
            manifest = imports.run({spec!r}).publish.manifest
            print(manifest.source, manifest.source_sha256)
            """,
            HF_ENDPOINT=hub.url,
        )

    assert told == f"{spec['source']} {sha256_hex(weights.read_bytes())}"
