"""Distances to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["match", "unknown", "ambiguous"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enrolled identity and its distance to the probe: that of its nearest template."""

    rank: int
    identity: str
    distance: float  # Euclidean between unit vectors, 0..2; smaller is more alike
    sample: int  # id of the nearest sample


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a threshold rests on. `promise` is the FPIR that the evidence supports, None without any."""

    source: str  # "strangers", or "given" when the caller set the threshold
    target_fpir: float | None
    searches: int  # non-mated searches of this gallery
    effective: float  # of these, how many count as independent
    false_alarms: int  # searches within the threshold
    promise: float | None
    missing: int  # independent strangers still needed to promise the target
    extrapolated: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one probe. `identity` is None unless the verdict is match."""

    probe: str
    verdict: Verdict
    identity: str | None
    distance: float | None
    threshold: float | None
    margin: float | None  # distance of the second candidate minus that of the first
    expected_false_alarms: float | None
    candidates: tuple[Candidate, ...]
    evidence: Evidence
    tower: str
    revision: int
    ms: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `identify --json` prints."""
        from dataclasses import asdict

        return asdict(self)


def decide(candidates: Sequence[Candidate], threshold: float | None) -> tuple[Verdict, float | None]:
    """Return (verdict, margin) for candidates sorted by distance.

    The nearest identity is named if it lies within `threshold` (at it counts as within). Two
    identities within it and exactly as near are ambiguous: which one would be chance. Without a
    threshold nobody is named.
    """
    margin = candidates[1].distance - candidates[0].distance if len(candidates) > 1 else None
    if threshold is None or not candidates or candidates[0].distance > threshold:
        return "unknown", margin
    if margin == 0.0:
        return "ambiguous", margin
    return "match", margin
