"""A Swin Transformer small enough for tests: timm has none."""

from torch import nn

from models.build.torchvision_operators import declare_torchvision_operators


def build_tiny_swin(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """Three stages, windows of 4 x 4 patches, shifted in every second block; eval mode, random weights."""
    declare_torchvision_operators()
    from timm.models.swin_transformer import SwinTransformer  # noqa: PLC0415 - after the declaration

    network: nn.Module = SwinTransformer(
        img_size=image_size,
        num_classes=num_classes,
        embed_dim=24,
        depths=(2, 2, 1),
        num_heads=(2, 4, 8),
        window_size=4,
    )
    network.pretrained_cfg = {"architecture": name, "classifier": "head.fc"}  # type: ignore[assignment]
    return network.eval()
