"""Telling a gallery its target, its strangers and its fusion; and what the threshold then costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from siamese_index.thresholds import learning, strangers

from .errors import BadInput
from .identify import Answering, share
from .search.fusion import RULES
from .store.rows import Fusion
from .store.store import Store
from .thresholds import statistics
from .thresholds.decision import Evidence
from .vectors import Vectors

Stranger = tuple[str, bytes, bytes | None]  # name, SHA-256, the picture to keep


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
    identities: int
    revision: int


def calibrate(
    store: Store,
    answering: Answering,
    tower: int,
    fpir: float | None,
    rows: Sequence[Stranger],
    vectors: Vectors,
    fusion: Fusion | Literal["auto"] | None,
) -> None:
    """Set what is given, for the active `tower`, in one transaction. Raises BadInput, or Locked."""
    if fusion is not None and fusion not in (*RULES, "auto"):
        raise BadInput(f"There is no fusion {fusion!r}.", f"There are {', '.join(RULES)}, and auto.")
    if fpir is None and not rows and fusion is None:
        return
    with store.writing("calibrate"):
        cohort = answering.before_change(tower)
        event = store.record("calibrate", fpir=fpir, strangers=len(rows), fusion=fusion)
        if fpir is not None:
            store.set_target(share(fpir))
        added = strangers.admit(store, event, tower, "given", rows, vectors) if rows else 0
        if fusion == "auto":
            by_rule = {rule: cohort.rows(rule) for rule in RULES}
            fusion = learning.best_fusion(by_rule, store.settings().target_fpir)
        if fusion is not None:
            store.set_fusion(fusion)
        if added or fusion is not None:
            cohort.recompute()
        cohort.seen()


def calibrated(store: Store, answering: Answering) -> Calibration:
    """Return the threshold and its cost. The gallery has an active tower."""
    with store.reading():
        state = answering.state()
        learned = state.threshold(None)
        searches = store.searches.strangers(state.active.id, state.active.dimension)
        own = state.searches.sources.count("gallery")
    missed, mated = learning.misses(state.searches, learned.rule)
    sources = {s: searches.sources.count(s) for s in sorted(set(searches.sources))}
    return Calibration(
        threshold=learned.tau,
        fpir_interval=learned.interval(),
        evidence=learned.evidence,
        strangers=sources,
        own_searches=own,
        enrolled_strangers=int(np.sum(searches.own >= 0)),
        set_aside=int(np.sum(searches.nearest < 0)),
        misses=missed,
        mated=mated,
        fnir=missed / mated if mated else None,
        fnir_interval=statistics.share_interval(missed, mated),
        identities=state.identities,
        revision=state.revision[0],
    )
