"""The README of a bundle: what is in it, and a few lines that run the model without Athanor."""

from app.api.bundle_scripts import Script, script_of
from app.registry.snapshot import VersionFacts
from models.manifest import MODEL_FILE

README_FILE = "README.txt"
_PURPOSES = {
    "model.onnx": "the graph; takes uint8 pixels and normalises them itself",
    "manifest.json": "how to use it: tensors, preprocessing, labels, origin",
    "certificate.json": "how far it was proven to equal the network it was made from",
    "reference.safetensors": "the samples and outputs that the certificate compares",
    "adapter_config.json": "how the base was changed; plain peft reads it where the method is peft's",
    "adapter_model.safetensors": "what was trained, by itself",
    "weights.safetensors": "the whole network's weights, by timm's names",
    "report.html": "the training report; open it in a browser",
    "report.json": "the same for machines",
}


def readme(name: str, version: VersionFacts) -> str:
    """The text, for exactly this version."""
    manifest = version.manifest
    width = max(len(artifact.name) for artifact in version.artifacts)
    files = [
        f"  {artifact.name:{width}}  {_PURPOSES.get(artifact.name, '')}".rstrip()
        for artifact in version.artifacts
    ]
    hashes = [f"{artifact.sha256}  {artifact.name}" for artifact in version.artifacts]
    parts = [
        f"{name}, version {version.number}: {manifest.task.value}, {version.certificate.level.value}.",
        "\n".join(["What is in here:", *files]),
    ]
    if version.artifact(MODEL_FILE) is not None:
        parts.append(_usage(script_of(manifest)))
    if manifest.licence:
        parts.append(f"Licence of the weights: {manifest.licence}")
    parts.append("\n".join(["SHA-256; `sha256sum -c README.txt` checks the files:", *hashes]))
    return "\n\n".join(parts) + "\n"


def _usage(script: Script) -> str:
    return "\n".join(
        [
            "To use it anywhere: `pip install onnxruntime pillow`, save the lines between the marks here as",
            f"{script.name}, and run `python {script.name} PICTURE`. {script.does}",
            "",
            f"--- {script.name} ---",
            *script.lines,
            f"--- end of {script.name} ---",
        ]
    )
