"""Nearest templates, exactly: a cached, memory-mapped FAISS base and a fresh tail.

The base is a file that can be deleted at any time. The tail is what was enrolled since, read from
SQLite. What was removed since is still in both, and is left out of what is found.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import xxhash
from numpy.typing import NDArray

from .errors import SiameseIndexError
from .files import cache_folder, replacing
from .store import Store
from .vectors import Vectors, distances

BASE_MINIMUM = 4096  # below this many templates reading them from SQLite is as fast as a cache
_THREADS = faiss.omp_get_max_threads()  # for batches; one probe is answered sooner by one thread
_MAGIC = b"SIDXBAS2"
_DIGEST = 16  # bytes of XXH3-128 at the very end, over everything before them

# FAISS turns a batch of probes into one matrix product only above this many nq * d (128,000 in 1.15):
# far too late on flat indexes. The knob's meaning has changed before, so it is set where it is known.
if hasattr(faiss.cvar, "distance_compute_blas_threshold") and faiss.cvar.distance_compute_blas_threshold > 1024:
    faiss.cvar.distance_compute_blas_threshold = 1024


@dataclass(frozen=True)
class Found:
    """Nearest templates, nearest first, equals by id: (n, k) each."""

    templates: NDArray[np.int64]
    identities: NDArray[np.int64]  # -1: no longer enrolled
    distances: NDArray[np.float64]


@dataclass(frozen=True)
class _Stamp:
    """What a base was made from."""

    tower: str
    revision: int
    token: str
    dimension: int
    count: int
    last: int  # highest template id
    index_bytes: int


class _Rows(NamedTuple):
    ids: NDArray[np.int64]
    owners: NDArray[np.int64]  # identity ids
    vectors: Vectors


class Index:
    """The templates of one tower in one gallery, kept up with its revision."""

    def __init__(self, gallery: Path, tower_row: int, tower: str, dimension: int) -> None:
        self.folder = cache_folder(gallery)
        self._file = self.folder / f"{tower[:16]}.faiss"
        self._row, self._tower, self._dimension = tower_row, tower, dimension
        self._seen: tuple[int, bytes] | None = None
        self._clear()

    def _clear(self) -> None:
        self._base: Any = None  # faiss.IndexFlatL2, memory-mapped
        self._base_ids = np.zeros(0, np.int64)
        self._base_owners = np.zeros(0, np.int64)
        self._base_rows: Vectors = np.zeros((0, self._dimension), np.float32)
        self._last = 0
        self._tail: list[_Rows] = []
        self._tail_index = faiss.IndexFlatL2(self._dimension)
        self._since = 0  # the revision of which the oldest rows are
        self._removed = np.zeros(0, np.int64)  # identities that went since

    def __len__(self) -> int:
        return len(self._base_ids) + int(self._tail_index.ntotal)

    def refresh(self, store: Store, revision: tuple[int, bytes]) -> None:
        """Catch up with the gallery's `revision`. Call it inside the transaction that found it."""
        if revision == self._seen:
            return
        if self._seen is None or (self._seen[0] and store.token_of(self._seen[0]) != self._seen[1]):
            self._clear()  # first use, or another history: a backup was restored
            self._open_base(store)
            self._since = self._since or revision[0]
        rows = _Rows(*store.templates_after(self._row, self._dimension, self._last))
        if len(rows.ids):
            self._tail.append(rows)
            self._tail_index.add(rows.vectors)
            self._last = int(rows.ids[-1])
        self._removed = store.removed_since(self._since)
        self._seen = revision

    def settle(self, store: Store) -> None:
        """Write a new base when the tail has grown. Call it inside `store.reading()`, never before a commit."""
        if self._tail_index.ntotal > max(BASE_MINIMUM, len(self._base_ids) // 4):
            self._rebase(store)

    def search(self, probes: Vectors, k: int) -> Found:
        """Return the k nearest templates of each probe; k at most `len(self)`."""
        parts = []
        faiss.omp_set_num_threads(1 if len(probes) == 1 else _THREADS)
        if self._base is not None:
            at = self._base.search(probes, min(k, len(self._base_ids)))[1]
            parts.append((self._base_ids[at], self._base_owners[at], self._base_rows[at]))
        if self._tail_index.ntotal:
            if len(self._tail) > 1:  # joined when first searched, not at each enrollment
                self._tail = [_Rows(*(np.concatenate(columns) for columns in zip(*self._tail, strict=True)))]
            ids, owners, rows = self._tail[0]
            at = self._tail_index.search(probes, min(k, len(ids)))[1]
            parts.append((ids[at], owners[at], rows[at]))
        if not parts:
            nothing = np.zeros((len(probes), 0), np.int64)
            return Found(nothing, nothing, np.zeros((len(probes), 0)))
        ids, owners, rows = (
            parts[0] if len(parts) == 1 else (np.concatenate(c, axis=1) for c in zip(*parts, strict=True))
        )
        exact = distances(rows, probes[:, None, :])
        for i in np.flatnonzero((exact[:, 1:] <= exact[:, :-1]).any(axis=1)):
            order = np.lexsort((ids[i], exact[i]))
            ids[i], owners[i], exact[i] = ids[i][order], owners[i][order], exact[i][order]
        ids, owners, exact = ids[:, :k], owners[:, :k], exact[:, :k]
        if len(self._removed):
            owners = np.where(np.isin(owners, self._removed), -1, owners)
        return Found(ids, owners, exact)

    # -- the cached base ----------------------------------------------------------------------

    def problem(self, store: Store) -> str | None:
        """Return why the cached base cannot be used, or None (also when there is none)."""
        if not self._file.exists():
            return None
        return None if self._read_stamp(store) else f"{self._file.name} is torn, stale or of another gallery"

    def _open_base(self, store: Store) -> None:
        before = _inode(self._file)
        stamp = self._read_stamp(store)
        if stamp is None:
            return
        try:
            base: Any = faiss.read_index(str(self._file), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError:
            return
        if _inode(self._file) != before or (base.ntotal, base.d) != (stamp.count, stamp.dimension):
            return  # replaced while we looked: the tail will hold everything
        self._base, self._last, self._since = base, stamp.last, stamp.revision
        both = np.memmap(self._file, np.int64, "r", stamp.index_bytes, (2, stamp.count))
        # A memmap's own indexing costs as much as the search of 1,000 templates.
        self._base_ids, self._base_owners = both.view(np.ndarray)
        self._base_rows = faiss.rev_swig_ptr(base.get_xb(), stamp.count * stamp.dimension).reshape(stamp.count, -1)

    def _read_stamp(self, store: Store) -> _Stamp | None:
        """Return the stamp of a base that is whole and of this gallery and tower, else None."""
        try:
            content = np.memmap(self._file, np.uint8, "r")
            end = len(content) - _DIGEST
            if bytes(content[end - 8 : end]) != _MAGIC:
                return None
            if xxhash.xxh3_128(content[:end].data).digest() != bytes(content[end:]):
                return None
            length = int.from_bytes(bytes(content[end - 16 : end - 8]), "little")
            stamp = _Stamp(**json.loads(bytes(content[end - 16 - length : end - 16])))
        except (OSError, ValueError, TypeError):
            return None
        ours = (stamp.tower, stamp.dimension) == (self._tower, self._dimension)
        token = store.token_of(stamp.revision)
        whole = stamp.index_bytes + 16 * stamp.count == end - 16 - length
        return stamp if ours and whole and token is not None and token.hex() == stamp.token else None

    def _rebase(self, store: Store) -> None:
        """Write a new base of everything enrolled. A cache that cannot be written is done without."""
        revision, token = store.revision()
        rows = _Rows(*store.templates_after(self._row, self._dimension, 0))
        with contextlib.suppress(OSError, SiameseIndexError):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            write_base(self._file, self._tower, revision, token, *rows)
            self._clear()
            self._open_base(store)
        if self._base is None:
            self._clear()
            self._tail = [rows]
            self._tail_index.add(rows.vectors)
            self._last = int(rows.ids[-1]) if len(rows.ids) else 0
            self._since = revision
        self._removed = store.removed_since(self._since)


def write_base(
    path: Path,
    tower: str,
    revision: int,
    token: bytes,
    ids: NDArray[np.int64],
    owners: NDArray[np.int64],
    vectors: Vectors,
) -> None:
    """Replace the base file durably: FAISS index, ids and owners (int64), stamp (JSON), its length, magic, digest."""
    flat = faiss.IndexFlatL2(vectors.shape[1])
    flat.add(vectors)
    with replacing(path) as temporary:
        faiss.write_index(flat, str(temporary))
        size = temporary.stat().st_size
        stamp = _Stamp(tower, revision, token.hex(), vectors.shape[1], len(ids), int(ids[-1]), size)
        footer = json.dumps(asdict(stamp)).encode()
        with temporary.open("ab") as file:
            file.write(ids.tobytes() + owners.tobytes() + footer + len(footer).to_bytes(8, "little") + _MAGIC)
        digest = xxhash.xxh3_128(np.memmap(temporary, np.uint8, "r").data).digest()
        with temporary.open("ab") as file:
            file.write(digest)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
