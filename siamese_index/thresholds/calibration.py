"""What a gallery's threshold is, rests on and costs."""

from __future__ import annotations

from dataclasses import dataclass

from .decision import Evidence
from .suspects import Suspicion


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """What another target would cost."""

    fpir: float
    confidence: float | None  # that it is kept; None: on average
    threshold: float | None
    fnir: float | None
    promised: bool  # whether the evidence supports it


@dataclass(frozen=True, slots=True)
class Near:
    """One of the nearest searches by somebody else: they set the threshold."""

    who: str  # the stranger, or the identity whose sample searched
    sample: int  # its id: a stranger's, or of an enrolled sample
    source: str  # "given", "tower", or "gallery": an enrolled sample
    near: str  # the identity that it is near to
    distance: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold, with what it costs: mated searches that it turns away."""

    threshold: float | None
    fpir_interval: tuple[float, float] | None  # 95 %
    evidence: Evidence
    strangers: dict[str, int]  # searches by source: "tower" (its held-out identities), "given"
    own_searches: int  # of the gallery's own templates among the others
    enrolled_strangers: int  # searched among the others, since they are enrolled
    set_aside: int  # searches that met nobody, or only the same picture
    misses: int  # mated searches (leave one out) that did not return their identity
    mated: int
    fnir: float | None
    fnir_interval: tuple[float, float]
    fnir_from_strangers: bool  # the gallery has too few mated searches: how far strangers' pictures are apart tells
    shift_waits: bool  # the threshold is to move with the probe, and too few strangers are left for it
    identities: int
    revision: int
    suspects: tuple[Suspicion, ...]  # pairs whose searches were set aside, since they are probably mated
    nearest: tuple[Near, ...]  # the searches that count and are nearest, at most NEAREST
    tradeoffs: tuple[Tradeoff, ...]  # FPIR against FNIR, on average and with a confidence of 95 %
