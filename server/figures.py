"""Figures for Prometheus: answers by verdict, how long they took, alarms, and what waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Figures:
    """What the service counts, of its own process."""

    def __init__(self, waiting: Callable[[], float], identities: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter("sidx_answers", "Answers by verdict.", ["verdict"], registry=self._registry)
        for verdict in ("match", "unknown", "ambiguous", "no_subject"):
            self._answers.labels(verdict)
        self._seconds = Histogram(
            "sidx_identification_seconds", "From a whole request to its answers.", registry=self._registry
        )
        self._failed = Counter(
            "sidx_problems", "Requests that were refused, by status.", ["status"], registry=self._registry
        )
        Gauge("sidx_waiting_pictures", "Pictures that wait for the tower.", registry=self._registry).set_function(
            waiting
        )
        Gauge("sidx_identities", "Who is enrolled.", registry=self._registry).set_function(identities)

    def answered(self, verdicts: Sequence[str], seconds: float) -> None:
        """Count the answers of a request."""
        for verdict in verdicts:
            self._answers.labels(verdict).inc()
        self._seconds.observe(seconds)

    def refused(self, status: int) -> None:
        """Count a request that was refused."""
        self._failed.labels(str(status)).inc()

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self._registry)
