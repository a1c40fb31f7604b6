"""What a run needs before it can measure: the peers' environment, the graphs, the photograph, the facts."""

import json
import subprocess
import venv
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.machine import machine_facts
from benchmarks.serving.photo import write_photo
from benchmarks.serving.timing_models import export_timing_model
from models.manifest import Manifest

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements-peers.txt"
_OURS = ("onnxruntime", "simplejpeg", "numpy", "uvicorn", "uvloop", "httptools", "torch", "timm")
_PEERS = ("bentoml", "fastapi", "litserve", "onnxruntime", "simplejpeg", "uvicorn")


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Files of a run."""

    folder: Path
    photo: Path
    peers_python: Path

    def model(self, architecture: str) -> Path:
        """Where a timing model is."""
        return self.folder / f"{architecture}.onnx"

    def manifest(self, architecture: str) -> Manifest:
        """What was written beside it."""
        return Manifest.model_validate_json(self.model(architecture).with_suffix(".json").read_bytes())


def set_up(folder: Path, *, architectures: list[str], peers: Path) -> Workshop:
    """Make what is missing; a second call finds everything."""
    folder.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(
        folder=folder,
        photo=write_photo(folder / "photo.jpg"),
        peers_python=peers_environment(peers),
    )
    for architecture in architectures:
        path = workshop.model(architecture)
        if not path.with_suffix(".json").exists():
            # In a child: torch would otherwise stay in the memory of whoever measures.
            child = get_context("spawn").Process(target=_export, args=(architecture, path))
            child.start()
            child.join()
            if child.exitcode:
                raise SystemExit(f"{architecture} could not be exported")
    return workshop


def _export(architecture: str, path: Path) -> None:
    manifest = export_timing_model(architecture, path)
    path.with_suffix(".json").write_bytes(manifest.to_json())


def peers_environment(folder: Path) -> Path:
    """The interpreter of an environment with the peers; made, once, where there is none."""
    python = folder / "bin" / "python"
    wanted = REQUIREMENTS.read_text()
    marker = folder / "installed.txt"
    if not marker.exists() or marker.read_text() != wanted:
        print(f"Setting up the peers in {folder} (once)")
        if not python.exists():
            venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS], check=True)
        marker.write_text(wanted)
    return python


def facts(workshop: Workshop) -> dict[str, object]:
    """The machine and the versions, for the first line of the results."""
    return {
        **machine_facts(*_OURS),
        "photo_bytes": workshop.photo.stat().st_size,
        "weights": "random (seed 0); batch statistics settled on noise",
        "peers": _peer_versions(workshop.peers_python),
    }


def _peer_versions(python: Path) -> dict[str, str]:
    code = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", code, *_PEERS], check=True, capture_output=True, text=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
