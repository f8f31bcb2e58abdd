"""From vectors to answers: what they rest on, read once per revision of the gallery."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siamese_index.thresholds import learning

from .errors import BadInput, Damaged, Locked
from .store.impostors import SearchRows
from .store.rows import Settings, TowerRow
from .store.store import Store
from .thresholds import statistics
from .thresholds.decision import SET, Candidate, Decision, decide
from .thresholds.learning import Threshold
from .vectors import Vectors

if TYPE_CHECKING:
    from .search.identities import Hit, Searcher
    from .thresholds.impostor_searches import Cohort


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer to "are these two the same?"."""

    verdict: str  # match | unknown
    distance: float
    threshold: float | None  # the distance at which `target_fmr` of strangers' comparisons match
    target_fmr: float
    tower: str


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a gallery promises, and what it costs: before and after a change."""

    identities: int
    threshold: float | None
    promise: float | None  # FPIR
    misses: int  # mated searches (leave one out) that did not return their identity
    mated: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of each probe. Raises BadInput for a question that has no answer."""

    k: int = 5  # candidates to list
    fpir: float | None = None  # share of strangers that may match, instead of the gallery's
    threshold: float | None = None  # a distance (0..2) instead of a learned one
    exact: bool = False  # also candidates on which the verdict does not depend
    tags: tuple[tuple[str, str], ...] = ()  # only identities that have all of these

    def __post_init__(self) -> None:
        if not 1 <= self.k <= 1000:
            raise BadInput(f"{self.k} candidates cannot be listed.", "Expected 1 to 1000.")
        if self.fpir is not None and self.threshold is not None:
            raise BadInput("--fpir and --threshold exclude each other.", "One derives the distance, the other sets it.")
        if self.fpir is not None:
            share(self.fpir)
        if self.threshold is not None and not 0 <= self.threshold <= 2:
            raise BadInput(f"{self.threshold} is not a distance between unit vectors.", "Expected 0 to 2.")


@dataclass(frozen=True)
class State:
    """What answers rest on, read once per revision."""

    store: Store
    revision: tuple[int, bytes]
    tower: TowerRow | None
    settings: Settings
    identities: int
    labels: dict[int, tuple[str, int]] = field(default_factory=dict)  # template: (name, sample), as they come up
    thresholds: dict[float, Threshold] = field(default_factory=dict)
    odds: dict[str, NDArray[np.float64] | None] = field(default_factory=dict)  # by source of the evidence
    tagged: dict[tuple[tuple[str, str], ...], NDArray[np.int64]] = field(default_factory=dict)

    @property
    def active(self) -> TowerRow:
        """The active tower. Raises Damaged in a gallery that has none."""
        if self.tower is None:
            raise Damaged(
                f"{self.store.path}: this gallery has no active tower.", remedy="Restore a backup: sidx restore FILE"
            )
        return self.tower

    @cached_property
    def false_matches(self) -> NDArray[np.float32]:
        return self.store.false_matches(self.tower.id) if self.tower else np.zeros((2, 0), np.float32)

    @cached_property
    def searches(self) -> SearchRows:
        return self.store.searches.all(self.tower.id if self.tower else 0)

    def only(self, tags: tuple[tuple[str, str], ...]) -> NDArray[np.int64] | None:
        """Return the identities (ascending ids) that have all of these tags; None means everybody."""
        if not tags:
            return None
        if tags not in self.tagged:
            self.tagged[tags] = self.store.tagged(tags)
        return self.tagged[tags]

    def threshold(self, fpir: float | None) -> Threshold:
        """Return the learned threshold (for the gallery's target when None)."""
        target = self.settings.target_fpir if fpir is None else share(fpir)
        if target not in self.thresholds:
            self.thresholds[target] = learning.learn(self.searches, target, self.settings.fusion)
        return self.thresholds[target]

    def probability(self, distance: float, source: str) -> float | None:
        """Return the probability that a nearest identity at this distance is right, by the evidence of `source`."""
        if source not in self.odds:
            self.odds[source] = learning.probabilities(self.searches, source)
        odds = self.odds[source]
        if odds is None:
            return None
        return float(odds[1, min(int(np.searchsorted(odds[0], distance)), odds.shape[1] - 1)])


