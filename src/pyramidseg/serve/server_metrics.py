"""Prometheus' metrics of one server."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
RecordValue = Callable[[str, float, str], None]
"""Takes the name of a metric, a value, and a label."""

PHASES = "Seconds by phase: decode, queue, model, labels, encode, and the total of a request"


class ServerMetrics:
    """The metrics, in a registry of their own; each has its meaning as help."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "pyramidseg_requests", "Requests by route and status", ["route", "status"], registry=own
        )
        self.errors = Counter("pyramidseg_errors", "Answers with a status from 400 on", ["status"], registry=own)
        self.latency = Histogram("pyramidseg_latency_seconds", PHASES, ["phase"], buckets=SECONDS, registry=own)
        self.queue = Gauge("pyramidseg_queue_length", "Images that wait for the model", ["model"], registry=own)
        self.in_work = Gauge("pyramidseg_requests_in_work", "Requests that are not answered yet", registry=own)
        self.memory = Gauge("pyramidseg_reserved_bytes", "Bodies and pixels of requests in progress", registry=own)
        sizes = (1, 2, 4, 8, 16, 32)
        self.batch = Histogram("pyramidseg_batch_size", "Images in a batch", ["model"], buckets=sizes, registry=own)
        self.pixels = Counter("pyramidseg_pixels", "Pixels predicted", ["model"], registry=own)
        self.annotations = Gauge("pyramidseg_annotations", "Annotations reported by Label Studio", registry=own)
        self.reloads = Counter("pyramidseg_reloads", "Models loaded again, by result", ["result"], registry=own)
        self.replaced = Counter("pyramidseg_workers_replaced", "Processes that ended", ["model"], registry=own)

    def record(self, name: str, value: float, label: str) -> None:
        """Observe a value in a histogram, or add it to a counter."""
        metric = getattr(self, name).labels(label)
        (metric.observe if isinstance(metric, Histogram) else metric.inc)(value)
