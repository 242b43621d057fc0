"""Counts of what the server has done, in Prometheus' text format (version 0.0.4); nothing that photographs show."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # upper ends of the buckets of durations
SIZES = (1, 2, 4, 8, 16, 32)  # of the buckets of batch sizes


class Histogram:
    """Counts of values at most some upper ends, their sum and number."""

    def __init__(self, name: str, meaning: str, ends: Sequence[float | int]):
        self._name, self._meaning, self._ends = name, meaning, ends
        self._counts, self._sum = [0] * (len(ends) + 1), 0.0

    def add(self, value: float | int) -> None:
        self._counts[sum(value > end for end in self._ends)] += 1
        self._sum += value

    def lines(self) -> Iterator[str]:
        yield from _head(self._name, self._meaning, "histogram")
        total = 0
        for end, count in zip((*self._ends, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{self._name}_bucket{{le="{end}"}} {total}'
        yield f"{self._name}_sum {self._sum:.6f}"
        yield f"{self._name}_count {total}"


class Counters:
    """Requests by route and status, photographs by outcome, batches; may be told from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._photographs: Counter[str] = Counter()
        self._seconds = Histogram("cervix_jax_request_seconds", "Duration of requests of /v1/.", SECONDS)
        self._batches = Histogram("cervix_jax_batch_size", "Photographs that were predicted together.", SIZES)
        self._batch_seconds = Histogram("cervix_jax_batch_seconds", "Duration of a batch.", SECONDS)

    @property
    def photographs(self) -> int:
        """Number of photographs that were answered, unreadable ones included."""
        return self._photographs.total()

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request.

        Args:
          route: one of a fixed few, whatever was asked for.
          status: of HTTP.
          seconds: from the first byte to the answer.
        """
        with self._lock:
            self._requests[route, status] += 1
            if route.startswith("/v1/"):
                self._seconds.add(seconds)

    def count_photograph(self, outcome: str) -> None:
        """Counts a photograph: 'type', 'refer', 'retake' or 'unreadable'."""
        with self._lock:
            self._photographs[outcome] += 1

    def count_batch(self, size: int, seconds: float) -> None:
        """Counts a call of the model."""
        with self._lock:
            self._batches.add(size)
            self._batch_seconds.add(seconds)

    def text(self, waiting: int) -> str:
        """All of them.

        Args:
          waiting: photographs that wait now.
        """
        with self._lock:
            lines = [*_head("cervix_jax_requests_total", "Requests, by route and status.", "counter")]
            lines += [
                f'cervix_jax_requests_total{{route="{route}",status="{status}"}} {count}'
                for (route, status), count in sorted(self._requests.items())
            ]
            lines += _head("cervix_jax_photographs_total", "Photographs, by outcome.", "counter")
            lines += [
                f'cervix_jax_photographs_total{{outcome="{outcome}"}} {count}'
                for outcome, count in sorted(self._photographs.items())
            ]
            lines += [*_head("cervix_jax_waiting", "Photographs that wait.", "gauge"), f"cervix_jax_waiting {waiting}"]
            for histogram in (self._seconds, self._batches, self._batch_seconds):
                lines += histogram.lines()
        return "\n".join(lines) + "\n"


def _head(name: str, meaning: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
