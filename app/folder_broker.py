"""A Celery broker that is a folder: kombu's filesystem transport, made safe.

The stock transport ends its worker when the folder goes, lets a worker read a message that is still being
written, and moves messages through the system's temporary folder. Here a message appears by rename, is taken
by rename, and a folder that went is made again. What was in it were doorbells: the rows know what waits.
"""

import json
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem


class Channel(filesystem.Channel):
    """One file a message in `data_folder_in`, oldest first."""

    def _put(self, queue: str, payload: object, **_: object) -> None:  # type: ignore[override] # kombu's own two disagree
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex}.{queue}.msg"
        taken = Path(self.processed_folder) / name
        messages = Path(self.data_folder_out)
        self._make_folders()
        taken.write_text(json.dumps(payload))
        taken.rename(messages / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ANN401 - kombu's signature
        for name in self._waiting(queue):
            taken = Path(self.processed_folder) / name
            try:
                Path(self.data_folder_in, name).rename(taken)
                text = taken.read_text()
                taken.unlink()
            except OSError:  # another worker was quicker, or the folder has just gone
                continue
            return json.loads(text)
        raise Empty

    def _size(self, queue: str) -> int:
        return len(self._waiting(queue))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        self._make_folders()
        super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[no-untyped-call]

    def _waiting(self, queue: str) -> list[str]:
        try:
            names = os.listdir(self.data_folder_in)  # noqa: PTH208 - names are what is wanted
        except FileNotFoundError:
            self._make_folders()
            return []
        return sorted(name for name in names if name.partition(".")[2] == f"{queue}.msg")

    def _make_folders(self) -> None:
        for folder in (self.data_folder_in, self.processed_folder, self.control_folder):
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)


class Transport(filesystem.Transport):
    """Named by dotted path in `app.queue`."""

    Channel = Channel

    def drain_events(  # type: ignore[override] # as above
        self, connection: object, timeout: float | None = None
    ) -> None:
        """Look for at most half a second at a time, so that a worker told to stop soon hears it."""
        super().drain_events(connection, timeout=min(timeout or 0.5, 0.5))  # type: ignore[no-untyped-call]
