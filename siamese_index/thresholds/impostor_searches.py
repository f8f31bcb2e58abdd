"""Impostor searches, maintained incrementally as the gallery changes.

Strangers are searched among everybody; strangers who are enrolled after all (same name, or the same
bytes) and the gallery's own templates among the others: leave one identity out. Every search keeps
its nearest identity and the fused distance to it. Enrolling costs one row of products, removing
only the searches whose nearest is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siamese_index.search import scan
from siamese_index.search.fusion import SAME_PICTURE, all_distances, fused_by_identity, to_identity
from siamese_index.store.impostors import OwnRows, SearchRows, enrolled
from siamese_index.store.rows import Fusion, NewSample, TowerRow
from siamese_index.store.store import Store
from siamese_index.store.template_rows import Renewed
from siamese_index.vectors import Vectors, distances

if TYPE_CHECKING:
    from siamese_index.search.identities import Searcher
from siamese_index.thresholds.strangers import enrolled_as

from .search_table import SearchTable

Comparing = Callable[[], tuple[NDArray[np.int64], NDArray[np.float32]]]  # when asked: what `scan.nearest` found
OWN_SEARCHES = 1024  # of a larger gallery's templates a fixed random part searches
_BLOCK = 4_000_000  # distances at a time
_BESIDE = 1 << 23  # products of numbers that take longer than a thread needs to begin


class ImpostorSearches:
    """The searches of one tower, in memory as they are in the gallery. Its methods run inside a transaction."""

    def __init__(self, store: Store, tower: TowerRow, searcher: Searcher) -> None:
        self._store, self._tower, self._searcher = store, tower, searcher
        self._seen: tuple[int, bytes] | None = None
        self._before = (0, b"")  # the revision that the transaction began with
        self._rows: SearchTable
        self._by_name: dict[str, list[int]] = {}  # of strangers: their rows
        self._by_digest: dict[bytes, list[int]] = {}

    def catch_up(self, before: tuple[int, bytes]) -> None:
        """Have the searches as of the revision `before` this transaction's own event in memory.

        They count as such only once `seen` is called: a transaction that is taken back leaves them unread.
        """
        self._before = before
        if self._seen == before:
            self._seen = None
            return
        self.read()
        self._seen = None
        if not np.any(self._rows.own[self._strangers :] >= 0) and self._store.settings().identities:
            self.recompute()  # made before the own templates searched

    def read(self) -> None:
        """Read the searches as they are in the gallery."""
        self._rows = SearchTable.read(self._store, self._tower)
        self._register()

    def _register(self) -> None:
        self._by_name, self._by_digest = {}, {}
        for i, (name, digest) in enumerate(zip(self._rows.names, self._rows.digests, strict=True)):
            self._by_name.setdefault(name, []).append(i)
            self._by_digest.setdefault(digest, []).append(i)

    def seen(self) -> None:
        """What is in memory is what the gallery holds at its present revision."""
        self._seen = self._store.revision()

    # -- changes of the gallery -----------------------------------------------------------------

    def comparing(self, vectors: Vectors) -> Comparing:
        """Begin to compare all searches with templates that are about to be enrolled; many, while they are written."""
        searches = self._rows.vectors

        def compared() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            return scan.nearest(vectors, searches, 4, alone=True)

        if vectors.size * len(searches) < _BESIDE or self._store.settings().fusion != "best":
            return compared
        return scan.beside(compared)

    def enrolled(
        self,
        samples: Sequence[NewSample],
        templates: NDArray[np.int64],
        identities: NDArray[np.int64],
        vectors: Vectors,
        comparing: Comparing,
    ) -> None:
        """Account for what was just enrolled: samples, their templates' ids, identities and vectors.

        `comparing` was begun with these vectors.
        """
        rows, fusion = self._rows, self._store.settings().fusion
        self._searcher.index.add(self._before, self._store.revision(), templates, identities, vectors)
        if fusion == "best":
            closer, again = self._approached(identities, vectors, *comparing())
        else:
            closer, again = self._compare(identities, fusion)
        known = {i for sample in samples for i in self._by_name.get(sample.name, ())}
        known |= {i for sample in samples for i in self._by_digest.get(sample.digest, ())}
        if known:  # strangers who are somebody now; who that is decides what they are compared with
            unmasked, before = sorted(known), rows.own.copy()
            self._resolve(unmasked)
            again |= rows.own != before
        mated = np.zeros(len(rows.own), bool)
        older = identities[identities <= rows.own.max(initial=-1)]  # new ones have no searches yet
        if len(older):
            mated[self._strangers :] = np.isin(rows.own[self._strangers :], older)
        self._update_genuine_distances(np.flatnonzero(mated), fusion)
        self._search(np.flatnonzero(again))
        self._write(np.flatnonzero(closer | mated | again))
        self._join(templates, identities, vectors, fusion)

    def removed(self, identity: int) -> None:
        """Account for an identity that was taken out."""
        self._drop(self._rows.own == identity)
        self._look_again(self._concerned(np.array([identity])))
        self._fill()

    def rearranged(self, renewed: Renewed, touched: Sequence[int]) -> None:
        """Account for templates that are somebody else's now, or enrolled again, or no more.

        `touched` are the identities that lost or won some.
        """
        self._drop(np.isin(self._rows.ids, renewed.before))
        fusion = self._store.settings().fusion
        self._refresh(fusion)
        found = self._store.arrivals(renewed.samples.tolist())
        there = np.array([i for i, sample in enumerate(renewed.samples.tolist()) if sample in found], np.int64)
        if len(there):
            vectors, samples = renewed.vectors[there], [found[int(renewed.samples[i])] for i in there]
            of = renewed.ids[there], renewed.identities[there]
            self.enrolled(samples, *of, vectors, self.comparing(vectors))
        at = self._concerned(np.array(touched, np.int64))
        if fusion != "best":  # who lost a sample may be nearer now
            enrolled = self._store.identity_names()
            closer, again = self._compare(np.array([i for i in touched if i in enrolled], np.int64), fusion)
            at = np.union1d(at, np.flatnonzero(closer | again))
        self._update_genuine_distances(at[at >= self._strangers], fusion)
        self._look_again(at)
        self._fill()

    def _concerned(self, identities: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the searches that are by or have found one of these."""
        return np.flatnonzero(np.isin(self._rows.nearest, identities) | np.isin(self._rows.own, identities))

    def _drop(self, gone: NDArray[np.bool_]) -> None:
        """Let own searches end."""
        gone[: self._strangers] = False
        self._store.impostors.drop_own(self._rows.ids[gone].tolist())
        self._rows.keep(~gone)

    def _fill(self) -> None:
        """Let others take the places of own searches that ended, if many did."""
        left = len(self._rows.ids) - self._strangers
        if left < OWN_SEARCHES // 2 and left < self._store.templates.count(self._tower.id):
            self.recompute()

    def renamed(self, *names: str) -> None:
        """Account for names that identities have now, or had."""
        self._look_again([i for name in set(names) for i in self._by_name.get(name, ())])

    def _look_again(self, at: Sequence[int] | NDArray[np.int64]) -> None:
        self._resolve([i for i in at if i < self._strangers])
        self._search(np.asarray(at, np.int64))
        self._write(np.asarray(at, np.int64))

    def recompute(self) -> None:
        """Search for everybody anew: with another tower, other strangers, another fusion."""
        self._rows = self._anew()
        self._register()
        self._store.impostors.drop_all_own(self._tower.id)
        self._write(np.arange(len(self._rows.ids)))

    def stale(self) -> int:
        """Return how many searches are not what a new search finds."""
        stored = self._rows
        found = self._anew(members=stored.ids[self._strangers :])
        if not np.array_equal(stored.ids, found.ids):  # as they are read: by id
            return len(set(stored.ids.tolist()) ^ set(found.ids.tolist())) or len(found.ids)
        lost = self._store.impostors.own_count(self._tower.id) - (len(stored.ids) - self._strangers)
        same = [
            np.isclose(getattr(stored, c), getattr(found, c), rtol=0, atol=1e-6, equal_nan=True)
            for c in ("distance", "own", "mate")
        ]
        return int(np.sum(~np.all(same, axis=0))) + lost

    def rows(self, fusion: Fusion) -> SearchRows:
        """Return what the searches would be under another fusion, without keeping it."""
        rows = self._anew(fusion)
        met = np.flatnonzero(rows.nearest >= 0)
        strangers = itertools.chain(rows.names, itertools.repeat(""))
        every = [name if own < 0 else enrolled(own) for name, own in zip(strangers, rows.own.tolist(), strict=False)]
        sources = rows.sources + ["gallery"] * (len(rows.ids) - len(rows.names))
        return SearchRows(
            rows.distance[met],
            tuple(every[i] for i in met),
            tuple(sources[i] for i in met),
            rows.mate[met],
            rows.own[met],
            rows.nearest[met],
            rows.ids[met],
        )

    # -- how -------------------------------------------------------------------------------------

    @property
    def _strangers(self) -> int:
        return len(self._rows.names)

    def _compare(self, identities: NDArray[np.int64], fusion: Fusion) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Move searches to identities that have other templates than before where these are nearer.

        Returns which searches moved, and which must look again: their nearest is farther than it was,
        or the same picture under another name.
        """
        rows = self._rows
        moved, again = np.zeros(len(rows.ids), bool), np.zeros(len(rows.ids), bool)
        of_each = self._store.templates.of_each(self._tower.id, self._tower.dimension, np.unique(identities).tolist())
        groups = np.array(sorted(of_each), np.int64)
        if not len(groups):
            return moved, again
        parts = [of_each[g][1] for g in groups.tolist()]
        identities, vectors = np.repeat(groups, [len(p) for p in parts]), np.concatenate(parts)
        order = np.argsort(identities, kind="stable")
        starts = np.searchsorted(identities[order], groups)
        templates = vectors[order]
        ends = np.append(starts[1:], len(templates))
        step = max(1, _BLOCK // max(1, len(templates)))
        for first in range(0, len(rows.ids), step):
            part = slice(first, first + step)
            distance = all_distances(rows.vectors[part], templates)
            fused = fused_by_identity(distance, starts, fusion)
            same = fused_by_identity(distance, starts, "best") < 2 * SAME_PICTURE
            known, mine = rows.nearest[part, None] == groups[None], rows.own[part, None] == groups[None]
            same &= ~mine
            fused[mine | same] = np.inf
            at = fused.argmin(axis=1)
            farther = (known & (fused > rows.distance[part, None] + 1e-6)).any(axis=1)
            again[part] = farther | same.any(axis=1)
            for i in np.flatnonzero((fused[np.arange(len(at)), at] < rows.distance[part]) & ~again[part]).tolist():
                g = at[i]
                # By subtraction, as an answer is: tau must equal the distance that a stranger is told.
                exact = to_identity(rows.vectors[first + i], templates[starts[g] : ends[g]], fusion)
                rows.nearest[first + i], rows.distance[first + i] = groups[g], exact
                moved[first + i] = True
        return moved, again

    def _approached(
        self,
        identities: NDArray[np.int64],
        vectors: Vectors,
        at: NDArray[np.int64],
        squared: NDArray[np.float32],
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """As `_compare` where the nearest template alone decides, of those `comparing` found: none can be farther."""
        rows = self._rows
        moved = np.zeros(len(rows.ids), bool)
        mine = identities[at] == rows.own[:, None]
        same = ~mine & (squared < (2 * SAME_PICTURE) ** 2 + scan.BLUR)
        again = same.any(axis=1) | (mine.all(axis=1) & (at.shape[1] < len(vectors)))
        hopeful = ~mine & (squared <= np.square(rows.distance)[:, None] + scan.BLUR)
        some = np.flatnonzero(hopeful.any(axis=1) & ~again)
        # By subtraction, as an answer is: tau must equal the distance that a stranger is told.
        exact = distances(vectors[at[some]], rows.vectors[some, None, :])
        exact[~hopeful[some]] = np.inf
        first = exact.argmin(axis=1)
        nearer = np.flatnonzero(exact.min(axis=1, initial=np.inf) < rows.distance[some])
        first, some = first[nearer], some[nearer]
        rows.distance[some], rows.nearest[some] = exact[nearer, first], identities[at[some, first]]
        moved[some] = True
        return moved, again

    def _resolve(self, at: Sequence[int]) -> None:
        """Find out which of the strangers are enrolled."""
        rows = self._rows
        if at:
            rows.own[at] = enrolled_as(self._store, [rows.names[i] for i in at], [rows.digests[i] for i in at])

    def _search(self, at: NDArray[np.int64]) -> None:
        if len(at):
            self._refresh(self._store.settings().fusion)
            rows = self._rows
            rows.nearest[at], rows.distance[at] = self._searcher.nearest_other(rows.vectors[at], rows.own[at])

    def _refresh(self, fusion: Fusion) -> None:
        self._searcher.refresh(self._store.revision(), self._store.settings().identities, fusion)

    def _update_genuine_distances(self, at: NDArray[np.int64], fusion: Fusion) -> None:
        """Measure own searches against the other templates of their identities."""
        rows = self._rows
        rows.mate[at] = np.nan
        if not len(at):
            return
        identities = list(set(rows.own[at].tolist()))
        of_each = self._store.templates.of_each(self._tower.id, self._tower.dimension, identities, least=2)
        for i in at.tolist() if of_each else ():
            if int(rows.own[i]) in of_each:
                ids, vectors = of_each[int(rows.own[i])]
                others = vectors[ids != rows.ids[i]]
                if len(others):
                    rows.mate[i] = to_identity(rows.vectors[i], others, fusion)

    def _join(
        self, templates: NDArray[np.int64], identities: NDArray[np.int64], vectors: Vectors, fusion: Fusion
    ) -> None:
        """Let new templates search as well, as far as there is room; the part that searches stays a random one."""
        rows, first = self._rows, self._strangers
        room = OWN_SEARCHES - (len(rows.ids) - first)
        if room >= len(templates):
            at = self._rows.append(templates, identities, vectors)
        else:
            hashes = np.concatenate([_sampling_hash(rows.ids[first:]), _sampling_hash(templates)])
            stays = np.zeros(len(hashes), bool)
            stays[np.argsort(hashes, kind="stable")[:OWN_SEARCHES]] = True
            new = np.flatnonzero(stays[len(rows.ids) - first :])
            places = first + np.flatnonzero(~stays[: len(rows.ids) - first])  # of those that make room
            self._store.impostors.drop_own(rows.ids[places].tolist())
            swapped = min(len(new), len(places))
            at, new, rest = places[:swapped], new[:swapped], new[swapped:]
            rows.ids[at], rows.own[at], rows.vectors[at] = templates[new], identities[new], vectors[new]
            at = np.concatenate([at, self._rows.append(templates[rest], identities[rest], vectors[rest])])
        self._search(at)
        self._update_genuine_distances(at, fusion)
        self._write(at)

    def _anew(self, fusion: Fusion | None = None, members: NDArray[np.int64] | None = None) -> SearchTable:
        """Return the searches as a look at everybody finds them, by the templates `members` or a new random part."""
        kept, fusion = self._rows, fusion or self._store.settings().fusion
        strangers = self._store.impostors.strangers(self._tower.id, self._tower.dimension)
        templates, identities, vectors = self._store.templates.after(self._tower.id, self._tower.dimension, 0)
        if members is None:
            chosen = np.sort(np.argsort(_sampling_hash(templates), kind="stable")[:OWN_SEARCHES])
        else:
            chosen = np.flatnonzero(np.isin(templates, members))
        n, m = len(strangers.ids), len(chosen)
        try:
            self._rows = rows = SearchTable(
                list(strangers.names),
                list(strangers.digests),
                list(strangers.sources),
                np.concatenate([strangers.ids, templates[chosen]]),
                np.concatenate([strangers.vectors, vectors[chosen]]),
                np.concatenate([np.full(n, -1), identities[chosen]]),
                np.full(n + m, -1),
                np.full(n + m, np.inf),
                np.full(n + m, np.nan),
            )
            self._resolve(range(n))
            self._refresh(fusion)
            rows.nearest, rows.distance = self._searcher.nearest_other(rows.vectors, rows.own)
            self._update_genuine_distances(np.arange(n, n + m), fusion)
        finally:
            self._rows = kept
        return rows

    def _write(self, at: NDArray[np.int64]) -> None:
        rows, tower = self._rows, self._tower.id
        first, own = at[at < self._strangers], at[at >= self._strangers]
        self._store.impostors.set_nearest(
            tower, rows.ids[first], rows.own[first], rows.nearest[first], rows.distance[first]
        )
        self._store.impostors.set_own(
            tower,
            OwnRows(
                rows.ids[own], rows.own[own], rows.vectors[own], rows.nearest[own], rows.distance[own], rows.mate[own]
            ),
        )


def _sampling_hash(templates: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a number for each template that has nothing to do with when it came (Knuth's multiplicative hash)."""
    return (templates.astype(np.uint64) * np.uint64(2654435761)) % np.uint64(1 << 32)