class Answering:
    """Answers for the templates of the active tower, kept up with the gallery."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state: State | None = None
        self._searching: tuple[str, Searcher, Cohort] | None = None  # of the tower by that id

    def state(self) -> State:
        """Return the state of the current revision. Call it inside a transaction."""
        revision = self._store.revision()
        if self._state is None or self._state.revision != revision:
            settings, row = self._store.settings(), self._state.tower if self._state else None
            if row is None or (row.id, row.sha256) != (settings.tower, settings.sha256):
                row = self._store.tower(settings.tower) if settings.tower is not None else None
            self._state = State(self._store, revision, row, settings, settings.identities)
        return self._state

    def close(self) -> None:
        """Let go of what searches."""
        if self._searching:
            self._searching[1].index.close()

    @property
    def tower(self) -> TowerRow | None:
        """The active tower when last looked: `decide` says so if another one is by now."""
        return self._state.tower if self._state else None

    @property
    def revision(self) -> int:
        """The gallery's revision when last looked."""
        return self._state.revision[0] if self._state else 0

    @property
    def logs(self) -> bool:
        """Whether the last answers are to be logged."""
        return self._state is not None and self._state.settings.log

    def searcher(self, state: State) -> Searcher:
        """Return what searches among the active tower's templates, caught up with `state`."""
        searcher = self._of(state)[0]
        searcher.refresh(state.revision, state.identities, state.settings.fusion)
        return searcher

    def cohort(self) -> Cohort:
        """Return the active tower's non-mated searches. Call it inside the transaction that changes the gallery."""
        return self._of(self.state())[1]

    def expect(self, tower: int) -> State:
        """Return the state if `tower` is the active one. Raises Locked: what another one embedded is of no use."""
        state = self.state()
        if state.settings.tower != tower:
            raise Locked(f"{self._store.path}: the tower was swapped meanwhile.", remedy="Run the same command again.")
        return state

    def before_change(self, tower: int) -> Cohort:
        """Return the non-mated searches of the active `tower`, as they are before this transaction changes something.

        Raises Locked when another one is active by now.
        """
        state = self.expect(tower)
        cohort = self._of(state)[1]
        cohort.catch_up(state.revision)
        return cohort

    def outlook(self) -> Outlook:
        """Return what the gallery promises and costs at the present revision. Call it inside a transaction."""
        state = self.state()
        learned = state.threshold(None)
        missed, mated = learning.misses(state.searches, learned.rule)
        return Outlook(state.identities, learned.tau, learned.evidence.promise, missed, mated)

    def _of(self, state: State) -> tuple[Searcher, Cohort]:
        tower = state.active
        if self._searching is None or self._searching[0] != tower.sha256:
            from .search.identities import Searcher  # brings FAISS
            from .thresholds.impostor_searches import Cohort

            searcher = Searcher(self._store, tower)
            self._searching = tower.sha256, searcher, Cohort(self._store, tower, searcher)
        return self._searching[1:]

    def decide(
        self, tower: str, names: Sequence[str], vectors: Vectors, question: Question, ms: dict[str, float]
    ) -> list[Decision] | None:
        """Answer for vectors of `tower`, or return None when another tower is active by now."""
        if not names:
            return []
        begin = time.perf_counter()
        with self._store.reading():
            state = self.state()
            if state.tower is None or state.tower.sha256 != tower:
                return None
            searcher = self.searcher(state)
            given = question.threshold
            learned = state.threshold(question.fpir) if given is None else Threshold(given, SET)
            only = state.only(question.tags)
            found = searcher.nearest(
                vectors,
                max(question.k, 2),  # at least two, for the margin
                radius=None if question.exact else learned.rule.radius,
                only=only,
            )
            new = {hit.template for hits in found for hit in hits if hit.template not in state.labels}
            if new:
                state.labels.update(self._store.owners(new))
            among = state.identities if only is None else len(only)
            each = {**ms, "search": (time.perf_counter() - begin) * 1000 / len(names)}
            decided = [
                self._decided(state, name, hits, question.k, learned, among, each)
                for name, hits in zip(names, found, strict=True)
            ]
            searcher.index.settle()  # now that nobody waits for it
            return decided

    def _decided(
        self,
        state: State,
        name: str,
        hits: Sequence[Hit],
        k: int,
        learned: Threshold,
        identities: int,
        ms: dict[str, float],
    ) -> Decision:
        start = time.perf_counter()
        candidates = [
            Candidate(rank, state.labels[hit.template][0], hit.distance, state.labels[hit.template][1])
            for rank, hit in enumerate(hits, 1)
        ]
        verdict, margin = decide(candidates, learned.rule)
        first = candidates[0] if candidates else None
        alarms = probability = None
        if first:
            alarms = statistics.expected_false_alarms(state.false_matches, first.distance, identities)
            if learned.evidence.searches:
                probability = state.probability(first.distance, learned.evidence.source)
        return Decision(
            probe=name,
            verdict=verdict,
            identity=first.identity if first and verdict == "match" else None,
            distance=first.distance if first else None,
            threshold=learned.tau,
            margin=margin,
            expected_false_alarms=alarms,
            probability=probability,
            candidates=tuple(candidates[:k]),
            evidence=learned.evidence,
            tower=state.active.sha256,
            revision=state.revision[0],
            ms={key: round(v, 3) for key, v in ms.items()} | {"decide": round((time.perf_counter() - start) * 1000, 3)},
        )

    def verified(self, distance: float, fmr: float | None) -> Verification:
        """Say whether a comparison at this distance matches, where `fmr` of strangers' comparisons do."""
        with self._store.reading():
            tau, target = self.verification_threshold(fmr)
            tower = self.state().tower
        verdict = "match" if tau is not None and distance <= tau else "unknown"
        return Verification(verdict, distance, tau, target, tower.sha256 if tower else "")

    def verification_threshold(self, fmr: float | None) -> tuple[float | None, float]:
        """Return (threshold, target FMR). Call it inside a transaction."""
        state = self.state()
        target = state.settings.target_fpir if fmr is None else share(fmr)
        ends, shares = state.false_matches
        within = np.flatnonzero(shares <= target)
        return (float(ends[within[-1]]) if within.size else None), target


def share(value: float) -> float:
    """Return `value` if it lies strictly between 0 and 1. Raises BadInput."""
    if not 0 < value < 1:
        raise BadInput(f"{value} is not a share of strangers.", "Expected a number between 0 and 1, such as 0.01.")
    return float(value)
