"""Telling a gallery its target, its strangers and how it decides; and what the threshold then costs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from . import enrollment
from .errors import BadInput, Refusal
from .samples.images import Picture, Progress
from .samples.names import clean_name
from .search.fusion import RULES
from .session import Change, Session, State
from .store.impostors import StrangerRows
from .store.rows import Fusion, NewSample, TowerRow
from .thresholds import learning, statistics, strangers
from .thresholds.calibration import Calibration, Near, Tradeoff
from .thresholds.mean_shift import LEAST, MeanShift
from .thresholds.question import share
from .thresholds.suspects import probably_mated
from .vectors import Vectors, unit

if TYPE_CHECKING:
    from .thresholds.planning import Planner

NEAREST = 5  # searches that are named
TARGETS = (0.001, 0.003, 0.01, 0.03, 0.1)  # FPIR, of which the cost is told
FusionChoice = Fusion | Literal["auto"]  # auto: the rule with the fewest misses, and the shift if it has fewer still


class Choices(TypedDict, total=False):
    """What a gallery is told, as keyword arguments: `Chosen` says what they mean."""

    fpir: float | None
    fusion: FusionChoice | None
    confidence: float | None
    shift: bool | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a gallery is told; None leaves a setting as it is. Raises BadInput for what it cannot be told."""

    fpir: float | None = None  # the share of strangers that may be taken for somebody
    fusion: FusionChoice | None = None  # "auto" chooses it and the shift, by the fewest misses
    confidence: float | None = None  # that the share is kept; 0: it is kept on average again
    shift: bool | None = None  # whether the threshold moves with the probe, by how near its strangers are

    def __post_init__(self) -> None:
        if self.fpir is not None:
            share(self.fpir)
        if self.fusion is not None and self.fusion not in (*RULES, "auto"):
            raise BadInput(f"There is no fusion {self.fusion!r}.", f"There are {', '.join(RULES)}, and auto.")
        if self.confidence is not None and not 0.5 <= self.confidence <= 0.999 and self.confidence != 0:
            raise BadInput(f"{self.confidence} is no confidence.", "Expected 0.5 to 0.999, or 0: on average.")
        if self.fusion == "auto" and self.shift is not None:
            raise BadInput("Fusion auto chooses the shift too.", "Give one of the two.")

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())


def calibrate_samples(
    session: Session,
    chosen: Chosen,
    strangers_given: Iterable[tuple[str, Picture]],
    progress: Progress | None,
) -> tuple[Calibration, list[Refusal]]:
    """As `calibrate`, with (name, picture) strangers; returns also those that could not be read."""
    row = session.active()
    given, vectors, refused = enrollment.taken(session, strangers_given, progress)
    learned = row.card.training.has_learned_from(sample.digest for sample in given)
    if learned:
        kept = [i for i, sample in enumerate(given) if sample.digest not in learned]
        refused += [_learned(sample) for sample in given if sample.digest in learned]
        given, vectors = [given[i] for i in kept], vectors[kept]
    return calibrate(session, row, chosen, given, vectors), refused


def _learned(sample: NewSample) -> Refusal:
    error = BadInput(
        f"{sample.source}: the active tower learned from this picture.",
        "To this tower it is no stranger: it would promise too much.",
        "Give others.",
    )
    return Refusal(sample.source, error, sample.name)


def calibrate_vectors(session: Session, chosen: Chosen, names: Sequence[str], vectors: Any) -> Calibration:
    """As `calibrate`, with strangers as vectors (n, dimension), and whose they are. Raises BadInput."""
    row = session.active()
    rows = np.zeros((0, row.dimension), np.float32) if vectors is None else unit(vectors, row.dimension)
    if len(names) != len(rows):
        raise BadInput(f"{len(names)} names for {len(rows)} vectors.", "Each vector needs its name.")
    digests = [hashlib.sha256(vector).digest() for vector in rows]
    given = [NewSample(clean_name(name), digest, "", None) for name, digest in zip(names, digests, strict=True)]
    return calibrate(session, row, chosen, given, rows)


def calibrate(
    session: Session, row: TowerRow, chosen: Chosen, given: Sequence[NewSample], vectors: Vectors
) -> Calibration:
    """Set what is chosen and given in one transaction; return the threshold and its cost.

    Strangers `given` come with their vectors (n, dimension) by the tower `row`. Raises BadInput, or Locked when
    another tower is active by now.
    """
    if chosen or given:
        with session.changing("calibrate", row.id) as change:
            _set(change, row, chosen, given, vectors)
    return calibrated(session)


def _set(change: Change, row: TowerRow, chosen: Chosen, given: Sequence[NewSample], vectors: Vectors) -> None:
    store = change.store
    event = change.record(strangers=len(given), **asdict(chosen))
    if chosen.confidence is not None:
        store.set_confidence(chosen.confidence or None)
    if chosen.fpir is not None:
        store.set_target(chosen.fpir)
    added = strangers.admit(store, event, row.id, "given", given, vectors) if given else 0
    if added:
        strangers.compare(store, row.id, row.dimension)
    fusion, shift = chosen.fusion, chosen.shift
    if fusion == "auto":
        fusion, shift = _fewest_misses(change, row)
    if fusion is not None:
        store.set_fusion(fusion)
    if shift and _shift(store.impostors.strangers(row.id, row.dimension)) is None:
        raise BadInput(
            f"{store.path}: the threshold cannot move with the probe yet.",
            f"It takes strangers of at least {LEAST} identities that you gave and who are not enrolled.",
            "Give more: sidx calibrate --strangers FOLDER",
        )
    if shift is not None:
        store.set_shift(shift)
    if added or fusion is not None:
        change.impostors.recompute()


def _shift(found: StrangerRows) -> MeanShift | None:
    return MeanShift.of(found.vectors, found.names, found.sources, found.own)


def _fewest_misses(change: Change, row: TowerRow) -> tuple[Fusion, bool]:
    """Return the fusion, and whether the threshold is to move, with the fewest misses; the simplest of equals."""
    settings, impostors = change.store.settings(), change.store.impostors
    among, cohort = impostors.strangers(row.id, row.dimension), change.store.towers.mated(row.id)
    shift, fewest = _shift(among), math.inf
    best: tuple[Fusion, bool] = ("best", False)
    for moves in (False, True) if shift else (False,):
        for rule in RULES:
            rows = replace(change.impostors.rows(rule), cohort=cohort)
            if moves and shift:
                rows = shift.moved_stored(rows, among, impostors.own(row.id, row.dimension))
            learned = learning.learn(rows, settings.target_fpir, rule, settings.confidence)
            mates, others, _ = rows.mated_searches()
            missed = float(np.sum(~np.asarray(learned.rule.returns(mates, others))))
            if missed < fewest:
                best, fewest = (rule, moves), missed
    return best


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
        found.append(Near(who, sample, rows.sources[i], names[int(rows.nearest[i])], round(float(rows.told[i]), 4)))
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
        mates, others, whose = state.searches.mated_searches()
        if state.searches.lacks_mates and len(state.searches.cohort) and len(mates):
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
        shift_waits=state.settings.shift and state.shift is None,
        identities=state.settings.identities,
        revision=state.revision[0],
        suspects=found,
        nearest=near,
        tradeoffs=tradeoffs,
    )
