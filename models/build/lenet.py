"""LeNet-5 for colour pictures of any size.

    3xHxW ─conv 6@5x5─pool─conv 16@5x5─pool─conv 120@5x5─mean─linear 84─linear

LeCun, Bottou, Bengio & Haffner 1998, Gradient-Based Learning Applied to Document Recognition, as it is built
today: three colours, ReLU and max-pooling instead of scaled tanh and trainable averaging, every map of S2
joined to every map of C3, a linear output instead of radial basis functions. At 32 x 32, the paper's size, C5
gives one value a map, as there; on larger pictures the mean over its values keeps the weights usable.
"""

import torch
from torch import nn


class LeNet5(nn.Module):
    """Normalised (n, 3, h, w), both sides at least 28, to logits (n, num_classes)."""

    head_name = "output"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        # C1's border of 2 lets in pictures of 28 x 28, which the paper pads to 32.
        self.c1 = nn.Conv2d(3, 6, 5, padding=2)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self.s2 = nn.MaxPool2d(2)
        self.s4 = nn.MaxPool2d(2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits."""
        maps = self.s2(torch.relu(self.c1(pixels)))
        maps = self.s4(torch.relu(self.c3(maps)))
        features = torch.relu(self.c5(maps)).mean((2, 3))
        logits: torch.Tensor = self.output(torch.relu(self.f6(features)))
        return logits


def build_lenet(name: str, *, num_classes: int, image_size: int) -> nn.Module:
    """LeNet-5 in eval mode, with random weights; one network serves every size."""
    return LeNet5(num_classes).eval()
