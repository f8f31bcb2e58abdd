"""From vectors to answers: what they rest on, read once per revision of the gallery."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import calibration
from .calibration import Threshold
from .decision import Candidate, Decision, Evidence, decide
from .errors import BadInput
from .store import Store, TowerRow
from .vectors import Vectors

if TYPE_CHECKING:
    from .index import Index

_GIVEN = Evidence("given", None, 0, 0.0, 0, None, 0)


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer to "are these two the same?"."""

    verdict: str  # match | unknown
    distance: float
    threshold: float | None  # the distance at which `target_fmr` of strangers' comparisons match
    target_fmr: float
    tower: str


@dataclass(frozen=True)
class State:
    """What answers rest on, read once per revision."""

    revision: tuple[int, bytes]
    tower: TowerRow | None
    target: float
    identities: int
    thresholds: dict[float, Threshold]
    false_matches: NDArray[np.float32]


class Answering:
    """Answers for the templates of the active tower, kept up with the gallery."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state: State | None = None
        self._index: Index | None = None
        self._owners: dict[int, tuple[str, int] | None] = {}  # of templates that came up at this revision

    def state(self) -> State:
        """Return the state of the current revision. Call it inside `reading()`."""
        revision = self._store.revision()
        if self._state is None or self._state.revision != revision:
            tower, target, _ = self._store.settings()
            row = self._store.tower(tower) if tower is not None else None
            if (
                self._state is None
                or self._state.tower is None
                or row is None
                or row.sha256 != self._state.tower.sha256
            ):
                from .index import Index  # brings FAISS, which only searching needs

                self._index = Index(self._store.path, row.id, row.sha256, row.dimension) if row else None
            self._owners = {}
            false_matches = self._store.false_matches(row.id) if row else np.zeros((2, 0), np.float32)
            self._state = State(revision, row, target, self._store.identity_count(), {}, false_matches)
        return self._state

    def decide(
        self,
        tower: str,
        names: Sequence[str],
        vectors: Vectors,
        k: int,
        fpir: float | None,
        given: float | None,
        ms: dict[str, float],
    ) -> list[Decision] | None:
        """Answer for vectors of `tower`, or return None when another tower is active by now."""
        if not names:
            return []
        begin = time.perf_counter()
        with self._store.reading():
            state = self.state()
            if state.tower is None or state.tower.sha256 != tower or self._index is None:
                return None
            self._index.refresh(self._store, state.revision)
            found = self._candidates(vectors, k, state.identities)
            searched = time.perf_counter()
            learned = self.threshold(state, fpir) if given is None else Threshold(given, _GIVEN)
        each = {**ms, "search": (searched - begin) * 1000 / len(names)}
        decisions = []
        for name, candidates in zip(names, found, strict=True):
            start = time.perf_counter()
            verdict, margin = decide(candidates, learned.tau)
            first = candidates[0] if candidates else None
            alarms = (
                calibration.expected_false_alarms(state.false_matches, first.distance, state.identities)
                if first
                else None
            )
            decisions.append(
                Decision(
                    probe=name,
                    verdict=verdict,
                    identity=first.identity if first and verdict == "match" else None,
                    distance=first.distance if first else None,
                    threshold=learned.tau,
                    margin=margin,
                    expected_false_alarms=alarms,
                    candidates=tuple(candidates[:k]),
                    evidence=learned.evidence,
                    tower=tower,
                    revision=state.revision[0],
                    ms={key: round(v, 3) for key, v in each.items()}
                    | {"decide": round((time.perf_counter() - start) * 1000, 3)},
                )
            )
        return decisions

    def _candidates(self, vectors: Vectors, k: int, identities: int) -> list[list[Candidate]]:
        """Return the nearest identities per probe: k of them, at least two for the margin, or all there are."""
        assert self._index is not None  # _decide has seen to it
        wanted = min(max(k, 2), identities)
        each = len(self._index) / max(1, identities)  # templates per identity
        fetch = min(len(self._index), math.ceil(wanted * each) + 3)
        ids, distance = self._index.search(vectors, fetch) if fetch else (np.zeros((len(vectors), 0), np.int64),) * 2
        self._look_up(ids.ravel().tolist())
        found = []
        for i in range(len(vectors)):
            candidates = _first_of_each(ids[i], distance[i], self._owners, wanted)
            more = fetch
            while len(candidates) < wanted and more < len(self._index):  # many templates of one, or removed ones
                more = min(len(self._index), 4 * more)
                near, far = self._index.search(vectors[i : i + 1], more)
                self._look_up(near[0].tolist())
                candidates = _first_of_each(near[0], far[0], self._owners, wanted)
            found.append(candidates)
        return found

    def _look_up(self, templates: list[int]) -> None:
        """Learn whose these templates are; None for those that are no longer enrolled."""
        new = {template for template in templates if template not in self._owners}
        if new:
            self._owners.update(dict.fromkeys(new))
            self._owners.update(self._store.owners(new))

    def verified(self, distance: float, fmr: float | None) -> Verification:
        """Say whether a comparison at this distance matches, where `fmr` of strangers' comparisons do."""
        with self._store.reading():
            state = self.state()
        target = state.target if fmr is None else share(fmr)
        ends, shares = state.false_matches
        within = np.flatnonzero(shares <= target)
        tau = float(ends[within[-1]]) if within.size else None
        verdict = "match" if tau is not None and distance <= tau else "unknown"
        return Verification(verdict, distance, tau, target, state.tower.sha256 if state.tower else "")

    def threshold(self, state: State, fpir: float | None) -> Threshold:
        """Return the learned threshold of this state. Call it inside the `reading()` that found it."""
        target = state.target if fpir is None else share(fpir)
        if target not in state.thresholds:
            nearest, names = self._store.stranger_distances(state.tower.id if state.tower else 0)
            state.thresholds[target] = calibration.threshold(nearest, names, target)
        return state.thresholds[target]


def _first_of_each(
    ids: NDArray[np.int64], distance: NDArray[np.float64], owners: dict[int, tuple[str, int] | None], wanted: int
) -> list[Candidate]:
    candidates: dict[str, Candidate] = {}
    for template, d in zip(ids.tolist(), distance.tolist(), strict=True):
        owner = owners.get(template)
        if owner is not None and owner[0] not in candidates:
            candidates[owner[0]] = Candidate(len(candidates) + 1, owner[0], d, owner[1])
            if len(candidates) == wanted:
                break
    return list(candidates.values())


def share(value: float) -> float:
    """Return `value` if it lies strictly between 0 and 1. Raises BadInput."""
    if not 0 < value < 1:
        raise BadInput(f"{value} is not a share of strangers.", "Expected a number between 0 and 1, such as 0.01.")
    return float(value)


def check_question(k: int, fpir: float | None, threshold: float | None) -> None:
    """Raise BadInput for a question that has no answer."""
    if not 1 <= k <= 1000:
        raise BadInput(f"{k} candidates cannot be listed.", "Expected 1 to 1000.")
    if fpir is not None and threshold is not None:
        raise BadInput("--fpir and --threshold exclude each other.", "One derives the distance, the other sets it.")
    if fpir is not None:
        share(fpir)
    if threshold is not None and not 0 <= threshold <= 2:
        raise BadInput(f"{threshold} is not a distance between unit vectors.", "Expected 0 to 2.")
