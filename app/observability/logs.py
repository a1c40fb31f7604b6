"""Structured logs: text on a terminal, one JSON object a line elsewhere, always on standard error.

`bound(request_id=…)` and `bound(job_id=…)` follow every line logged inside the block, ours and the
libraries' alike.
"""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import orjson
import structlog
from structlog.contextvars import bound_contextvars

from app.settings import Settings

_QUIET = ("alembic", "celery", "httpx", "kombu", "uvicorn")
"""Libraries whose warnings matter and whose chatter does not."""


def configure_logs(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Route everything that this process logs through one formatter. Call once, at the process's entry."""
    out = stream or sys.stderr
    is_text = not settings.logs_json(out.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_text else "iso", utc=not is_text),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if is_text:
        plain = structlog.dev.plain_traceback
        render += [
            _drop_logger_name,
            structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain, pad_event_to=0),
        ]
    else:
        render += [structlog.processors.format_exc_info, _to_json]
    handler = logging.StreamHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events are snake_case names with keyword facts: `log.info("job_claimed", job_id=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


@contextmanager
def bound(**facts: str) -> Iterator[None]:
    """Add facts to every line logged inside the block by this thread or asyncio task."""
    with bound_contextvars(**facts):
        yield


def _drop_logger_name(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("logger", None)
    return event


def _to_json(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
