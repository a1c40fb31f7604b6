"""What is done to pictures in training only: to each alone, and to those of a batch together."""

from dataclasses import dataclass

from pydantic import Field

from models.catalogue.row import Kind, Parameters, Proof, Row
from models.manifest import Task


class Flip(Parameters):
    """Not for pictures with writing, or where left and right mean something."""

    share: float = Field(default=0.5, ge=0, le=1)
    """Of the pictures that are mirrored left to right."""
    vertical_share: float = Field(default=0.0, ge=0, le=1)
    """Of the pictures that are turned upside down."""


class QuarterTurns(Parameters):
    """Turns by 0, 90, 180 or 270 degrees, each as often as the others; what is not square by 0 or 180."""


class RandomCrop(Parameters):
    """Moves the picture within its frame; its edges are drawn out over what is uncovered."""

    shift_share: float = Field(default=0.0625, gt=0, le=0.5)
    """Largest move in each direction, of the side."""


class RandomResizedCrop(Parameters):
    """Cuts a part out and enlarges it to the whole."""

    smallest_area: float = Field(default=0.35, gt=0, le=1)
    """Of the picture."""
    largest_aspect: float = Field(default=4 / 3, ge=1, le=4)
    """Longer side of the part to its shorter one."""


class Rotate(Parameters):
    """Turns about the centre; the corners take the mean colour of the picture's border."""

    largest_degrees: float = Field(default=15.0, gt=0, le=180)
    """Either way."""


class ColourJitter(Parameters):
    """Each strength s draws a factor between 1 - s and 1 + s."""

    brightness: float = Field(default=0.3, ge=0, le=1)
    """Strength."""
    contrast: float = Field(default=0.3, ge=0, le=1)
    """Strength."""
    saturation: float = Field(default=0.3, ge=0, le=1)
    """Strength."""
    hue_share: float = Field(default=0.0, ge=0, le=0.5)
    """Largest turn of the colour circle, of a whole turn."""


class RandAugment(Parameters):
    """Some changes out of fourteen, all of one strength."""

    operations: int = Field(default=2, ge=1, le=14)
    """Changes made to each picture."""
    magnitude: float = Field(default=5.0, ge=0, le=10)
    """Strength of each; 10 is the strongest."""


class RandomErasing(Parameters):
    """Fills a rectangle with noise."""

    share: float = Field(default=0.25, ge=0, le=1)
    """Of the pictures that lose a part."""
    smallest_area: float = Field(default=0.02, gt=0, le=1)
    """Of the picture."""
    largest_area: float = Field(default=1 / 3, gt=0, le=1)
    """Of the picture."""
    largest_aspect: float = Field(default=10 / 3, ge=1, le=10)
    """Longer side of the rectangle to its shorter one."""


class Mixup(Parameters):
    """Lays two pictures over each other."""

    alpha: float = Field(default=0.2, gt=0, le=10)
    """Of the symmetric beta distribution of the first picture's share: small is seldom half and half."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Of the batches that are mixed."""


class Cutmix(Parameters):
    """Sets a rectangle of one picture into another."""

    alpha: float = Field(default=1.0, gt=0, le=10)
    """Of the symmetric beta distribution of the rectangle's area; 1 makes all areas alike."""
    share: float = Field(default=0.5, ge=0, le=1)
    """Of the batches that are mixed."""


class Fmix(Parameters):
    """Sets blots of one picture, of any form, into another."""

    alpha: float = Field(default=1.0, gt=0, le=10)
    """Of the symmetric beta distribution of the first picture's area; 1 makes all areas alike."""
    decay: float = Field(default=3.0, ge=0, le=10)
    """How smooth the blots' outlines are: 0 scatters single pixels."""
    share: float = Field(default=1.0, ge=0, le=1)
    """Of the batches that are mixed."""


@dataclass(frozen=True, kw_only=True)
class Augmentation(Row):
    """A change of single pictures."""

    moves: bool = False
    """Pixels go elsewhere, and those of a mask with them; else a picture's mask stays as it is."""


_LABELS = frozenset({Task.CLASSIFICATION})
_BOTH = _LABELS | {Task.SEGMENTATION}
_PICTURES = frozenset({Task.SUPER_RESOLUTION})


def _change(
    method: str,
    name: str,
    parameters: type[Parameters],
    paper: str | None = None,
    *,
    moves: bool,
    tasks: frozenset[Task] = _BOTH,
) -> Augmentation:
    """A change that masks, or small pictures, can follow."""
    return Augmentation(
        id=method,
        name=name,
        kind=Kind.AUGMENTATION,
        tasks=tasks,
        builder=f"models.train.augment:build_{method}",
        parameters=parameters,
        licence="Apache-2.0",
        paper=paper,
        proof=Proof.TRAINS,
        moves=moves,
    )


def _row(
    method: str,
    name: str,
    kind: Kind,
    parameters: type[Parameters],
    paper: str | None = None,
    *,
    module: str | None = None,
) -> Row:
    module = module or ("mixing" if kind is Kind.MIXING else "augment")
    return Row(
        id=method,
        name=name,
        kind=kind,
        tasks=_LABELS,
        builder=f"models.train.{module}:build_{method}",
        parameters=parameters,
        licence="Apache-2.0",
        paper=paper,
        proof=Proof.TRAINS,
    )


AUGMENTATIONS: tuple[Row, ...] = (
    _change("flip", "Mirroring", Flip, moves=True, tasks=_BOTH | _PICTURES),
    _change("quarter_turns", "Quarter turns", QuarterTurns, moves=True, tasks=_PICTURES),
    _change("random_crop", "Shifting", RandomCrop, moves=True),
    _change(
        "random_resized_crop",
        "Cutting out and enlarging",
        RandomResizedCrop,
        "Szegedy et al. 2014, Going Deeper with Convolutions",
        moves=True,
    ),
    _change("rotate", "Turning", Rotate, moves=True),
    _change("colour_jitter", "Brightness, contrast, saturation, hue", ColourJitter, moves=False),
    _row(
        "rand_augment",
        "RandAugment",
        Kind.AUGMENTATION,
        RandAugment,
        "Cubuk et al. 2019, RandAugment: Practical automated data augmentation with a reduced search space",
        module="rand_augment",
    ),
    _row(
        "trivial_augment",
        "TrivialAugment",
        Kind.AUGMENTATION,
        Parameters,
        "Müller & Hutter 2021, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation",
        module="trivial_augment",
    ),
    _row(
        "random_erasing",
        "Random erasing",
        Kind.AUGMENTATION,
        RandomErasing,
        "Zhong et al. 2017, Random Erasing Data Augmentation",
    ),
)

MIXINGS: tuple[Row, ...] = (
    _row(
        "mixup",
        "mixup",
        Kind.MIXING,
        Mixup,
        "Zhang et al. 2017, mixup: Beyond Empirical Risk Minimization",
    ),
    _row(
        "cutmix",
        "CutMix",
        Kind.MIXING,
        Cutmix,
        "Yun et al. 2019, CutMix: Regularization Strategy to Train Strong Classifiers",
    ),
    _row(
        "fmix",
        "FMix",
        Kind.MIXING,
        Fmix,
        "Harris et al. 2020, FMix: Enhancing Mixed Sample Data Augmentation",
        module="fmix",
    ),
)
