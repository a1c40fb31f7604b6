"""Two networks to time: timm architectures with random weights, exported as every served graph is.

Weights do not change how long a convolution takes, as long as no number is denormal. A fresh network
shrinks its activations layer by layer until they are; so the batch statistics are set once from noise,
after which every layer sees unit variance and the five best labels differ clearly.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from models.manifest import Manifest, Preprocessing

if TYPE_CHECKING:
    from torch import nn

SIDE = 224
CLASSES = 1000
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
NETWORKS = ("mobilenetv3_small_100", "resnet50")


def export_timing_model(architecture: str, path: Path) -> Manifest:
    """Write uint8 NHWC `image` -> float32 `logits`, normalisation inside, batch free."""
    import torch

    from models.build.timm_ import build_timm
    from models.export.onnx import Origin, export_classifier

    torch.manual_seed(0)
    network = build_timm(architecture, num_classes=CLASSES)
    _settle_statistics(network)
    return export_classifier(
        network,
        Preprocessing(height=SIDE, width=SIDE, crop=0.875, mean=MEAN, std=STD),
        [f"c{index}" for index in range(CLASSES)],
        path,
        origin=Origin(architecture=architecture, source="random weights, seed 0"),
    )


def _settle_statistics(network: "nn.Module") -> None:
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain average over what it is shown
    network.train()
    with torch.no_grad():
        network(torch.randn(16, 3, SIDE, SIDE))
    network.eval()
