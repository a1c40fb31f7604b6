"""Networks that can be trained and served.

Every network that a spec can name has a row with timm's name for its id, or ours; a method of the literature
has one more row under the method's name, for the size that its paper or timm takes for typical.
"""

from dataclasses import dataclass, replace

from models.catalogue.row import Kind, Proof, Row
from models.manifest import Task

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
HALF = (127.5, 127.5, 127.5)
_LITE_MEAN, _LITE_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


@dataclass(frozen=True, kw_only=True)
class Architecture(Row):
    """A network. Means and standard deviations are in units of 0..255."""

    timm: str
    """timm's name of the network, or ours."""
    family: str
    """Networks with one name here share adapters' targets and default learning rates."""
    image_size: int
    """Side of its square input, pixels, unless a spec says otherwise."""
    smallest_size: int = 32
    """Least side it takes."""
    side_multiple: int = 32
    """Sides it takes are multiples of this."""
    is_size_free: bool = True
    """It can be built for another side than `image_size` and keep its weights."""
    has_linears: bool = False
    """It has linear layers besides its head; some adapters change nothing else."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    targets: tuple[str, ...] = ()
    """Globs of module names that adapters change by default; empty: every layer that they can."""
    scales: tuple[int, ...] = ()
    """Of super-resolution: how many times larger pictures it can be built to make; `image_size` is then the
    side of the large patches that it trains on."""

    def why_not_side(self, side: int) -> tuple[str, str] | None:
        """Why its input cannot have such a side, pixels, and the nearest that it can have; None if it can."""
        if not self.is_size_free:
            nearest, rule = self.image_size, f"images of {self.image_size} pixels a side only"
        else:
            multiple = self.side_multiple
            nearest = max(-(-self.smallest_size // multiple), round(side / multiple)) * multiple
            rule = f"at least {self.smallest_size} pixels a side, in steps of {multiple}"
        if side == nearest:
            return None
        return f"{self.id} takes {rule}; {side} is not one.", f"The nearest is {nearest}."


def _network(timm: str, like: Architecture, **changes: object) -> Architecture:
    return replace(like, id=timm, name=timm, timm=timm, **changes)  # type: ignore[arg-type]


def _method(row_id: str, name: str, of: Architecture) -> Architecture:
    return replace(of, id=row_id, name=name)


_RESNET = Architecture(
    id="resnet18",
    name="resnet18",
    kind=Kind.ARCHITECTURE,
    tasks=frozenset({Task.CLASSIFICATION}),
    builder="models.build.timm_:build_convolutional",
    licence="Apache-2.0",
    paper="He et al. 2015, Deep Residual Learning for Image Recognition",
    proof=Proof.SERVES,
    timm="resnet18",
    family="resnet",
    image_size=224,
    side_multiple=1,
)
_RESNET50 = _network("resnet50", _RESNET)
_RESNET_RS = _network(
    "resnetrs50",
    _RESNET,
    paper="Bello et al. 2021, Revisiting ResNets: Improved Training and Scaling Strategies",
)
_LATER_STAGES = ("blocks.[3-6].*", "conv_head")
"""Of networks in stages named `blocks`. The first stages see the largest maps: they take half of a step, and
what they know of edges and textures serves any picture."""
_EFFICIENTNET = _network(
    "efficientnet_b0",
    _RESNET,
    family="efficientnet",
    targets=_LATER_STAGES,
    paper="Tan & Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
)
_LITE = _network("tf_efficientnet_lite0", _EFFICIENTNET, mean=_LITE_MEAN, std=_LITE_STD)
_EFFICIENTNET_V2 = _network(
    "tf_efficientnetv2_s",
    _EFFICIENTNET,
    image_size=288,
    mean=HALF,
    std=HALF,
    paper="Tan & Le 2021, EfficientNetV2: Smaller Models and Faster Training",
)
_MOBILENET_V2 = _network(
    "mobilenetv2_100",
    _RESNET,
    family="mobilenet_v2",
    targets=_LATER_STAGES,
    paper="Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks",
)
_MOBILENET_V3 = _network(
    "mobilenetv3_large_100",
    _RESNET,
    family="mobilenet_v3",
    targets=_LATER_STAGES,
    paper="Howard et al. 2019, Searching for MobileNetV3",
)
_CONVNEXT = _network(
    "convnext_tiny",
    _RESNET,
    family="convnext",
    has_linears=True,
    paper="Liu et al. 2022, A ConvNet for the 2020s",
)
_CONVNEXT_V2 = _network(
    "convnextv2_tiny",
    _CONVNEXT,
    paper="Woo et al. 2023, ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders",
)
_VIT = _network(
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
_SWIN = _network(
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
_LENET = _network(
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
    _method("resnet", "ResNet", _RESNET50),
    _method("resnet_rs", "ResNet-RS", _RESNET_RS),
    _method("efficientnet_v1", "EfficientNet", _EFFICIENTNET),
    _method("efficientnet_v2", "EfficientNetV2", _EFFICIENTNET_V2),
    _method("mobilenet_v2", "MobileNetV2", _MOBILENET_V2),
    _method("mobilenet_v3", "MobileNetV3", _MOBILENET_V3),
    _method("convnext_v1", "ConvNeXt", _CONVNEXT),
    _method("convnext_v2", "ConvNeXt V2", _CONVNEXT_V2),
    _method("vit", "Vision Transformer", _VIT),
    _method("swin", "Swin Transformer", _SWIN),
    _method("lenet5", "LeNet-5", _LENET),
)

_NETWORKS = (
    _RESNET,
    _RESNET50,
    _RESNET_RS,
    *(_network(name, _RESNET) for name in ("resnet10t", "resnet14t", "resnet26", "resnet34")),
    *(_network(name, _RESNET) for name in ("resnet101", "resnet152", "resnext50_32x4d", "wide_resnet50_2")),
    _EFFICIENTNET,
    _network("efficientnet_b1", _EFFICIENTNET, image_size=240, mean=HALF, std=HALF),
    _network("efficientnet_b2", _EFFICIENTNET, image_size=256),
    _network("efficientnet_b3", _EFFICIENTNET, image_size=288),
    _network("efficientnet_b4", _EFFICIENTNET, image_size=320),
    _network("efficientnet_lite0", _EFFICIENTNET),
    _LITE,
    _network("tf_efficientnet_lite1", _LITE, image_size=240),
    _network("tf_efficientnet_lite2", _LITE, image_size=260),
    _network("tf_efficientnet_lite3", _LITE, image_size=300),
    _network("tf_efficientnet_lite4", _LITE, image_size=380),
    _network("tf_efficientnet_b0", _EFFICIENTNET),
    _network("efficientnetv2_rw_t", _EFFICIENTNET_V2, image_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    _network("tf_efficientnetv2_b0", _EFFICIENTNET_V2, image_size=192, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    _EFFICIENTNET_V2,
    _MOBILENET_V2,
    *(_network(f"mobilenetv2_{width}", _MOBILENET_V2) for width in ("035", "050")),
    _MOBILENET_V3,
    *(_network(f"mobilenetv3_small_{width}", _MOBILENET_V3) for width in ("050", "075", "100")),
    *(_network(f"convnext_{size}", _CONVNEXT, has_linears=False) for size in _CONVOLUTIONAL_SIZES),
    *(_network(f"convnext_{size}", _CONVNEXT) for size in ("small", "base")),
    _CONVNEXT,
    *(_network(f"convnextv2_{size}", _CONVNEXT_V2, has_linears=False) for size in _CONVOLUTIONAL_SIZES),
    _network("convnextv2_base", _CONVNEXT_V2),
    _CONVNEXT_V2,
    *(_network(f"vit_{size}_patch16_224", _VIT) for size in ("tiny", "small")),
    *(_network(f"vit_{size}_patch32_224", _VIT, side_multiple=32) for size in ("small", "base")),
    _VIT,
    _SWIN,
    *(_network(f"swin_{size}_patch4_window7_224", _SWIN) for size in ("small", "base")),
)

_TINY = (
    _network("test_resnet", _RESNET, image_size=160, mean=HALF, std=HALF),
    _network("test_efficientnet", _EFFICIENTNET, image_size=160),
    _network("test_convnext", _CONVNEXT, image_size=160, mean=HALF, std=HALF),
    _network("test_vit", _VIT, image_size=160),
    _network("test_swin", _SWIN, image_size=64, builder="models.build.tiny_swin:build_tiny_swin"),
)
"""Of a few hundred thousand parameters: for tests, and for trying the service out."""

_UNET = _network(
    "unet",
    _RESNET,
    tasks=frozenset({Task.SEGMENTATION}),
    builder="models.build.unet:build_unet",
    family="unet",
    side_multiple=16,
    paper="Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation",
)
_SMALL_UNETS = (
    _network("unet_small", _UNET, image_size=128, side_multiple=8),
    _network("unet_tiny", _UNET, image_size=64, side_multiple=4, smallest_size=16),
    _network(
        "u2netp",
        _UNET,
        builder="models.build.u2net:build_u2net",
        family="u2net",
        image_size=320,
        side_multiple=1,
        paper="Qin et al. 2020, U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection",
    ),
)
_UNET_RESNET = _network(
    "unet_resnet34",
    _UNET,
    builder="models.build.encoded_unet:build_encoded_unet",
    family="encoded_unet",
    side_multiple=1,
)
_UNETPLUSPLUS = _network(
    "unetplusplus_resnet34",
    _UNET_RESNET,
    builder="models.build.encoded_unet:build_unetplusplus",
    family="unetplusplus",
    paper="Zhou et al. 2018, UNet++: A Nested U-Net Architecture for Medical Image Segmentation",
)
_FPN = _network(
    "fpn_resnet34",
    _UNET_RESNET,
    builder="models.build.fpn:build_fpn",
    family="fpn",
    paper="Kirillov et al. 2019, Panoptic Feature Pyramid Networks",
)
_PSPNET = _network(
    "pspnet_resnet34",
    _UNET_RESNET,
    builder="models.build.pspnet:build_pspnet",
    family="pspnet",
    paper="Zhao et al. 2017, Pyramid Scene Parsing Network",
)
_DEEPLAB = _network(
    "deeplabv3plus_resnet34",
    _UNET_RESNET,
    builder="models.build.deeplabv3plus:build_deeplabv3plus",
    family="deeplabv3plus",
    paper="Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution "
    "for Semantic Image Segmentation",
)
_SEGFORMER = _network(
    "segformer_b0",
    _UNET_RESNET,
    builder="models.build.segformer:build_segformer",
    family="segformer",
    has_linears=True,
    paper="Xie et al. 2021, SegFormer: Simple and Efficient Design "
    "for Semantic Segmentation with Transformers",
)


def _over_encoders(like: Architecture) -> tuple[Architecture, ...]:
    """The row, and its method over two lighter encoders, the second that of the starter, and a tiny one."""
    method = like.id.partition("_")[0]
    return (
        like,
        _network(f"{method}_mobilenetv3_large_100", like),
        _network(f"{method}_tf_efficientnet_lite0", like, mean=_LITE_MEAN, std=_LITE_STD),
        _network(f"{method}_test_resnet", like, image_size=64, mean=HALF, std=HALF),
    )


_SEGMENTERS = (
    _UNET,
    *_SMALL_UNETS,
    *(row for like in (_UNET_RESNET, _UNETPLUSPLUS, _FPN, _PSPNET, _DEEPLAB) for row in _over_encoders(like)),
    _SEGFORMER,
    *(_network(f"segformer_{size}", _SEGFORMER) for size in ("b1", "b2")),
    _network("segformer_tiny", _SEGFORMER, image_size=64),
    _method("unetplusplus", "UNet++", _UNETPLUSPLUS),
    _method("fpn", "FPN", _FPN),
    _method("pspnet", "PSPNet", _PSPNET),
    _method("deeplabv3plus", "DeepLabv3+", _DEEPLAB),
    _method("segformer", "SegFormer", _SEGFORMER),
)
"""Networks of segmentation; their names are ours, METHOD_ENCODER where the encoder is timm's."""

