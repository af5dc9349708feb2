"""What Prometheus reads at /metrics.

The number of series is bounded: by the labels of the data set, the routes and the statuses.
"""

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from reviewtune.analyzer.classification import Classification

CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class AppMetrics:
    """The metrics of one service.

    Args:
        queue: returns how many reviews have no answer yet.
    """

    def __init__(self, queue: Callable[[], int]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each counter, which nobody reads
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._reviews = Counter("reviewtune_reviews", "Reviews by their label.", ["label"], registry=registry)
        self._unusable = Counter(
            "reviewtune_unusable_answers",
            "Reviews whose answer has no label.",
            registry=registry,
        )
        self._unsure = Counter(
            "reviewtune_unsure_reviews",
            "Labels below the model's threshold.",
            registry=registry,
        )
        self._confidence = Histogram(
            "reviewtune_confidence", "Calibrated confidence of labels.", buckets=CONFIDENCE_BUCKETS, registry=registry
        )
        self._seconds = Histogram(
            "reviewtune_request_seconds",
            "Seconds from a request's headers to the end of its response.",
            ["path"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._requests = Counter(
            "reviewtune_requests", "Requests by path and HTTP status.", ["path", "status"], registry=registry
        )
        self._rejected = Counter(
            "reviewtune_rejected", "Requests refused because the queue was full.", registry=registry
        )
        self._recorded = Counter(
            "reviewtune_recorded_reviews", "Reviews written to the folder of --record.", registry=registry
        )
        self._unrecorded = Counter(
            "reviewtune_unrecorded_reviews", "Reviews that could not be written to it.", registry=registry
        )
        depth = Gauge("reviewtune_queue_reviews", "Reviews that have no answer yet.", registry=registry)
        depth.set_function(queue)
        self._model = Gauge("reviewtune_model_info", "The model that answers.", ["model", "version"], registry=registry)
        self._ready = Gauge("reviewtune_ready", "1 if the service can answer, else 0.", registry=registry)

    def note_answers(self, answers: Sequence[Classification]) -> None:
        for answer in answers:
            if answer.label is None:
                self._unusable.inc()
                continue
            self._reviews.labels(answer.label).inc()
            if answer.confidence is not None:
                self._confidence.observe(answer.confidence)
            if not answer.sure:
                self._unsure.inc()

    def note_request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def note_rejected(self) -> None:
        self._rejected.inc()

    def note_recorded(self, reviews: int) -> None:
        self._recorded.inc(reviews)

    def note_unrecorded(self, reviews: int) -> None:
        self._unrecorded.inc(reviews)

    def note_model(self, model: str, version: str | None, labels: Sequence[str]) -> None:
        """Name the model that answers from now on; its labels are shown with 0 reviews."""
        self._model.clear()
        self._model.labels(model, version or "").set(1)
        for label in labels:
            self._reviews.labels(label)

    def note_ready(self, ready: bool) -> None:
        self._ready.set(ready)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
