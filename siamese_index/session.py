"""An open gallery: what answers rest on, read once per revision; what searches; one way to change something."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import BadInput, Damaged, Locked, Missing
from .store.impostors import SearchRows, enrolled
from .store.rows import GallerySettings, TowerRow
from .store.store import PURGE, SEARCHES, Store
from .thresholds import learning, statistics
from .thresholds.learning import Outlook, Threshold
from .thresholds.question import share
from .towers.embedding import Embedder
from .towers.tower import Tower
from .towers.vector_embedder import VectorEmbedder
from .vectors import Vectors

if TYPE_CHECKING:
    from .search.identities import Searcher
    from .thresholds.impostor_searches import ImpostorSearches
    from .thresholds.mean_shift import MeanShift
    from .thresholds.suspects import Suspicion


@dataclass(frozen=True)
class State:
    """What answers rest on at one revision."""

    session: Session
    revision: tuple[int, bytes]
    tower: TowerRow | None
    settings: GallerySettings
    labels: dict[int, tuple[str, int]] = field(default_factory=dict)  # template: (name, sample), as they come up
    thresholds: dict[float, Threshold] = field(default_factory=dict)
    odds: dict[str, NDArray[np.float64] | None] = field(default_factory=dict)  # by source of the evidence
    among: dict[tuple[tuple[tuple[str, str], ...], tuple[str, ...]], NDArray[np.int64]] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.session.store

    @property
    def active(self) -> TowerRow:
        """The active tower. Raises Damaged in a gallery that has none."""
        if self.tower is None:
            raise Damaged(
                f"{self.store.path}: this gallery has no active tower.", remedy="Restore a backup: sidx restore FILE"
            )
        return self.tower

    @property
    def searcher(self) -> Searcher:
        """What searches among the active tower's templates, caught up with this state."""
        searcher = self.session.searcher(self)
        searcher.refresh(self.revision, self.settings.identities, self.settings.fusion)
        return searcher

    @cached_property
    def false_matches(self) -> NDArray[np.float32]:
        return self.store.towers.false_matches(self.tower.id) if self.tower else np.zeros((2, 0), np.float32)

    @cached_property
    def doubt(self) -> NDArray[np.float32]:
        """Standard errors (p,) of the shares of `false_matches`; of an older program's gallery made anew."""
        found = self.store.towers.doubt(self.tower.id) if self.tower else None
        if found is None:
            rows = self.store.impostors.strangers(self.active.id, self.active.dimension)
            found = statistics.false_match_table(rows.vectors, rows.names)[1]
        return found if len(found) == self.false_matches.shape[1] else np.zeros(self.false_matches.shape[1], np.float32)

    @cached_property
    def searches(self) -> SearchRows:
        tower = self.tower.id if self.tower else 0
        rows = self.store.impostors.all(tower)
        rows = replace(rows, cohort=self.store.towers.mated(tower)) if rows.lacks_mates else rows
        if self.shift is None:
            return rows
        stored, dimension = self.store.impostors, self.active.dimension
        return self.shift.moved_stored(rows, stored.strangers(tower, dimension), stored.own(tower, dimension))

    @cached_property
    def shift(self) -> MeanShift | None:
        """How the threshold moves with the probe; None where it does not, or where too few strangers are left."""
        if not self.settings.shift:
            return None
        from .thresholds.mean_shift import MeanShift

        found = self.store.impostors.strangers(self.active.id, self.active.dimension)
        return MeanShift.of(found.vectors, found.names, found.sources, found.own)

    def moves(self, vectors: Vectors) -> NDArray[np.float64]:
        """Return by how much the threshold moves for probes (n, dimension): (n,)."""
        return np.zeros(len(vectors)) if self.shift is None else self.shift.by(vectors)

    @cached_property
    def suspects(self) -> tuple[Suspicion, ...]:
        """Pairs whose searches count as probably mated, the nearest first: what they are, and why."""
        from .thresholds.suspects import Suspicion, grouped

        rows = self.searches
        found = list(grouped(rows))
        if not found:
            return ()
        names = {enrolled(i): name for i, name in self.store.identity_names().items()}
        own = np.asarray(rows.sources) == "gallery"
        among = [i for pair in found for i in pair.searches if own[i]]
        owners = self.store.templates.owners(rows.ids[among].tolist())
        return tuple(
            Suspicion(
                pair.cause,
                names.get(pair.first, pair.first),
                names.get(pair.second, pair.second),
                round(pair.distance, 4),
                len(pair.searches),
                tuple(owners[int(rows.ids[i])][1] for i in pair.searches if own[i]),
            )
            for pair in found
        )

    def only(self, tags: tuple[tuple[str, str], ...], exclude: tuple[str, ...] = ()) -> NDArray[np.int64] | None:
        """Return the identities (ascending ids) that have all of these tags, without some; None means everybody.

        Raises BadInput when nobody has them: most often a tag is misspelt. Raises Missing for a name to `exclude` that
        is not enrolled.
        """
        if not tags and not exclude:
            return None
        if (tags, exclude) not in self.among:
            found = self.store.tagged(tags) if tags else np.array(sorted(self.store.identity_names()), np.int64)
            if not len(found) and tags:
                asked = " ".join(f"{key}={value}" for key, value in tags)
                raise BadInput(f"Nobody who is enrolled is tagged {asked}.", remedy="See: sidx identities list")
            found = np.setdiff1d(found, [self.store.known(name) for name in exclude]) if exclude else found
            if not len(found):
                raise BadInput("Nobody is left to search among.", remedy="Exclude fewer.")
            self.among[tags, exclude] = found
        return self.among[tags, exclude]

    def threshold(self, fpir: float | None) -> Threshold:
        """Return the learned threshold (for the gallery's target when None)."""
        target = self.settings.target_fpir if fpir is None else share(fpir)
        if target not in self.thresholds:
            learned = learning.learn(self.searches, target, self.settings.fusion, self.settings.confidence)
            moves = replace(learned.evidence, shift=self.shift is not None)
            self.thresholds[target] = Threshold(learned.tau, moves)
        return self.thresholds[target]

    def probability(self, distance: float, source: str) -> float | None:
        """Return the probability that a nearest identity at this distance is right, by the evidence of `source`."""
        if source not in self.odds:
            self.odds[source] = learning.probabilities(self.searches, source)
        odds = self.odds[source]
        if odds is None:
            return None
        return float(odds[1, min(int(np.searchsorted(odds[0], distance)), odds.shape[1] - 1)])

    def expected_false_alarms(self, distance: float, identities: int) -> float | None:
        """Return how many of so many identities a stranger lies this near to by chance."""
        return statistics.expected_false_alarms(self.false_matches, distance, identities)

    def outlook(self) -> Outlook:
        """Return what the gallery promises and costs."""
        learned = self.threshold(None)
        missed, mated = learning.misses(self.searches, learned.rule)
        return Outlook(self.settings.identities, learned.tau, learned.evidence.promise, missed, mated, self.suspects)


