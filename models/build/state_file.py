"""State dicts from files, without running what the files say."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.build.timm_ import WeightsMismatch


def read_state(path: Path, *, file_name: str) -> dict[str, torch.Tensor]:
    """Tensors by name; from a `.pth`, `.pt` or `.bin` in the file's order, from a `.safetensors` in any.

    `file_name` tells the format. Pickles go through torch's restricted reader: tensors only.

    Raises:
        WeightsMismatch: the file is of another make, damaged, or holds more than tensors.

    """
    suffix = Path(file_name).suffix.lower()
    try:
        if suffix == ".safetensors":
            return load_file(path)
        if suffix in {".pth", ".pt", ".bin"}:
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise WeightsMismatch(f"{file_name} is not one of .onnx, .safetensors, .pth, .pt, .bin.")
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise WeightsMismatch(f"{file_name} cannot be read: {str(error)[:300]}") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise WeightsMismatch(f"{file_name} holds something else than tensors by name.")
    return dict(state)
