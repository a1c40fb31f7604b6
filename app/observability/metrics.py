"""Prometheus metrics. Made per app, never at import, so that two apps in one process do not mix.

Children of labelled metrics are resolved once (`RuntimeMetrics` per model, `_requests` per route and
status): a look-up by label costs more than the increment. What every request and batch adds is only noted
on the spot and counted later, many at a time (`settle`): Prometheus' own locks and buckets would cost a
small model's request 20 µs of its time.
"""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """All metrics of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "athanor_requests", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self._request_seconds = Histogram(
            "athanor_request_seconds",
            "Seconds from the request line to the last byte of the answer.",
            ("route",),
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self._stages = Histogram(
            "athanor_stage_seconds",
            "Seconds spent per stage: queue (per input), decode, infer, encode (per batch).",
            ("model", "stage"),
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self._batches = Histogram(
            "athanor_batch_size",
            "Inputs per run.",
            ("model",),
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self._inputs = Counter(
            "athanor_inputs", "Inputs by outcome.", ("model", "outcome"), registry=self.registry
        )
        self._refusals = Counter(
            "athanor_refusals", "Inputs refused, by reason.", ("model", "reason"), registry=self.registry
        )
        self._cancelled = Counter(
            "athanor_cancelled",
            "Inputs whose client went away, by what was freed: queued, running (batch-mates went on), "
            "terminated (the run was stopped).",
            ("model", "stage"),
            registry=self.registry,
        )
        self._add_models()
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._noted: deque[tuple[Callable[..., None], tuple[float, ...]]] = deque()
        self.note = self._noted.append
        """Takes (what counts it, its numbers); from any thread."""
        self._settling = threading.Lock()
        self._by_route: dict[str, Callable[[float, float], None]] = {}

    def _add_models(self) -> None:
        self._pixels = Counter(
            "athanor_window_pixels",
            "Pixels of pictures in windows: `picture` their own, `added` what margins, overlaps and "
            "rounding up make of them besides.",
            ("model", "of"),
            registry=self.registry,
        )
        self._queue_depth = Gauge(
            "athanor_queue_depth", "Inputs waiting now.", ("model",), registry=self.registry
        )
        self.models_loaded = Gauge(
            "athanor_models_loaded", "Versions loaded in this process.", registry=self.registry
        )
        self._memory = Gauge(
            "athanor_model_memory_bytes",
            "What loaded versions hold together, as weighed when they were loaded.",
            registry=self.registry,
        )
        self._memory_limit = Gauge(
            "athanor_model_memory_limit_bytes", "What they may hold together.", registry=self.registry
        )
        self._loads = Counter("athanor_model_loads", "Versions loaded.", registry=self.registry)
        self._evictions = Counter(
            "athanor_model_evictions", "Versions unloaded to make room for another.", registry=self.registry
        )
        self._load_refusals = Counter(
            "athanor_model_load_refusals",
            "Loads that were refused or failed: model_not_ready (those in the way are pinned or in use), "
            "not_servable (too large, or broken), out_of_memory.",
            ("reason",),
            registry=self.registry,
        )
        self._refusal_seconds = Histogram(
            "athanor_refusal_seconds",
            "Seconds from the request line to the refusal, by status.",
            ("status",),
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Note one answered request."""
        count = self._by_route.get(route)
        if count is None:
            count = self._by_route[route] = partial(self._count_request, route)
        self.note((count, (status, seconds)))

    def settle(self) -> None:
        """Count all that was noted; called before metrics are read and a few times a second."""
        with self._settling:
            while self._noted:
                count, numbers = self._noted.popleft()
                count(*numbers)

    def _count_request(self, route: str, status: int, seconds: float) -> None:
        pair = self._children.get((route, status))
        if pair is None:
            pair = (self._requests.labels(route, str(status)), self._request_seconds.labels(route))
            self._children[route, status] = pair
        pair[0].inc()
        pair[1].observe(seconds)
        if status in (429, 503, 504):
            self._refusal_seconds.labels(str(status)).observe(seconds)

    def model_memory(self, held_bytes: Callable[[], int], limit_bytes: int) -> None:
        """Read what models hold when scraped."""
        self._memory.set_function(lambda: float(held_bytes()))
        self._memory_limit.set(limit_bytes)

    def loaded(self, models: int) -> None:
        """A version was loaded; so many are now."""
        self._loads.inc()
        self.models_loaded.set(models)

    def evicted(self, models: int) -> None:
        """A version made room for another; so many are loaded now."""
        self._evictions.inc()
        self.models_loaded.set(models)

    def load_refused(self, reason: str) -> None:
        """A version was not loaded."""
        self._load_refusals.labels(reason).inc()

    def for_model(self, model: str) -> "RuntimeMetrics":
        """The children of one model's metrics."""
        return RuntimeMetrics(self, model)

    def render(self) -> bytes:
        """The exposition text of `GET /metrics`."""
        self.settle()
        return generate_latest(self.registry)


class RuntimeMetrics:
    """What one engine counts."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._note = metrics.note
        self._model = model
        self._queue, self._decode, self._infer, self._encode = (
            metrics._stages.labels(model, stage) for stage in ("queue", "decode", "infer", "encode")
        )
        self._batch = metrics._batches.labels(model)
        self._answered = metrics._inputs.labels(model, "answered")
        self._failed = metrics._inputs.labels(model, "failed")

    def watch_queue(self, depth: "object") -> None:
        """Read the queue's depth when scraped."""
        self._metrics._queue_depth.labels(self._model).set_function(lambda: float(len(depth)))  # type: ignore[arg-type]

    def batch(self, *, size: int, decode_s: float, infer_s: float, encode_s: float) -> None:
        """One run has ended."""
        self._note((self._count_batch, (size, decode_s, infer_s, encode_s)))

    def _count_batch(self, size: int, decode_s: float, infer_s: float, encode_s: float) -> None:
        self._batch.observe(size)
        self._decode.observe(decode_s)
        self._infer.observe(infer_s)
        self._encode.observe(encode_s)
        self._answered.inc(size)

    def windows(self, *, picture_pixels: int, window_pixels: int) -> None:
        """One picture was cut into windows that have so many pixels together."""
        self._metrics._pixels.labels(self._model, "picture").inc(picture_pixels)
        self._metrics._pixels.labels(self._model, "added").inc(window_pixels - picture_pixels)

    def waited(self, seconds: float) -> None:
        """One input left the queue."""
        self._note((self._queue.observe, (seconds,)))

    def failed(self) -> None:
        """One input could not be answered."""
        self._failed.inc()

    def refused(self, reason: str) -> None:
        """One input was refused at the door or in the queue."""
        self._metrics._refusals.labels(self._model, reason).inc()

    def cancelled(self, stage: str) -> None:
        """One input's client has gone."""
        self._metrics._cancelled.labels(self._model, stage).inc()
