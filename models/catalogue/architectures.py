"""Networks that can be trained and served.

Every network that a spec can name has a row with timm's name for its id, or ours; a method of the literature
has one more row under the method's name, for the size that its paper or timm takes for typical.
"""

from models.catalogue.architecture import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LITE_MEAN,
    LITE_STD,
    Architecture,
    method_row,
    network_row,
)
from models.catalogue.restorers import RESTORERS
from models.catalogue.row import Proof
from models.catalogue.segmenters import SEGMENTERS
from models.manifest import Task

_RESNET = Architecture(
    id="resnet18",
    name="resnet18",
    tasks=frozenset({Task.CLASSIFICATION}),
    builder="models.build.timm_:build_convolutional",
    paper="He et al. 2015, Deep Residual Learning for Image Recognition",
    timm="resnet18",
    licence="Apache-2.0",
    proof=Proof.SERVES,
    family="resnet",
    image_size=224,
    side_multiple=1,
)
_RESNET50 = network_row("resnet50", _RESNET)
_RESNET_RS = network_row(
    "resnetrs50",
    _RESNET,
    paper="Bello et al. 2021, Revisiting ResNets: Improved Training and Scaling Strategies",
)
_LATER_STAGES = ("blocks.[3-6].*", "conv_head")
"""Of networks in stages named `blocks`. The first stages see the largest maps: they take half of a step, and
what they know of edges and textures serves any picture."""
_EFFICIENTNET = network_row(
    "efficientnet_b0",
    _RESNET,
    family="efficientnet",
    targets=_LATER_STAGES,
    paper="Tan & Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
)
_LITE = network_row("tf_efficientnet_lite0", _EFFICIENTNET, mean=LITE_MEAN, std=LITE_STD)
_EFFICIENTNET_V2 = network_row(
    "tf_efficientnetv2_s",
    _EFFICIENTNET,
    image_size=288,
    mean=HALF,
    std=HALF,
    paper="Tan & Le 2021, EfficientNetV2: Smaller Models and Faster Training",
)
_MOBILENET_V2 = network_row(
    "mobilenetv2_100",
    _RESNET,
    family="mobilenet_v2",
    targets=_LATER_STAGES,
    paper="Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks",
)
_MOBILENET_V3 = network_row(
    "mobilenetv3_large_100",
    _RESNET,
    family="mobilenet_v3",
    targets=_LATER_STAGES,
    paper="Howard et al. 2019, Searching for MobileNetV3",
)
_CONVNEXT = network_row(
    "convnext_tiny",
    _RESNET,
    family="convnext",
    has_linears=True,
    paper="Liu et al. 2022, A ConvNet for the 2020s",
)
_CONVNEXT_V2 = network_row(
    "convnextv2_tiny",
    _CONVNEXT,
    paper="Woo et al. 2023, ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders",
)
_VIT = network_row(
    "vit_base_patch16_224",
    _RESNET,
    builder="models.build.timm_:build_of_size",
    family="vit",
    side_multiple=16,
    has_linears=True,
    mean=HALF,
    std=HALF,
    targets=("blocks.*",),
    paper="Dosovitskiy et al. 2020, An Image is Worth 16x16 Words: "
    "Transformers for Image Recognition at Scale",
)
_SWIN = network_row(
    "swin_tiny_patch4_window7_224",
    _RESNET,
    builder="models.build.timm_:build_of_size",
    family="swin",
    side_multiple=32,
    has_linears=True,
    targets=("layers.*",),
    licence="MIT",
    paper="Liu et al. 2021, Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
)
_LENET = network_row(
    "lenet5",
    _RESNET,
    builder="models.build.lenet:build_lenet",
    family="lenet",
    image_size=32,
    smallest_size=28,
    has_linears=True,
    mean=HALF,
    std=HALF,
    paper="LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition",
)

_CONVOLUTIONAL_SIZES = ("atto", "femto", "pico", "nano")
"""ConvNeXts whose pointwise layers timm builds as convolutions."""