_SRCNN = _network(
    "srcnn",
    _RESNET,
    tasks=frozenset({Task.SUPER_RESOLUTION}),
    builder="models.build.restorers:build_srcnn",
    family="srcnn",
    image_size=96,
    smallest_size=24,
    side_multiple=12,
    scales=(2, 3, 4),
    mean=(0.0, 0.0, 0.0),
    std=(255.0, 255.0, 255.0),
    paper="Dong et al. 2014, Image Super-Resolution Using Deep Convolutional Networks",
)
_FSRCNN = _network(
    "fsrcnn",
    _SRCNN,
    builder="models.build.restorers:build_fsrcnn",
    family="fsrcnn",
    paper="Dong et al. 2016, Accelerating the Super-Resolution Convolutional Neural Network",
)
_VDSR = _network(
    "vdsr",
    _SRCNN,
    builder="models.build.restorers:build_vdsr",
    family="vdsr",
    paper="Kim et al. 2016, Accurate Image Super-Resolution Using Very Deep Convolutional Networks",
)
_EDSR = _network(
    "edsr",
    _SRCNN,
    builder="models.build.restorers:build_edsr",
    family="edsr",
    paper="Lim et al. 2017, Enhanced Deep Residual Networks for Single Image Super-Resolution",
)
_ESPCN = _network(
    "espcn",
    _SRCNN,
    builder="models.build.restorers:build_espcn",
    family="espcn",
    paper="Shi et al. 2016, Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel "
    "Convolutional Neural Network",
)
_RESTORERS = (
    _SRCNN,
    _FSRCNN,
    _network("fsrcnn_small", _FSRCNN),
    _ESPCN,
    _network("espcn_residual", _ESPCN),
    _VDSR,
    _network("vdsr_small", _VDSR),
    _EDSR,
    _network("edsr_small", _EDSR),
    _network("edsr_tiny", _EDSR),
    _network(
        "upconv7",
        _SRCNN,
        builder="models.build.upconv7:build_upconv7",
        family="upconv7",
        smallest_size=48,
        scales=(2,),
        licence="MIT",
        paper=None,
    ),
)
"""Networks of super-resolution. `edsr` is its paper's baseline, `espcn_residual` adds to cubic interpolation,
`upconv7` is what waifu2x's weights are of."""

ARCHITECTURES: tuple[Architecture, ...] = (*_NETWORKS, *_METHODS, *_TINY, *_SEGMENTERS, *_RESTORERS)


def of_network(timm: str | None) -> Architecture | None:
    """The row whose id is this name of a network, as manifests may give it; None when there is none."""
    return next((row for row in ARCHITECTURES if row.id == timm), None)
