"""Telling a gallery its target, its strangers and its fusion; and what the threshold then costs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import enrollment
from .errors import BadInput, Refusal
from .samples.images import Picture, Progress
from .samples.names import clean_name
from .search.fusion import RULES
from .session import Session, State, share
from .store.rows import Fusion, NewSample, TowerRow
from .thresholds import learning, statistics, strangers
from .thresholds.calibration import Calibration, Near, Tradeoff
from .thresholds.suspects import probably_mated
from .vectors import Vectors, unit

if TYPE_CHECKING:
    from .thresholds.planning import Planner

NEAREST = 5  # searches that are named
TARGETS = (0.001, 0.003, 0.01, 0.03, 0.1)  # FPIR, of which the cost is told
FusionChoice = Fusion | Literal["auto"]  # auto: the rule with the fewest misses


def calibrate_samples(
    session: Session,
    fpir: float | None,
    strangers_given: Iterable[tuple[str, Picture]],
    fusion: FusionChoice | None,
    progress: Progress | None,
    confidence: float | None = None,
) -> tuple[Calibration, list[Refusal]]:
    """As `calibrate`, with (name, picture) strangers; returns also those that could not be read."""
    row = session.active()
    given, vectors, refused = enrollment.taken(session, strangers_given, progress)
    learned = row.card.training.has_learned_from(sample.digest for sample in given)
    if learned:
        kept = [i for i, sample in enumerate(given) if sample.digest not in learned]
        refused += [_learned(sample) for sample in given if sample.digest in learned]
        given, vectors = [given[i] for i in kept], vectors[kept]
    return calibrate(session, row, fpir, given, vectors, fusion, confidence), refused


def _learned(sample: NewSample) -> Refusal:
    error = BadInput(
        f"{sample.source}: the active tower learned from this picture.",
        "To this tower it is no stranger: it would promise too much.",
        "Give others.",
    )
    return Refusal(sample.source, error)


def calibrate_vectors(
    session: Session, fpir: float | None, names: Sequence[str], vectors: Any, fusion: FusionChoice | None
) -> Calibration:
    """As `calibrate`, with strangers as vectors (n, dimension), and whose they are. Raises BadInput."""
    row = session.active()
    rows = np.zeros((0, row.dimension), np.float32) if vectors is None else unit(vectors, row.dimension)
    if len(names) != len(rows):
        raise BadInput(f"{len(names)} names for {len(rows)} vectors.", "Each vector needs its name.")
    digests = [hashlib.sha256(vector).digest() for vector in rows]
    given = [NewSample(clean_name(name), digest, "", None) for name, digest in zip(names, digests, strict=True)]
    return calibrate(session, row, fpir, given, rows, fusion)


def calibrate(
    session: Session,
    row: TowerRow,
    fpir: float | None,
    given: Sequence[NewSample],
    vectors: Vectors,
    fusion: FusionChoice | None,
    confidence: float | None = None,
) -> Calibration:
    """Set what is given in one transaction; return the threshold and its cost.

    Strangers `given` come with their vectors (n, dimension) by the tower `row`. A `confidence` of 0 means that
    the target is kept on average. Raises BadInput, or Locked when another tower is active by now.
    """
    if fusion is not None and fusion not in (*RULES, "auto"):
        raise BadInput(f"There is no fusion {fusion!r}.", f"There are {', '.join(RULES)}, and auto.")
    if confidence is not None and not 0.5 <= confidence <= 0.999 and confidence != 0:
        raise BadInput(f"{confidence} is no confidence.", "Expected 0.5 to 0.999, or 0: on average.")
    if fpir is not None or given or fusion is not None or confidence is not None:
        with session.changing("calibrate", row.id) as change:
            event = change.record(fpir=fpir, strangers=len(given), fusion=fusion, confidence=confidence)
            if confidence is not None:
                change.store.set_confidence(confidence or None)
            if fpir is not None:
                change.store.set_target(share(fpir))
            added = strangers.admit(change.store, event, row.id, "given", given, vectors) if given else 0
            if fusion == "auto":
                by_rule = {rule: change.impostors.rows(rule) for rule in RULES}
                fusion = learning.best_fusion(by_rule, change.store.settings().target_fpir)
            if fusion is not None:
                change.store.set_fusion(fusion)
            if added:
                strangers.compare(change.store, row.id, row.dimension)
            if added or fusion is not None:
                change.impostors.recompute()
    return calibrated(session)


def target(session: Session, fpir: float | None) -> float:
    """Return a target FPIR: the gallery's when None. Raises BadInput."""
    return session.store.settings().target_fpir if fpir is None else share(fpir)


