"""What the nursery imports before it forks a run: by kind, and no more than the run needs. Called by name.

Only what starts no threads: ONNX Runtime does when it is imported, so that a run imports it itself, in 40 ms.
"""

from collections.abc import Mapping
from typing import Any

_HERE = "workers.kinds.warming"
_SERVICES, _NETWORKS, _TRAINING, _ADAPTERS = (
    f"{_HERE}:{name}" for name in ("services", "networks", "training", "adapters")
)


def imports_of(kind: str, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """References, `module:function`, for a job of this kind."""
    if kind in ("fine_tune", "preflight", "publish_checkpoint"):
        adapter = spec["train"].get("adapter", {}) if "train" in spec else {}
        return (_TRAINING,) if adapter.get("method") == "full" else (_ADAPTERS,)
    if kind == "import" and not str(spec.get("source", "")).startswith("file:"):
        return (_NETWORKS,)
    return (_SERVICES,)


def services() -> None:
    """The database, the registry, data sets."""
    import workers.kinds.dataset  # noqa: F401, PLC0415 - the nursery decides when


def networks() -> None:
    """PyTorch and what builds and exports its networks."""
    services()
    from models.build.torchvision_operators import (  # noqa: PLC0415 - as above
        declare_torchvision_operators,
    )

    declare_torchvision_operators()
    import onnxscript  # noqa: F401, PLC0415 - after the declaration
    import timm  # noqa: F401, PLC0415 - as above

    import models.export.onnx  # noqa: F401, PLC0415 - as above


def training() -> None:
    """The loop, and what any optimiser pulls in."""
    networks()
    import torch._dynamo  # noqa: F401, PLC0415 - after the declaration

    import models.evaluate.report_html  # noqa: F401, PLC0415 - as above
    import workers.kinds.fine_tune_prepare  # noqa: F401, PLC0415 - as above


def adapters() -> None:
    """PEFT, with as much of transformers as it takes."""
    training()
    import peft  # noqa: F401, PLC0415 - after the declaration
