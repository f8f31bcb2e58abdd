"""Figures for Prometheus: answers by verdict, how long they took, alarms, and what waits."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from siamese_index import Decision


class Figures:
    """What the service counts, of its own process."""

    def __init__(self) -> None:
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
        self._waiting = Gauge("sidx_waiting_pictures", "Pictures that wait for the tower.", registry=self._registry)
        self._identities = Gauge("sidx_identities", "Who is enrolled.", registry=self._registry)

    def answered(self, decisions: Sequence[Decision], seconds: float) -> None:
        """Count the answers of a request."""
        for decision in decisions:
            self._answers.labels(decision.verdict).inc()
        self._seconds.observe(seconds)

    def refused(self, status: int) -> None:
        """Count a request that was refused."""
        self._failed.labels(str(status)).inc()

    def text(self, waiting: int, identities: int) -> bytes:
        """Return everything as Prometheus reads it."""
        self._waiting.set(waiting)
        self._identities.set(identities)
        return generate_latest(self._registry)
