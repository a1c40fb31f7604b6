"""Networks of segmentation; their names are ours, METHOD_ENCODER where the encoder is timm's."""

from models.catalogue.architecture import HALF, LITE_MEAN, LITE_STD, Architecture, method_row, network_row
from models.catalogue.row import Proof
from models.manifest import Task

_UNET = Architecture(
    id="unet",
    name="unet",
    tasks=frozenset({Task.SEGMENTATION}),
    builder="models.build.unet:build_unet",
    timm="unet",
    licence="Apache-2.0",
    proof=Proof.SERVES,
    family="unet",
    image_size=224,
    side_multiple=16,
    paper="Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation",
)
_SMALL_UNETS = (
    network_row("unet_small", _UNET, image_size=128, side_multiple=8),
    network_row("unet_tiny", _UNET, image_size=64, side_multiple=4, smallest_size=16),
    network_row(
        "u2netp",
        _UNET,
        builder="models.build.u2net:build_u2net",
        family="u2net",
        image_size=320,
        side_multiple=1,
        paper="Qin et al. 2020, U²-Net: Going Deeper with Nested U-Structure for Salient Object Detection",
    ),
)
_UNET_RESNET = network_row(
    "unet_resnet34",
    _UNET,
    builder="models.build.encoded_unet:build_encoded_unet",
    family="encoded_unet",
    side_multiple=1,
    encoder="resnet34",
)
_UNETPLUSPLUS = network_row(
    "unetplusplus_resnet34",
    _UNET_RESNET,
    builder="models.build.encoded_unet:build_unetplusplus",
    family="unetplusplus",
    paper="Zhou et al. 2018, UNet++: A Nested U-Net Architecture for Medical Image Segmentation",
)
_FPN = network_row(
    "fpn_resnet34",
    _UNET_RESNET,
    builder="models.build.fpn:build_fpn",
    family="fpn",
    paper="Kirillov et al. 2019, Panoptic Feature Pyramid Networks",
)
_PSPNET = network_row(
    "pspnet_resnet34",
    _UNET_RESNET,
    builder="models.build.pspnet:build_pspnet",
    family="pspnet",
    paper="Zhao et al. 2017, Pyramid Scene Parsing Network",
)
_DEEPLAB = network_row(
    "deeplabv3plus_resnet34",
    _UNET_RESNET,
    builder="models.build.deeplabv3plus:build_deeplabv3plus",
    family="deeplabv3plus",
    paper="Chen et al. 2018, Encoder-Decoder with Atrous Separable Convolution "
    "for Semantic Image Segmentation",
)
_SEGFORMER = network_row(
    "segformer_b0",
    _UNET_RESNET,
    builder="models.build.segformer:build_segformer",
    family="segformer",
    has_linears=True,
    encoder=None,
    paper="Xie et al. 2021, SegFormer: Simple and Efficient Design "
    "for Semantic Segmentation with Transformers",
)


def _over_encoders(like: Architecture) -> tuple[Architecture, ...]:
    """The row, and its method over two lighter encoders, the second that of the starter, and a tiny one."""
    of = like.id.partition("_")[0]
    mobile, lite, tiny = "mobilenetv3_large_100", "tf_efficientnet_lite0", "test_resnet"
    return (
        like,
        network_row(f"{of}_{mobile}", like, encoder=mobile),
        network_row(f"{of}_{lite}", like, encoder=lite, mean=LITE_MEAN, std=LITE_STD),
        network_row(f"{of}_{tiny}", like, encoder=tiny, image_size=64, mean=HALF, std=HALF),
    )


SEGMENTERS = (
    _UNET,
    *_SMALL_UNETS,
    *(row for like in (_UNET_RESNET, _UNETPLUSPLUS, _FPN, _PSPNET, _DEEPLAB) for row in _over_encoders(like)),
    _SEGFORMER,
    *(network_row(f"segformer_{size}", _SEGFORMER) for size in ("b1", "b2")),
    network_row("segformer_tiny", _SEGFORMER, image_size=64),
    method_row("unetplusplus", "UNet++", _UNETPLUSPLUS),
    method_row("fpn", "FPN", _FPN),
    method_row("pspnet", "PSPNet", _PSPNET),
    method_row("deeplabv3plus", "DeepLabv3+", _DEEPLAB),
    method_row("segformer", "SegFormer", _SEGFORMER),
)
