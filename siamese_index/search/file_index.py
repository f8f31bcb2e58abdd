"""Nearest templates: a cached base and a fresh tail.

The base is a file that can be deleted at any time. The tail is what was enrolled since, read from the
gallery or taken in as it was enrolled. What was removed since, or is somebody else's now, is still in both, and is
left out of what is found.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import files
from siamese_index.errors import Missing
from siamese_index.vectors import Vectors, distances

from . import scan
from .cache import Base, Rows, Torn, write_base
from .result import Radius, SearchResult, nearest_of, scanned

if TYPE_CHECKING:
    import subprocess

    from siamese_index.store.store import Store

    from .coarse import Coarse


BASE_MINIMUM = 4096  # below this many templates reading them from SQLite is as fast as a cache
_Mask = NDArray[np.bool_] | None  # rows to look at; None for all
_Masks = tuple[_Mask, Sequence[_Mask]]  # of the base, of each block of the tail
FETCHED = 1024  # templates that a coarse image finds
CLOSELY = 48  # of these are looked at closely at least
_READ = 65_536  # rows of the tail at a time
_BLOCK = 16_384  # rows of the tail that are a block of their own


class FileIndex:
    """The templates of one tower in one gallery, kept up with its revision."""

    def __init__(self, store: Store, gallery: Path, tower_row: int, tower: str, dimension: int) -> None:
        self._store, self._gallery = store, gallery
        self.folder = files.cache_folder(gallery)
        self._slots = [self.folder / f"{tower[:16]}{n}.base" for n in ("", "-2")]
        self._row, self._tower, self._dimension = tower_row, tower, dimension
        self._seen: tuple[int, bytes] | None = None
        self._rebuilding: subprocess.Popen[bytes] | None = None
        self._tried = False  # to have a new base written, and there is none yet
        self._clear()

    def _clear(self) -> None:
        self._base: Base | None = None
        self._inode: int | None = None  # of the file that was looked at last
        self._last = 0
        self._tail = _Tail(self._dimension)
        self._since = 0  # the revision of which the oldest rows are
        self._removed = self._gone = np.zeros(0, np.int64)  # identities that went since, and templates
        self._only: tuple[NDArray[np.int64], _Masks] | None = None

    @property
    def _file(self) -> Path:
        """The cached base: the newest."""
        return max(self._slots, key=_written)

    def __len__(self) -> int:
        return self._in_base + len(self._tail)

    @property
    def _in_base(self) -> int:
        return len(self._base) if self._base else 0

    @property
    def coarse(self) -> bool:
        """Whether a search that is not told to be exact may miss something beyond its reach."""
        return self._base is not None and self._base.stamp.coarse_bytes > 0

    def refresh(self, revision: tuple[int, bytes]) -> None:
        """Catch up with the gallery's `revision`. Call it inside the transaction that found it."""
        if revision == self._seen:
            return
        if self._seen is None or (self._seen[0] and self._store.token_of(self._seen[0]) != self._seen[1]):
            self._clear()  # first use, or another history: a backup was restored
            self._open_base()
            self._since = self._since or revision[0]
        self._read_tail()
        self._look_for_lost()
        self._seen, self._only = revision, None

    def add(
        self,
        before: tuple[int, bytes],
        revision: tuple[int, bytes],
        ids: NDArray[np.int64],
        owners: NDArray[np.int64],
        vectors: Vectors,
    ) -> None:
        """Take in the templates (ids, owners, vectors) that make `revision` of the gallery at `before`.

        They need not be read back, if it is `before` that was seen. Should their transaction be taken back,
        the next `refresh` finds that it knows another history.
        """
        if self._seen == before:
            self._tail.add(ids, owners, vectors)
            self._last, self._seen, self._only = int(ids[-1]), revision, None

    def rebuild_if_stale(self) -> None:
        """See to a new base when the tail has grown. Call it inside `store.reading()`, never before a commit.

        A small one is written at once. A large one is left to a process of its own, and taken over when
        it is there; until then the tail is scanned.
        """
        if self._rebuilding or (len(self._tail) > BASE_MINIMUM and _inode(self._file) not in (None, self._inode)):
            self._take_over()
        if len(self) * self._dimension * 4 <= scan.SCANNED:
            if len(self._tail) > max(BASE_MINIMUM, self._in_base // 4):
                with contextlib.suppress(Missing):  # a cache that cannot be written is done without
                    self.rebuild()
        elif len(self._tail) > max(BASE_MINIMUM, self._in_base // 32) and self._may_rebuild():
            import subprocess  # small galleries need none

            self._tried = True
            with contextlib.suppress(OSError):
                self._rebuilding = subprocess.Popen(
                    [sys.executable, "-P", "-m", "siamese_index.rebuild", str(self._gallery)],
                    env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},  # spinning threads take cores from searches
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )

    def rebuild(self, progress: Callable[[int], None] | None = None) -> None:
        """Write a new base of everything enrolled. Raises Missing if it cannot be.

        Outside `store.reading()` nobody waits for it: ids only grow, and whoever is removed meanwhile is known by the
        revision that it began at.
        """
        with self._store.reading():
            revision, last = self._store.revision(), self._store.database.last("template")
        chunks = _up_to(last, self._store.templates.chunks(self._row, self._dimension, 0))
        first = next(chunks, None)
        if first is None:
            return
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise files.refused(self.folder, error, "written") from None
        # Windows replaces no file that is mapped: there the older of two is written, which nobody maps for long.
        to = min(self._slots, key=_written) if files.WINDOWS else self._slots[0]
        rows = itertools.chain([first], chunks)
        write_base(to, self._tower, revision, self._dimension, rows, progress, lambda: self._unless_purged(revision[0]))
        with self._store.reading():
            self._reopen()

    @contextlib.contextmanager
    def _unless_purged(self, since: int) -> Iterator[None]:
        """Raise Missing if something was purged since a revision: what was read before may hold it."""
        with self._store.reading():
            if self._store.events.horizon() > since:
                raise Missing(
                    f"{self._gallery}: something was purged while its index was written.", remedy="Run it again."
                )
            yield

    def described(self) -> tuple[str, str]:
        """Return how the nearest are found, and why so."""
        vectors = 4 * self._dimension * len(self)
        size = f"{vectors / 1e6:,.0f} MB of vectors"
        if self.coarse:
            return "coarse image, then the vectors themselves", f"to scan {size} takes more than about 5 ms"
        if vectors > scan.SCANNED:
            return "scan", f"{size} would be found faster in a coarse image, which is not there yet"
        return "scan", f"{size} are scanned in less than about 5 ms"

    def sizes(self) -> tuple[int, int, int, int]:
        """Return templates in the base and in the tail, and bytes of the file and of what a search looks at."""
        size = self._base.size if self._base else 0
        looked_at = self._base.searched_bytes if self._base else 0
        return self._in_base, len(self._tail), size, looked_at + 4 * self._dimension * len(self._tail)

    def search(
        self,
        probes: Vectors,
        k: int,
        *,
        exact: bool = True,
        radius: Radius = None,
        only: NDArray[np.int64] | None = None,
    ) -> SearchResult:
        """Return the k nearest templates of each probe; k at most `len(self)`.

        Unless `exact`, from a coarse image where there is one, with an effort to miss nobody within
        `radius`; `reach` says how far it can be relied on. `only` are the identities (ascending ids) to
        search among.
        """
        try:
            return self._search(probes, k, exact or only is not None, radius, self._masks(only))
        except Torn:
            with contextlib.suppress(OSError):
                self._file.unlink()
            self._reopen(trusting=False)
            return self._search(probes, k, True, radius, self._masks(only))

    def _search(self, probes: Vectors, k: int, exact: bool, radius: Radius, masks: _Masks) -> SearchResult:
        parts = []
        if self._base:
            self._base.check_untouched()
        if self._base and self._base.coarse and not exact:
            parts.append(self._looked_at(self._base, self._base.coarse, probes, k, radius))
            parts.append(scanned(*self._base.kept_aside, probes, k, None))
        elif self._base:
            parts.append(scanned(self._base.ids, self._base.owners, self._base.rows, probes, k, masks[0]))
        for block, mask in zip(self._tail.blocks, masks[1], strict=True):
            parts.append(scanned(*block, probes, k, mask))
        if not parts:
            nothing = np.zeros((len(probes), 0), np.int64)
            return SearchResult(nothing, nothing, np.zeros((len(probes), 0)), np.full(len(probes), np.inf))
        return nearest_of(parts, k, self._removed, self._gone)

    def _looked_at(self, base: Base, image: Coarse, probes: Vectors, k: int, radius: Radius) -> SearchResult:
        """Find rows in the coarse image, and look closely at as many as can matter to the verdict."""
        at, least, beyond = image.search(probes, max(FETCHED, k))
        closely = min(max(CLOSELY, k), at.shape[1])
        exactly = distances(base.rows_at(at[:, :closely]), probes[:, None, :])
        nearest = exactly.min(axis=1)
        needed = radius(nearest) if radius else np.full(len(probes), np.inf)
        more = int((least <= needed[:, None]).sum(axis=1).max())
        if more > closely:
            rest = distances(base.rows_at(at[:, closely:more]), probes[:, None, :])
            exactly, closely = np.concatenate([exactly, rest], axis=1), more
        reach = np.minimum(beyond, least[:, closely]) if closely < at.shape[1] else beyond
        at = at[:, :closely]
        exactly[base.is_aside[at]] = np.inf  # these are looked at always, and once is enough
        return SearchResult(base.ids[at], np.where(np.isinf(exactly), -1, base.owners[at]), exactly, reach)

    def _masks(self, only: NDArray[np.int64] | None) -> _Masks:
        """Return which rows of base and tail are of the identities `only`."""
        blocks = self._tail.blocks
        if only is None:
            return None, [None] * len(blocks)
        if self._only is None or self._only[0] is not only:
            base = np.isin(self._base.owners, only) if self._base else None
            self._only = only, (base, [np.isin(owners, only) for _, owners, _ in blocks])
        return self._only[1]

    # -- the cached base ----------------------------------------------------------------------

    def problem(self) -> str | None:
        """Return why the cached base cannot be used, or None (also when there is none)."""
        if not self._file.exists():
            return None
        base = self._usable()
        try:
            if base and len(base.rows):
                return None
        except Torn:
            pass
        return f"{self._file.name} is torn, stale or of another gallery"

    def _usable(self) -> Base | None:
        """Return the base if it is whole (but for its vectors) and of this gallery and tower."""
        try:
            base = Base(self._file)
            if not base.stamp.coarse_bytes:
                _ = base.rows  # they are all read at each search anyway
        except (OSError, Torn):
            return None
        token = self._store.token_of(base.stamp.revision)
        ours = (base.stamp.tower, base.stamp.dimension) == (self._tower, self._dimension)
        return base if ours and token is not None and token.hex() == base.stamp.token else None

    def _open_base(self) -> None:
        self._inode = _inode(self._file)
        self._base = self._usable()
        if self._base:
            self._last, self._since = self._base.stamp.last, self._base.stamp.revision

    def _read_tail(self) -> None:
        for rows in self._store.templates.chunks(self._row, self._dimension, self._last, _READ):
            self._tail.add(*rows)
            self._last = int(rows[0][-1])

    def _reopen(self, trusting: bool = True) -> None:
        """Look at the file anew, unless it is not to be trusted; what it does not hold is the tail."""
        seen = self._seen
        self._clear()
        if trusting:
            self._open_base()
        else:
            self._inode = _inode(self._file)
        self._since = self._since or self._store.revision()[0]
        self._read_tail()
        self._look_for_lost()
        self._seen = seen

    def _look_for_lost(self) -> None:
        self._removed = self._store.removed_since(self._since)
        self._gone = np.array(self._store.events.gone_since(self._since), np.int64)

    def _may_rebuild(self) -> bool:
        """Whether a process of its own is worth a try: one that failed will fail again."""
        return not self._tried and os.access(self._gallery.parent, os.W_OK)

    def _take_over(self) -> None:
        """Use the base that a process of its own wrote, if it is there by now."""
        if self._rebuilding and self._rebuilding.poll() is not None:
            self._rebuilding = None
        if _inode(self._file) not in (None, self._inode):
            self._tried = False
            self._reopen()

    def close(self) -> None:
        """Leave a rebuilding process to itself."""
        if self._rebuilding and self._rebuilding.poll() is None:
            self._rebuilding.returncode = 0  # else the interpreter complains that nobody waits for it


class _Tail:
    """Rows that are added to: many as they come, few to a block that grows; so none is copied often."""

    def __init__(self, dimension: int) -> None:
        self._nothing: Rows = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, dimension), np.float32)
        self._closed: list[Rows] = []
        self._open, self._filled = self._nothing, 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def blocks(self) -> list[Rows]:
        """All rows (ids, owners, vectors)."""
        return [*self._closed, _cut(self._open, self._filled)] if self._filled else self._closed

    def add(self, ids: NDArray[np.int64], owners: NDArray[np.int64], vectors: Vectors) -> None:
        count, held = len(ids), self._filled
        self._count += count
        if count >= _BLOCK:
            self._closed.append((ids, owners, vectors))
            return
        if held + count > len(self._open[0]):
            columns, room = _cut(self._open, held), 2 * (held + count)
            self._open = _with_room(columns[0], room), _with_room(columns[1], room), _with_room(columns[2], room)
        place = slice(held, held + count)
        self._open[0][place], self._open[1][place], self._open[2][place] = ids, owners, vectors
        self._filled += count
        if self._filled >= _BLOCK:
            self._closed.append(_cut(self._open, self._filled))
            self._open, self._filled = self._nothing, 0


def _up_to(last: int, chunks: Iterator[Rows]) -> Iterator[Rows]:
    """Yield rows with template ids of at most `last`."""
    for ids, owners, vectors in chunks:
        count = int(np.searchsorted(ids, last, side="right"))
        if count:
            yield ids[:count], owners[:count], vectors[:count]
        if count < len(ids):
            return


def _cut(rows: Rows, count: int) -> Rows:
    return rows[0][:count], rows[1][:count], rows[2][:count]


def _with_room(column: NDArray[Any], room: int) -> NDArray[Any]:
    grown = np.empty((room, *column.shape[1:]), column.dtype)
    grown[: len(column)] = column
    return grown


def _written(path: Path) -> int:
    """Return when a file was written, in ns; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
