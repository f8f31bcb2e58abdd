"""Distances to a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["match", "unknown", "ambiguous", "no_subject"]
SAME = 1e-5  # a difference of distances that rounding makes


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
    fusion: str = "best"  # how an identity's templates make one distance
    margin: float = 0.0  # two identities within the threshold and closer than this are ambiguous
    promised: bool = False  # whether the evidence supports the target: it promises at most twice that
    fitted: bool = (
        False  # the threshold is a quantile of a fitted distribution, since the searches are too few to count
    )
    set_aside: int = 0  # searches that are probably mated: they do not count
    confidence: float | None = None  # that the target is kept; None: it is kept on average
    shift: bool = False  # the threshold moves with the probe: what is told is the probe's own
    unlike: bool = False  # the gallery's own pictures lie much nearer to each other than the strangers do: no promise


SET = Evidence("set", None, 0, 0.0, 0, None, 0)  # the caller's threshold: nothing is known of its errors


@dataclass(frozen=True, slots=True, repr=False)
class Decision:
    """The answer to one probe: true where it is a match. `identity` is None unless the verdict is match."""

    probe: str
    verdict: Verdict
    identity: str | None
    distance: float | None
    threshold: float | None
    margin: float | None  # distance of the second candidate minus that of the first
    expected_false_alarms: float | None
    probability: (
        float | None
    )  # that `identity` is right, if half of all probes were of strangers; None without evidence
    candidates: tuple[Candidate, ...]
    evidence: Evidence
    tower: str
    revision: int
    box: tuple[int, int, int, int] | None = None  # x, y, width, height of what was found in the picture
    answer: int | None = None  # its id on record, by which it is corrected; None where answers are not kept
    ms: dict[str, float] = field(default_factory=dict)

    @property
    def matched(self) -> bool:
        """Whether somebody is named."""
        return self.verdict == "match"

    def __bool__(self) -> bool:
        return self.matched

    def __repr__(self) -> str:
        who = f" {self.identity!r}" if self.matched else ""
        near = "" if self.distance is None else f", distance {self.distance:.4f}"
        at = "" if self.threshold is None else f", threshold {self.threshold:.4f}"
        return f"<Decision {self.probe!r}: {self.verdict}{who}{near}{at}>"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `identify --json` prints."""
        from dataclasses import asdict

        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rule:
    """How distances become a verdict. Every place that asks what an answer would be asks here.

    Distances are numbers, or arrays of one shape, which give bool arrays; infinity stands for nobody.
    """

    threshold: float | None  # the largest distance that counts as a match; None: nobody is named
    margin: float = 0.0  # two identities within the threshold and closer to each other than this are ambiguous

    def moved(self, by: float) -> Rule:
        """Return the rule of a probe whose threshold moves by so much."""
        return self if self.threshold is None or not by else Rule(self.threshold + by, self.margin)

    def is_within(self, distance: Any) -> Any:
        """Whether an identity at this distance may be named: at the threshold counts as within."""
        return distance <= (-1.0 if self.threshold is None else self.threshold)

    def is_ambiguous(self, nearest: Any, second: Any) -> Any:
        """Whether the two nearest identities cannot be told apart: both may be named, and are as near or nearly so."""
        gap = second - nearest
        return self.is_within(second) & ((gap <= SAME) | (gap < self.margin))

    def returns(self, own: Any, other: Any) -> Any:
        """Whether a search returns the identity at distance `own`, where the nearest other one is at `other`."""
        return self.is_within(own) & (own < other) & ~np.asarray(self.is_ambiguous(own, other))

    def radius(self, nearest: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the radius (n,) within which a search must miss nobody: for the verdict, and who is nearest."""
        return nearest + np.where(self.is_within(nearest), self.margin, 0.0)


def decide(candidates: Sequence[Candidate], rule: Rule) -> tuple[Verdict, float | None]:
    """Return (verdict, margin) for candidates sorted by distance: the nearest one is named if `rule` allows."""
    margin = candidates[1].distance - candidates[0].distance if len(candidates) > 1 else None
    if not candidates or not rule.is_within(candidates[0].distance):
        return "unknown", margin
    if margin is not None and rule.is_ambiguous(candidates[0].distance, candidates[1].distance):
        return "ambiguous", margin
    return "match", margin
