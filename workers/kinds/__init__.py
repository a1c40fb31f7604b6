"""Which function runs which kind of job. Named by string: only the child imports it, never the worker."""

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "compress": "workers.kinds.compress:run",
    "count": "workers.kinds.count:run",
    "dataset": "workers.kinds.dataset:run",
    "fine_tune": "workers.kinds.fine_tune:run",
    "import": "workers.kinds.import_model:run",
    "preflight": "workers.kinds.preflight:run",
    "publish_checkpoint": "workers.kinds.publish_checkpoint:run",
    "probe": "workers.kinds.probe:run",
    "super_resolution": "workers.kinds.super_resolution:run",
}
"""Kind of job -> `module:function`, a `workers.context.Kind`."""
