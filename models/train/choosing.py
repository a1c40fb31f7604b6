"""Which weights are the best so far, and whether to go on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from models.train.spec import EarlyStopping


@dataclass(kw_only=True)
class Best:
    """The best validation so far: highest accuracy, and among equals the lowest loss."""

    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Copies of what was evaluated."""
    reference: float = -1.0
    """Accuracy that an improvement is measured from."""
    idle_epochs: int = 0
    """Validations since the last one that counted as an improvement."""

    def is_beaten_by(self, metrics: Mapping[str, float]) -> bool:
        """Is this validation the best so far?"""
        if not self.metrics:
            return True
        new = metrics["valid_accuracy"], -metrics["valid_loss"]
        return new > (self.metrics["valid_accuracy"], -self.metrics["valid_loss"])

    def wants_to_stop(
        self, metrics: Mapping[str, float], rule: EarlyStopping | None, *, is_best: bool
    ) -> bool:
        """Count one validation. Improvement is an accuracy above the last improvement's by more than
        `min_delta`; when that is 0, a lower loss at the same accuracy counts too."""
        if rule is None:
            return False
        improved = metrics["valid_accuracy"] > self.reference + rule.min_delta
        if improved or (is_best and rule.min_delta == 0):
            self.reference = metrics["valid_accuracy"]
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
