"""The Celery instance and the doorbell. No task bodies: those are in `workers`.

The job row is the truth. A message only wakes a worker sooner than its reaper would look, so messages are
acknowledged early, may get lost and may come twice.
"""

from typing import TYPE_CHECKING

from app.observability.logs import get_logger
from app.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

RUN_JOB = "athanor.run_job"
"""Name of the only task; its only argument is a job id."""
QUEUE = "athanor"
POLL_S = 0.2
"""How often a worker looks into the folder of the embedded broker, seconds."""


def make_celery(settings: Settings) -> "Celery":
    """A Celery instance for these settings; opens no connection."""
    from celery import Celery  # noqa: PLC0415 - 0.3 s that a gateway need not pay before its first answer

    celery = Celery("athanor", set_as_current=False)
    celery.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        broker_url=settings.broker_url or "filesystem://localhost//",
        broker_transport_options=_transport_options(settings),
    )
    if not settings.broker_url:
        celery.conf.broker_transport = "app.folder_broker:Transport"
    return celery


def _transport_options(settings: Settings) -> dict[str, object]:
    if settings.broker_url:
        # One quick second try, where kombu would go on for the whole connection timeout.
        once: dict[str, object] = {"max_retries": 1, "interval_start": 0.1}
        return once | ({"socket_connect_timeout": 2, "socket_keepalive": True} if _is_redis(settings) else {})
    folder = settings.data_dir / "broker"
    return {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "processed_folder": str(folder / "taken"),
        "control_folder": str(folder / "control"),
        "polling_interval": POLL_S,
    }


def _is_redis(settings: Settings) -> bool:
    return settings.broker_url.startswith(("redis://", "rediss://", "sentinel://"))


class Doorbell:
    """Tells workers that a job waits. Safe to use from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._celery: Celery | None = None
        self._log = get_logger(__name__)
        self.failures = 0
        """How often nobody could be told, since this process began."""

    def ring(self, job_id: str) -> None:
        """Never raises, and takes seconds at most: a worker's reaper finds the job a little later anyway."""
        from kombu.exceptions import KombuError  # noqa: PLC0415 - as above

        if self._celery is None:
            self._celery = make_celery(self._settings)
        connection = self._celery.connection_for_write()
        failures = (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
        try:
            self._celery.send_task(RUN_JOB, args=[job_id], retry=False, ignore_result=True)
        except failures as error:
            self.failures += 1
            self._log.warning("doorbell_failed", job_id=job_id, error=repr(error))
        finally:
            connection.release()

    def close(self) -> None:
        """Give the connections back."""
        if self._celery is not None:
            self._celery.close()
