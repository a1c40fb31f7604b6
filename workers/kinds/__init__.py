"""Which function runs which kind of job. Named by string: only the child imports it, never the worker."""

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "dataset": "workers.kinds.dataset:run",
    "import": "workers.kinds.import_model:run",
    "probe": "workers.kinds.probe:run",
}
"""Kind of job -> `module:function`, a `workers.context.Kind`."""
