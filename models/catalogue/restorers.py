"""Networks of super-resolution."""

from models.catalogue.architecture import Architecture, network_row
from models.catalogue.row import Proof
from models.manifest import Task

_SRCNN = Architecture(
    id="srcnn",
    name="srcnn",
    tasks=frozenset({Task.SUPER_RESOLUTION}),
    builder="models.build.restorers:build_srcnn",
    timm="srcnn",
    licence="Apache-2.0",
    proof=Proof.SERVES,
    family="srcnn",
    image_size=96,
    smallest_size=24,
    side_multiple=12,
    scales=(2, 3, 4),
    mean=(0.0, 0.0, 0.0),
    std=(255.0, 255.0, 255.0),
    paper="Dong et al. 2014, Image Super-Resolution Using Deep Convolutional Networks",
)
_FSRCNN = network_row(
    "fsrcnn",
    _SRCNN,
    builder="models.build.restorers:build_fsrcnn",
    family="fsrcnn",
    paper="Dong et al. 2016, Accelerating the Super-Resolution Convolutional Neural Network",
)
_VDSR = network_row(
    "vdsr",
    _SRCNN,
    builder="models.build.restorers:build_vdsr",
    family="vdsr",
    paper="Kim et al. 2016, Accurate Image Super-Resolution Using Very Deep Convolutional Networks",
)
_EDSR = network_row(
    "edsr",
    _SRCNN,
    builder="models.build.restorers:build_edsr",
    family="edsr",
    paper="Lim et al. 2017, Enhanced Deep Residual Networks for Single Image Super-Resolution",
)
_ESPCN = network_row(
    "espcn",
    _SRCNN,
    builder="models.build.restorers:build_espcn",
    family="espcn",
    paper="Shi et al. 2016, Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel "
    "Convolutional Neural Network",
)
RESTORERS = (
    _SRCNN,
    _FSRCNN,
    network_row("fsrcnn_small", _FSRCNN),
    _ESPCN,
    network_row("espcn_residual", _ESPCN),
    _VDSR,
    network_row("vdsr_small", _VDSR),
    _EDSR,
    network_row("edsr_small", _EDSR),
    network_row("edsr_tiny", _EDSR),
    network_row(
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