_METHODS = (
    method_row("resnet", "ResNet", _RESNET50),
    method_row("resnet_rs", "ResNet-RS", _RESNET_RS),
    method_row("efficientnet_v1", "EfficientNet", _EFFICIENTNET),
    method_row("efficientnet_v2", "EfficientNetV2", _EFFICIENTNET_V2),
    method_row("mobilenet_v2", "MobileNetV2", _MOBILENET_V2),
    method_row("mobilenet_v3", "MobileNetV3", _MOBILENET_V3),
    method_row("convnext_v1", "ConvNeXt", _CONVNEXT),
    method_row("convnext_v2", "ConvNeXt V2", _CONVNEXT_V2),
    method_row("vit", "Vision Transformer", _VIT),
    method_row("swin", "Swin Transformer", _SWIN),
    method_row("lenet5", "LeNet-5", _LENET),
)

_NETWORKS = (
    _RESNET,
    _RESNET50,
    _RESNET_RS,
    *(network_row(name, _RESNET) for name in ("resnet10t", "resnet14t", "resnet26", "resnet34")),
    *(network_row(name, _RESNET) for name in ("resnet101", "resnet152")),
    *(network_row(name, _RESNET) for name in ("resnext50_32x4d", "wide_resnet50_2")),
    _EFFICIENTNET,
    network_row("efficientnet_b1", _EFFICIENTNET, image_size=240, mean=HALF, std=HALF),
    network_row("efficientnet_b2", _EFFICIENTNET, image_size=256),
    network_row("efficientnet_b3", _EFFICIENTNET, image_size=288),
    network_row("efficientnet_b4", _EFFICIENTNET, image_size=320),
    network_row("efficientnet_lite0", _EFFICIENTNET),
    _LITE,
    network_row("tf_efficientnet_lite1", _LITE, image_size=240),
    network_row("tf_efficientnet_lite2", _LITE, image_size=260),
    network_row("tf_efficientnet_lite3", _LITE, image_size=300),
    network_row("tf_efficientnet_lite4", _LITE, image_size=380),
    network_row("tf_efficientnet_b0", _EFFICIENTNET),
    network_row(
        "efficientnetv2_rw_t", _EFFICIENTNET_V2, image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    network_row(
        "tf_efficientnetv2_b0", _EFFICIENTNET_V2, image_size=192, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    _EFFICIENTNET_V2,
    _MOBILENET_V2,
    *(network_row(f"mobilenetv2_{width}", _MOBILENET_V2) for width in ("035", "050")),
    _MOBILENET_V3,
    *(network_row(f"mobilenetv3_small_{width}", _MOBILENET_V3) for width in ("050", "075", "100")),
    *(network_row(f"convnext_{size}", _CONVNEXT, has_linears=False) for size in _CONVOLUTIONAL_SIZES),
    *(network_row(f"convnext_{size}", _CONVNEXT) for size in ("small", "base")),
    _CONVNEXT,
    *(network_row(f"convnextv2_{size}", _CONVNEXT_V2, has_linears=False) for size in _CONVOLUTIONAL_SIZES),
    network_row("convnextv2_base", _CONVNEXT_V2),
    _CONVNEXT_V2,
    *(network_row(f"vit_{size}_patch16_224", _VIT) for size in ("tiny", "small")),
    *(network_row(f"vit_{size}_patch32_224", _VIT, side_multiple=32) for size in ("small", "base")),
    _VIT,
    _SWIN,
    *(network_row(f"swin_{size}_patch4_window7_224", _SWIN) for size in ("small", "base")),
)

_TINY = (
    network_row("test_resnet", _RESNET, image_size=160, mean=HALF, std=HALF),
    network_row("test_efficientnet", _EFFICIENTNET, image_size=160),
    network_row("test_convnext", _CONVNEXT, image_size=160, mean=HALF, std=HALF),
    network_row("test_vit", _VIT, image_size=160),
    network_row("test_swin", _SWIN, image_size=64, builder="models.build.tiny_swin:build_tiny_swin"),
)
"""Of a few hundred thousand parameters: for tests, and for trying the service out."""

ARCHITECTURES: tuple[Architecture, ...] = (*_NETWORKS, *_METHODS, *_TINY, *SEGMENTERS, *RESTORERS)


def of_network(timm: str | None) -> Architecture | None:
    """The row whose id is this name of a network, as manifests may give it; None when there is none."""
    return next((row for row in ARCHITECTURES if row.id == timm), None)
