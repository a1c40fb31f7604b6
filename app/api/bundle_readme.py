"""The README of a bundle: what is in it, and ten lines that run the model without Athanor."""

from app.registry.snapshot import VersionFacts
from models.manifest import MODEL_FILE, Manifest, Task

README_FILE = "README.txt"
SCRIPT_BEGINS = "--- classify.py ---"
SCRIPT_ENDS = "--- end of classify.py ---"
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
    if manifest.task is Task.CLASSIFICATION and version.artifact(MODEL_FILE) is not None:
        parts.append(_usage(manifest))
    if manifest.licence:
        parts.append(f"Licence of the weights: {manifest.licence}")
    parts.append("\n".join(["SHA-256; `sha256sum -c README.txt` checks the files:", *hashes]))
    return "\n\n".join(parts) + "\n"


def _usage(manifest: Manifest) -> str:
    return "\n".join(
        [
            "To use it anywhere: `pip install onnxruntime pillow`, save the lines between the marks here as",
            "classify.py, and run `python classify.py PICTURE`.",
            "",
            SCRIPT_BEGINS,
            *_script(manifest),
            SCRIPT_ENDS,
        ]
    )


def _script(manifest: Manifest) -> list[str]:
    """Ten lines that give the codec's pixels, except where it decodes a large JPEG at a smaller scale."""
    preprocessing = manifest.preprocessing
    size = f"({preprocessing.width}, {preprocessing.height})"
    how = f"{size}, Image.Resampling.{preprocessing.interpolation.upper()}"
    fitted = {
        "crop": f"ImageOps.fit(picture, {how}, bleed={(1 - preprocessing.crop) / 2:g})",
        "squash": f"picture.resize({how})",
        "pad": f'ImageOps.pad(picture, {how}, color="black")',
    }[preprocessing.fit]
    run = f'.run(None, {{"{manifest.inputs[0].name}": numpy.asarray(picture)[None]}})[0][0]'
    return [
        "import json, pathlib, sys",
        "import numpy, onnxruntime",
        "from PIL import Image, ImageOps",
        'labels = json.loads(pathlib.Path("manifest.json").read_text("utf-8"))["labels"]',
        'picture = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")',
        f"picture = {fitted}",
        f'logits = onnxruntime.InferenceSession("{MODEL_FILE}"){run}',
        "scores = numpy.exp(logits - logits.max()) / numpy.exp(logits - logits.max()).sum()",
        'for index in (-scores).argsort(kind="stable")[:5]:',
        '    print(f"{scores[index]:.4f}  {labels[index]}")',
    ]