@dataclass
class Change:
    """One transaction that changes the gallery. Leaving it makes everything durable, or nothing."""

    session: Session
    verb: str
    state: State  # as it was before
    impostors: ImpostorSearches  # of the active tower; told of what changes

    @property
    def store(self) -> Store:
        return self.session.store

    def record(self, **detail: Any) -> int:
        """Add this change's event; return its id, the new revision."""
        return self.store.record(self.verb, **detail)

    def switched(self) -> None:
        """Search for everybody anew, now that another tower is active."""
        state = self.session.state()
        self.impostors = self.session.impostors(state)
        self.impostors.catch_up(state.revision)
        self.impostors.recompute()


class Session:
    """An open store with what is kept in memory for it, caught up whenever the gallery's revision has moved."""

    def __init__(self, store: Store) -> None:
        self._store, self.closed = store, False
        self._process = os.getpid()
        self._state: State | None = None
        self._embedder: Embedder | None = None
        self._searcher: tuple[str, Searcher] | None = None  # of the tower by that id
        self._impostors: ImpostorSearches | None = None  # of the same

    def close(self) -> None:
        """Let go of what searches, and of the store."""
        self.closed = True
        if self._process != os.getpid():
            return  # it is the other one's
        if self._searcher:
            self._searcher[1].index.close()
        self._store.close()

    @property
    def store(self) -> Store:
        """The open store. Raises BadInput once it is closed."""
        if self.closed:
            raise BadInput("This gallery is closed.", remedy="Open it again: Gallery.open(PATH)")
        if self._process != os.getpid():
            raise BadInput(
                "This gallery was opened by another process.",
                "A fork has none of the threads that search and embed.",
                "Open it again here: Gallery.open(PATH)",
            )
        return self._store

    @property
    def path(self) -> Path | str:
        return self._store.path

    def finish(self) -> None:
        """Do what a killed program, or an older one, left to be done; in a place that cannot be written it stays so."""
        with self.store.reading():
            pending = self.store.pending()
        if not pending:
            return
        if pending == PURGE:
            self.sweep(wait=0.2)
            return
        with contextlib.suppress(Missing, Locked), self.store.writing("finish"):
            if self.store.pending() == SEARCHES:
                from .thresholds.strangers import compare

                state = self.state()
                searches = self.impostors(state)
                searches.catch_up(state.revision)
                for row in self.store.towers.all():
                    compare(self.store, row.id, row.dimension)
                searches.recompute()
                self.store.set_pending(0)
        self._state = self._impostors = None

    def sweep(self, wait: float = 10.0) -> str | None:
        """Rewrite the gallery, so that no byte is left of what a purge deleted; drop the cache.

        Returns why that could not be done, having waited so many seconds: then it is done when it is next opened.
        """
        if self._searcher:
            self._searcher[1].index.close()
        self._searcher = self._impostors = self._state = None
        try:
            self.store.database.sweep(wait)
            with self.store.writing("purge"):
                self.store.set_pending(0)
        except (Locked, Missing) as error:
            return error.what
        return None

    # -- what there is ------------------------------------------------------------------------

    def state(self) -> State:
        """Return the state of the current revision. Call it inside a transaction."""
        revision = self.store.revision()
        if self._state is None or self._state.revision != revision:
            settings, row = self.store.settings(), self._state.tower if self._state else None
            if row is None or (row.id, row.sha256) != (settings.tower, settings.sha256):
                row = self.store.towers.row(settings.tower) if settings.tower is not None else None
            self._state = State(self, revision, row, settings)
        return self._state

    @contextlib.contextmanager
    def reading(self) -> Iterator[State]:
        """One consistent state for everything that is asked inside. Raises BadInput once it is closed."""
        with self.store.reading():
            yield self.state()

    @property
    def last(self) -> State | None:
        """The state when last looked: whoever decides by it must see whether it has changed."""
        return self._state

    def active(self) -> TowerRow:
        """Return the active tower. Raises Damaged in a gallery that has none."""
        with self.reading() as state:
            return state.active

    # -- towers -------------------------------------------------------------------------------

    def embedder(self, row: TowerRow | None = None) -> Embedder:
        """Return what embeds samples as tower `row` does (the active one when None), opened when first used."""
        row = row or self.active()
        if self._embedder is None or self._embedder.id != row.sha256:
            opened = self.opened(row)
            if self._state is None or self._state.settings.tower == row.id:
                self._embedder = opened
            return opened
        return self._embedder

    def last_embedder(self) -> Embedder:
        """Return the embedder that was active when last looked, without looking; `forget_embedder` ends that."""
        return self._embedder or self.embedder()

    def forget_embedder(self) -> None:
        """Look again which tower is active when an embedder is next asked for."""
        self._embedder = None

    def opened(self, row: TowerRow) -> Embedder:
        """Open what embeds as a stored tower does."""
        if row.has_network:
            onnx, detector = self.store.towers.served(row.id)
            return Tower(onnx, row.card, row.sha256, detector)
        return VectorEmbedder(row.sha256, row.dimension)

    def network(self, row: TowerRow) -> Tower:
        """Open a stored tower with a network. Raises BadInput in a gallery of vectors."""
        opened = self.embedder(row)
        if isinstance(opened, VectorEmbedder):
            raise BadInput(
                f"{self.store.path}: this gallery holds vectors, not pictures.",
                f"Expected .npy of {row.dimension} columns.",
            )
        return opened

    # -- searching and changing ---------------------------------------------------------------

    def searcher(self, state: State) -> Searcher:
        """Return what searches among the active tower's templates; not yet caught up."""
        tower = state.active
        if self._searcher is None or self._searcher[0] != tower.sha256:
            from .search.identities import Searcher

            self._searcher, self._impostors = (tower.sha256, Searcher(self.store, tower)), None
        return self._searcher[1]

    def impostors(self, state: State) -> ImpostorSearches:
        """Return the active tower's impostor searches; not yet caught up. Only a change needs them."""
        searcher = self.searcher(state)
        if self._impostors is None:
            from .thresholds.impostor_searches import ImpostorSearches

            self._impostors = ImpostorSearches(self.store, state.active, searcher)
        return self._impostors

    @contextlib.contextmanager
    def changing(self, verb: str, tower: int | None = None) -> Iterator[Change]:
        """One durable transaction of the only writer: the lock, the tower, the impostor searches, the bookkeeping.

        `tower` is the tower that must still be active, since its vectors are about to be stored. Raises
        Locked when it is not, or when another process writes for too long.
        """
        with self.store.writing(verb):
            self.store.events.begin()
            state = self.state()
            if tower is not None and state.settings.tower != tower:
                raise Locked(
                    f"{self.store.path}: the tower was swapped meanwhile.", remedy="Run the same command again."
                )
            change = Change(self, verb, state, self.impostors(state))
            change.impostors.catch_up(state.revision)
            yield change
            change.impostors.seen()
