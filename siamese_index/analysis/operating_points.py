"""What other targets would cost: the threshold that each would have, and how often it would err."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from siamese_index.thresholds.learning import misses
from siamese_index.thresholds.statistics import share_interval

from .contract import OpenGallery


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A target with its threshold, counted on the gallery's own searches; the intervals are of 95 %."""

    target_fpir: float
    threshold: float | None
    promised: bool  # whether the evidence supports the target
    false_alarms: int  # non-mated searches within the threshold
    non_mated: int
    fpir_interval: tuple[float, float]
    misses: int  # mated searches that do not return their identity
    mated: int
    fnir_interval: tuple[float, float]


def operating_points(gallery: OpenGallery, targets: Iterable[float]) -> list[OperatingPoint]:
    """Return the operating point that each target FPIR would have. Raises BadInput for one that cannot be."""
    found = []
    with gallery.reading() as state:
        for target in targets:
            learned = state.threshold(target)
            evidence = learned.evidence
            missed, mated = misses(state.searches, learned.rule)
            # Searches by one stranger, or by one identity, are not independent: they count for what they are worth.
            alarms = evidence.false_alarms * evidence.effective / max(1, evidence.searches)
            point = OperatingPoint(
                target,
                learned.tau,
                evidence.promised,
                evidence.false_alarms,
                evidence.searches,
                share_interval(alarms, evidence.effective),
                missed,
                mated,
                share_interval(missed, mated),
            )
            found.append(point)
    return found
