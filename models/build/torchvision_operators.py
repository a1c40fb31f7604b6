"""Makes `import torchvision` work beside a CPU-only torch.

torchvision's wheel is linked against CUDA; beside a torch without it, its operators do not load, and the
import fails over the shape functions that it registers for two of them. timm, peft and transformers
import torchvision and report misleading errors. Declaring the two names (no kernels: calling one still
fails, honestly) is enough.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def declare_torchvision_operators() -> torch.library.Library | None:
    """Declare `torchvision::nms` and `::qnms` if nobody has; to be called before timm is imported.

    The declarations live as long as the returned library, which this function keeps.
    """
    _load_real_operators()
    missing = [name for name in _SCHEMAS if not _is_declared(name)]
    if not missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in missing:
        library.define(_SCHEMAS[name])  # type: ignore[no-untyped-call]
    return library


def _load_real_operators() -> None:
    """Where torchvision's own binary loads, it declares its operators itself, and must do so first."""
    spec = find_spec("torchvision")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(binary)  # type: ignore[no-untyped-call]
            except OSError:
                continue


def _is_declared(name: str) -> bool:
    return hasattr(torch.ops.torchvision, name)
