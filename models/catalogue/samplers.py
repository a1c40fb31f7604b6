"""Which pictures come when."""

from pydantic import Field

from models.catalogue.row import Kind, Parameters, Proof, Row
from models.manifest import Task


class RepeatFactor(Parameters):
    """Labels that are rare come more often, all others as often as each other."""

    rare_share: float = Field(default=0.1, gt=0, le=1)
    """Of the pictures: a label with fewer is rare."""


_LABELS = frozenset({Task.CLASSIFICATION})
_ALL = _LABELS | {Task.SEGMENTATION, Task.SUPER_RESOLUTION}


def _row(
    method: str,
    name: str,
    paper: str | None = None,
    *,
    parameters: type[Parameters] = Parameters,
    tasks: frozenset[Task] = _LABELS,
) -> Row:
    return Row(
        id=method,
        name=name,
        kind=Kind.SAMPLER,
        tasks=tasks,
        builder=f"models.train.samplers:{method}",
        parameters=parameters,
        licence="Apache-2.0",
        paper=paper,
        proof=Proof.TRAINS,
    )


_DECOUPLING = "Kang et al. 2019, Decoupling Representation and Classifier for Long-Tailed Recognition"

SAMPLERS: tuple[Row, ...] = (
    _row("shuffle", "Shuffled", tasks=_ALL),
    _row("sequential", "In order", tasks=_ALL),
    _row("balanced", "Each label as often as the others", _DECOUPLING),
    _row("square_root_balanced", "Labels by the square root of their number", _DECOUPLING),
    _row(
        "repeat_factor",
        "Rare labels repeated",
        "Gupta et al. 2019, LVIS: A Dataset for Large Vocabulary Instance Segmentation",
        parameters=RepeatFactor,
    ),
)