def planner(session: Session) -> Planner:
    """Return what plans sizes that the gallery does not have, from its strangers. Raises BadInput with too few."""
    from .thresholds.planning import Planner

    with session.reading() as state:
        rows = state.store.impostors.strangers(state.active.id, state.active.dimension)
    return Planner(rows.vectors, rows.names)


def _nearest(state: State) -> list[Near]:
    """Return the nearest searches that count."""
    rows = state.searches.part(~probably_mated(state.searches))
    if state.threshold(None).evidence.source == "given":
        rows = rows.part(np.asarray(rows.sources) == "given")
    at = np.argsort(rows.distances, kind="stable")[:NEAREST].tolist()
    own = [int(rows.ids[i]) for i in at if rows.sources[i] == "gallery"]
    owners = state.store.templates.owners(own)
    names = state.store.identity_names() if at else {}
    found = []
    for i in at:
        who, sample = rows.names[i], int(rows.ids[i])
        if rows.sources[i] == "gallery":
            who, sample = owners[sample]
        elif rows.own[i] >= 0:
            who = names[int(rows.own[i])]
        found.append(
            Near(who, sample, rows.sources[i], names[int(rows.nearest[i])], round(float(rows.distances[i]), 4))
        )
    return found


def _tradeoffs(state: State) -> Iterator[Tradeoff]:
    mates, others, _ = state.searches.mated_searches()
    targets = sorted({*TARGETS, state.settings.target_fpir})
    for confidence in (None, 0.95):
        for target in targets:
            learned = learning.learn(state.searches, target, state.settings.fusion, confidence)
            fnir = float(1 - np.mean(learned.rule.returns(mates, others))) if len(mates) else None
            yield Tradeoff(target, confidence, learned.tau, fnir, learned.evidence.promised)


def calibrated(session: Session) -> Calibration:
    """Return the threshold and its cost."""
    with session.reading() as state:
        learned, row = state.threshold(None), state.active
        searches = state.store.impostors.strangers(row.id, row.dimension)
        own = state.searches.sources.count("gallery")
        missed, mated = learning.misses(state.searches, learned.rule)
        found, near, tradeoffs = state.suspects, tuple(_nearest(state)), tuple(_tradeoffs(state))
        fnir, from_strangers = missed / mated if mated else None, False
        ends = statistics.share_interval(missed, mated)
        if state.searches.lacks_mates and len(state.searches.cohort):
            mates, others, whose = state.searches.mated_searches()
            lost = ~np.asarray(learned.rule.returns(mates, others))
            fnir, from_strangers = float(np.mean(lost)), True
            ends = statistics.clustered_interval(lost, whose)
    return Calibration(
        threshold=learned.tau,
        fpir_interval=learned.interval(),
        evidence=learned.evidence,
        strangers={source: searches.sources.count(source) for source in sorted(set(searches.sources))},
        own_searches=own,
        enrolled_strangers=int(np.sum(searches.own >= 0)),
        set_aside=int(np.sum(searches.nearest < 0)),
        misses=missed,
        mated=mated,
        fnir=fnir,
        fnir_interval=ends,
        fnir_from_strangers=from_strangers,
        identities=state.settings.identities,
        revision=state.revision[0],
        suspects=found,
        nearest=near,
        tradeoffs=tradeoffs,
    )
