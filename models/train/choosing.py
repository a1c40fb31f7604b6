"""Which weights are the best so far, and whether to go on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from models.train.spec import EarlyStopping


def mark_of(metrics: Mapping[str, float]) -> float:
    """What a validation is judged by: `valid_psnr` of made pictures, `valid_miou` of masks, else
    `valid_accuracy`."""
    return next(metrics[name] for name in ("valid_psnr", "valid_miou", "valid_accuracy") if name in metrics)


@dataclass(kw_only=True)
class Best:
    """The best validation so far: highest mark, and among equals the lowest loss."""

    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Copies of what was evaluated."""
    reference: float = -1.0
    """Mark that an improvement is measured from."""
    idle_epochs: int = 0
    """Validations since the last one that counted as an improvement."""

    def is_beaten_by(self, metrics: Mapping[str, float]) -> bool:
        """Is this validation the best so far?"""
        if not self.metrics:
            return True
        new = mark_of(metrics), -metrics["valid_loss"]
        return new > (mark_of(self.metrics), -self.metrics["valid_loss"])

    def wants_to_stop(
        self, metrics: Mapping[str, float], rule: EarlyStopping | None, *, is_best: bool
    ) -> bool:
        """Count one validation. Improvement is a mark above the last improvement's by more than `min_delta`;
        when that is 0, a lower loss at the same mark counts too."""
        if rule is None:
            return False
        improved = mark_of(metrics) > self.reference + rule.min_delta
        if improved or (is_best and rule.min_delta == 0):
            self.reference = mark_of(metrics)
            self.idle_epochs = 0
        else:
            self.idle_epochs += 1
        return self.idle_epochs >= rule.patience_epochs

    def facts(self) -> dict[str, Any]:
        """All but the weights, for a checkpoint."""
        return {
            "step": self.step,
            "metrics": dict(self.metrics),
            "reference": self.reference,
            "idle_epochs": self.idle_epochs,
        }
