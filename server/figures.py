"""Figures for Prometheus: answers by verdict, how long they took, alarms, and what waits; of all processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from siamese_index import Decision

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # names the folder by which processes add their figures


class Figures:
    """What the service counts."""

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
        self._waiting = self._gauge("sidx_waiting_pictures", "Pictures that wait for the tower.", "livesum")
        self._identities = self._gauge("sidx_identities", "Who is enrolled.", "mostrecent")
        self._alarm = self._gauge("sidx_stranger_alarm", "1: those who ask differ from the strangers.", "mostrecent")

    def answered(self, decisions: Sequence[Decision], seconds: float | None) -> None:
        """Count the answers of a request."""
        for decision in decisions:
            self._answers.labels(decision.verdict).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def refused(self, status: int) -> None:
        """Count a request that was refused."""
        self._failed.labels(str(status)).inc()

    def text(self, waiting: int, identities: int, alarm: bool) -> bytes:
        """Return everything as Prometheus reads it."""
        self._waiting.set(waiting)
        self._identities.set(identities)
        self._alarm.set(alarm)
        if SHARED not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _gauge(self, name: str, what: str, of_many: Literal["livesum", "mostrecent"]) -> Gauge:
        return Gauge(name, what, registry=self._registry, multiprocess_mode=of_many)
