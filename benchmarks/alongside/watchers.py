"""Many who watch one job: `python -m benchmarks.alongside.watchers PORT JOB NUMBER`.

Says `connected` when each has had an event. Then counts what each is told until its stdin is closed, and
says that as one line of JSON: events by watcher, and how many the slowest and the fastest had. A process of
its own, so that its work is not in anybody's latency.
"""

import asyncio
import json
import sys
from dataclasses import dataclass, field


@dataclass
class Watcher:
    """One connection that reads a job's stream."""

    events: int = 0
    """Since it was last set to 0."""
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: bool = False

    async def watch(self, port: int, job_id: str) -> None:
        """Read until the server ends the stream."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET /v1/jobs/{job_id}/events/stream HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n"
        writer.write(head.encode())
        while line := await reader.readline():
            if line.startswith(b"event: "):
                self.events += 1
                self.has_begun.set()
        self.has_ended = True


async def watch_all(port: int, job_id: str, number: int) -> dict[str, object]:
    """Events of each between `connected` and the end of stdin."""
    watchers = [Watcher() for _ in range(number)]
    tasks = [asyncio.create_task(one.watch(port, job_id)) for one in watchers]
    await asyncio.gather(*(one.has_begun.wait() for one in watchers))
    for one in watchers:
        one.events = 0
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    counts = sorted(one.events for one in watchers)
    return {
        "watchers": number,
        "still_there": sum(not one.has_ended for one in watchers),
        "fewest_events": counts[0],
        "most_events": counts[-1],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(watch_all(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))))
