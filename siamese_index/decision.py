"""Distances to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["match", "unknown", "ambiguous"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enrolled identity and its distance to the probe, fused over its templates."""

    rank: int
    identity: str
    distance: float  # Euclidean between unit vectors, 0..2; smaller is more alike
    sample: int  # id of the nearest sample


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a threshold rests on. `promise` is the FPIR that the evidence supports, None without any."""

    source: str  # whose searches: "given + tower + gallery", as few as suffice; "set" when the caller set the threshold
    target_fpir: float | None
    searches: int  # non-mated searches of this gallery
    effective: float  # of these, how many count as independent
    false_alarms: int  # searches within the threshold
    promise: float | None
    missing: int  # independent strangers still needed to promise the target
    extrapolated: bool = False
    fusion: str = "best"  # how an identity's templates make one distance
    margin: float = 0.0  # two identities within the threshold and closer than this are ambiguous


SET = Evidence("set", None, 0, 0.0, 0, None, 0)  # the caller's threshold: nothing is known of its errors


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
    probability: float | None  # that `identity` is right, were every second probe a stranger's; None without evidence
    candidates: tuple[Candidate, ...]
    evidence: Evidence
    tower: str
    revision: int
    ms: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `identify --json` prints."""
        from dataclasses import asdict

        return asdict(self)


def decide(
    candidates: Sequence[Candidate], threshold: float | None, least: float = 0.0
) -> tuple[Verdict, float | None]:
    """Return (verdict, margin) for candidates sorted by distance.

    The nearest identity is named if it lies within `threshold` (at it counts as within). A second one
    within it, and exactly as near or nearer to the first than `least`, makes the answer ambiguous.
    Without a threshold nobody is named.
    """
    margin = candidates[1].distance - candidates[0].distance if len(candidates) > 1 else None
    if threshold is None or not candidates or candidates[0].distance > threshold:
        return "unknown", margin
    if margin is not None and (margin == 0.0 or (margin < least and candidates[1].distance <= threshold)):
        return "ambiguous", margin
    return "match", margin
