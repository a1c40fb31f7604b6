"""Which pictures come when."""

from models.catalogue.row import Kind, Parameters, Proof, Row
from models.manifest import Task


def _row(method: str, name: str, paper: str | None = None) -> Row:
    return Row(
        id=method,
        name=name,
        kind=Kind.SAMPLER,
        tasks=frozenset({Task.CLASSIFICATION}),
        builder=f"models.train.samplers:{method}",
        parameters=Parameters,
        licence="Apache-2.0",
        paper=paper,
        proof=Proof.TRAINS,
    )


_DECOUPLING = "Kang et al. 2019, Decoupling Representation and Classifier for Long-Tailed Recognition"

SAMPLERS: tuple[Row, ...] = (
    _row("shuffle", "Shuffled"),
    _row("sequential", "In order"),
    _row("balanced", "Each label as often as the others", _DECOUPLING),
    _row("square_root_balanced", "Labels by the square root of their number", _DECOUPLING),
)
