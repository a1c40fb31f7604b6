"""One connection that asks again and again, and how long each answer took."""

import http.client
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Series:
    """Requests of one kind over one connection that is kept."""

    port: int
    method: str
    path: str
    body: bytes | None = None
    took_s: list[float] = field(default_factory=list)

    def run(self, *, seconds: float, per_second: float | None) -> dict[str, Any]:
        """Ask at a fixed pace, or as fast as answers come. An answer that is late delays the next request;
        it is not sent twice. Raises SystemExit for anything but 200."""
        self.took_s = []
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        began_s = due_s = time.perf_counter()
        while (now_s := time.perf_counter()) - began_s < seconds:
            if per_second is not None:
                time.sleep(max(0.0, due_s - now_s))
                due_s = max(due_s + 1 / per_second, time.perf_counter())
            self._ask(connection)
        connection.close()
        return self._summary(time.perf_counter() - began_s)

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        began_s = time.perf_counter()
        connection.request(self.method, self.path, self.body)
        answer = connection.getresponse()
        body = answer.read()
        self.took_s.append(time.perf_counter() - began_s)
        if answer.status != 200:
            raise SystemExit(f"{self.path}: {answer.status} {body[:500].decode(errors='replace')}")

    def _summary(self, seconds: float) -> dict[str, Any]:
        ordered = sorted(self.took_s)
        return {
            "requests": len(ordered),
            "per_s": round(len(ordered) / seconds, 2),
            "p50_ms": round(1000 * ordered[len(ordered) // 2], 2),
            "p90_ms": round(1000 * ordered[len(ordered) * 90 // 100], 2),
            "p99_ms": round(1000 * ordered[len(ordered) * 99 // 100], 2),
            "longest_ms": round(1000 * ordered[-1], 2),
        }
