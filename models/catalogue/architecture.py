"""What a row says of a network that can be trained and served."""

from dataclasses import dataclass, replace

from models.catalogue.row import Kind, Row

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
HALF = (127.5, 127.5, 127.5)
LITE_MEAN, LITE_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


@dataclass(frozen=True, kw_only=True)
class Architecture(Row):
    """A network. Means and standard deviations are in units of 0..255."""

    kind: Kind = Kind.ARCHITECTURE
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
    encoder: str | None = None
    """Of segmentation: the network that its encoder is the first part of, by timm's name, if there is one; a
    spec may have it begin with the weights of such a network."""
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


def network_row(timm: str, like: Architecture, **changes: object) -> Architecture:
    """The row of a network that is like another's, but for its name and these fields."""
    return replace(like, id=timm, name=timm, timm=timm, **changes)  # type: ignore[arg-type]


def method_row(row_id: str, name: str, of: Architecture) -> Architecture:
    """A further row of a network, under the name of the method that it is typical of."""
    return replace(of, id=row_id, name=name)
