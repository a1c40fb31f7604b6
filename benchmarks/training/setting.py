"""What all contestants are given, and how each says what it took."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import torch

NETWORK = "vit_tiny_patch16_224"
CLASSES = 10
MEAN = STD = 127.5
"""Of the network, in units of 0..255."""
RANK = 8
RATE = 1e-3
CLIP_NORM = 1.0
SMALLEST_AREA, LARGEST_ASPECT, FLIP_SHARE = 0.35, 4 / 3, 0.5
"""Of the augmentation: random resized crop, then mirroring."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One cell of the benchmark."""

    reads_files: bool
    """JPEG files with augmentation; else normalised float tensors that are in memory."""
    folder: Path
    """Of the JPEG files and the pack with the same bytes."""
    image_size: int
    batch_size: int
    images: int
    """A whole number of batches."""
    warm_steps: int
    """Done first, not timed."""
    steps: int
    """All of them."""
    threads: int
    """Of the processor, for torch."""
    waiting: Literal["watched", "spinning", "sleeping"] = "spinning"
    """How threads of OpenMP wait for each other; `watched`: as in a job's child."""
    workers: int = 0
    """Processes that make batches, of the Trainer's DataLoader."""

    def as_argument(self) -> str:
        """For the command line of a contestant."""
        return json.dumps(asdict(self) | {"folder": str(self.folder)})

    @classmethod
    def from_argument(cls) -> Self:
        """As `as_argument` wrote it."""
        plain = json.loads(sys.argv[1])
        return cls(**plain | {"folder": Path(plain["folder"])})

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised pictures (images, 3, size, size) float32 and labels: the same for everybody."""
        chance = torch.Generator().manual_seed(0)
        shape = (self.images, 3, self.image_size, self.image_size)
        return torch.randn(shape, generator=chance), torch.arange(self.images) % CLASSES

    def photos(self) -> list[Path]:
        """The JPEG files; number i has label i mod 10."""
        return sorted(self.folder.glob("*.jpg"))[: self.images]


def tell(setting: Setting, marks_s: Sequence[float], *, trainable: int, loss: float) -> None:
    """Print what a contestant took: `marks_s` are the ends of its steps by one clock."""
    assert len(marks_s) == setting.steps, f"{len(marks_s)} steps were made"
    began_s, timed = marks_s[setting.warm_steps - 1], setting.steps - setting.warm_steps
    per_epoch = setting.images // setting.batch_size
    later = [marks_s[at] for at in range(setting.steps) if at + 1 > max(per_epoch, setting.warm_steps)]
    steps_per_s = {"steps_per_s": timed / (marks_s[-1] - began_s)}
    if setting.reads_files and len(later) > 1:
        steps_per_s["later_epochs_steps_per_s"] = (len(later) - 1) / (later[-1] - later[0])
    print(json.dumps({**steps_per_s, "trainable": trainable, "loss": loss}))
