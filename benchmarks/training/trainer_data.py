"""What the DataLoader of the Trainer reads: tensors by whole batches, JPEG files with torchvision."""

from typing import Any

import torch
from PIL import Image

from benchmarks.training import setting as given
from models.build.torchvision_operators import declare_torchvision_operators

declare_torchvision_operators()

from torchvision import transforms  # noqa: E402 - after the declaration


class Tensors(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """A batch is one look-up and is not put together from single pictures."""

    def __init__(self, setting: given.Setting) -> None:
        self._images, self._labels = setting.tensors()

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        return {"images": self._images[chosen], "labels": self._labels[chosen]}


class Photos(torch.utils.data.Dataset[dict[str, Any]]):
    """Decoded, cut, mirrored and normalised one by one."""

    def __init__(self, setting: given.Setting) -> None:
        aspect = given.LARGEST_ASPECT
        half = (given.MEAN / 255,) * 3
        self._paths = setting.photos()
        self._change = transforms.Compose(
            [
                transforms.RandomResizedCrop(
                    setting.image_size, scale=(given.SMALLEST_AREA, 1.0), ratio=(1 / aspect, aspect)
                ),
                transforms.RandomHorizontalFlip(given.FLIP_SHARE),
                transforms.ToTensor(),
                transforms.Normalize(half, half),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with Image.open(self._paths[index]) as image:
            return {"images": self._change(image.convert("RGB")), "labels": index % given.CLASSES}
