"""What a training reads: samples decoded when they are needed, in parallel, within a budget of memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Gallery, Missing, NoSubject, NotInstalled, SiameseIndexError, Unreadable
from siamese_index.files import read_at
from siamese_index.samples import images, sources, tables
from siamese_index.samples.faces import FaceFinder, template
from siamese_index.samples.framing import Frame, refuse_frame
from siamese_index.samples.items import Item, Items
from siamese_index.vectors import unpack

from .progress import OnProgress

CACHE = 512 << 20  # bytes of decoded samples that are kept
CHUNK = 64  # samples that a thread reads at once
UNKNOWN = -1
Duplicates = Literal["leave-out", "refuse"]  # the same picture under two names


@dataclass(frozen=True)
class Source:
    """Items, and the pairs among them when the data are a list of pairs."""

    items: Items
    pairs: NDArray[np.int64] | None = None  # (m, 2) positions in `items`
    labels: NDArray[np.float32] | None = None  # (m,) 1: the same, 0: not; between: how alike they are
    hard: frozenset[str] = frozenset()  # identities that were answered wrongly: they come up more often
    taught: frozenset[str] = frozenset()  # identities that a tower before learned from: they are not held out

    @property
    def graded(self) -> bool:
        """Whether the labels of its pairs say how alike two samples are, not whether they are the same."""
        return self.labels is not None and bool(np.any((self.labels > 0) & (self.labels < 1)))

    def within(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the pairs (k, 2) of which both samples are among `positions`, and their labels (k,)."""
        if self.pairs is None or self.labels is None:
            return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
        both = np.isin(self.pairs, positions).all(axis=1)
        return self.pairs[both], self.labels[both]


def source(data: str | Path) -> Source:
    """Return what `data` names: as `sources.items`, or a table of pairs, tfds:NAME, or a gallery's pictures.

    Raises Missing, BadInput, or NotInstalled for tfds: without tensorflow-datasets.
    """
    if str(data).startswith("tfds:"):
        return Source(_tfds(str(data).removeprefix("tfds:")))
    if tables.is_pairs(data):
        listed = tables.pairs(data)
        return Source(listed.items, listed.positions, listed.labels)
    if _is_gallery(Path(data)):
        with Gallery.open(data) as opened:
            return Source(enrolled(opened)[0])
    return Source(sources.items(data))


def without(items: Items, names: Set[str]) -> Items:
    """Return the items that are of nobody of these names."""
    kept = [i for i, name in enumerate(items.names) if name not in names]
    if len(kept) == len(items):
        return items
    return Items([items.names[i] for i in kept], lambda i: items[kept[i]][1], left_out=items.left_out)


def enrolled(gallery: Gallery, without: Set[str] = frozenset()) -> tuple[Items, NDArray[np.int64]]:
    """Return the gallery's kept samples, but of some, and their ids (n,). Others may write meanwhile."""
    ids: list[int] = []

    def kept() -> Iterator[Item]:
        with gallery.reading() as state:
            store = state.store
        for sample, name, picture in store.pictures():
            if picture is not None and name not in without:
                ids.append(sample)
                yield name, picture

    return spooled(kept()), np.array(ids, np.int64)


def spooled(rows: Iterable[Item]) -> Items:
    """Return items that come one after the other, copied to where they can be read in any order.

    That is a nameless temporary file, readable by its owner only: they may be more than memory holds.
    """
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the items
    names: list[str] = []
    places: list[tuple[int, int]] = []
    for name, sample in rows:
        data = images.read(sample)
        names.append(name)
        places.append((spool.tell(), len(data)))
        spool.write(data)
    spool.flush()
    items = Items(names, lambda i: read_at(spool.fileno(), places[i][1], places[i][0]))
    weakref.finalize(items, spool.close)
    return items


class Data:
    """The samples of one training, by their position in the source.

    `whose` is int32 (n,): the position of each sample's identity in `names`, UNKNOWN for what is
    left out: what cannot be read, and the same bytes under two names: on whichever sides of the split
    they fell, a tower would learn or be measured on what is not so. Raises BadInput for those where
    `duplicates` is "refuse".
    """

    def __init__(
        self,
        items: Items,
        shape: tuple[int, ...],
        on_progress: OnProgress,
        budget: int = CACHE,
        frame: Frame | None = None,
        duplicates: Duplicates = "leave-out",
    ) -> None:
        self.items, self.shape = items, shape
        self.frame = frame or Frame("whole", *(shape if len(shape) == 3 else (1, 1, 1)))
        self.names = tuple(sorted(set(items.names)))
        self.dtype = np.uint8 if len(shape) == 3 else np.float32
        room = min(len(items), budget // (int(np.prod(shape)) * np.dtype(self.dtype).itemsize))
        self._cache = np.empty((room, *shape), self.dtype)
        self._workers = os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self._workers)
        self.digests = np.zeros((len(items), 32), np.uint8)  # SHA-256
        self.left_out: list[str] = []
        self.unreadable: set[int] = set()  # positions
        index = {name: i for i, name in enumerate(self.names)}
        self.whose = np.array([index[name] for name in items.names], np.int32)
        self._read_all(on_progress)
        self._leave_out_doubles(duplicates)
        self._refuse_nothing()

    def __len__(self) -> int:
        return len(self.whose)

    def take(self, positions: Any) -> NDArray[Any]:
        """Return samples (k, *shape): uint8 pixels or float32 numbers."""
        positions = np.asarray(positions, np.int64)
        taken = np.empty((len(positions), *self.shape), self.dtype)
        kept = positions < len(self._cache)
        taken[kept] = self._cache[positions[kept]]

        def read(part: NDArray[np.int64]) -> None:
            for k in part.tolist():
                taken[k] = self._sample(int(positions[k]))[1]

        missing = np.flatnonzero(~kept)
        if len(missing):
            list(self._threads.map(read, np.array_split(missing, min(self._workers, len(missing)))))
        return taken

    def one_view(self, positions: Any, rng: np.random.Generator) -> NDArray[Any]:  # noqa: ARG002
        """Return samples (k, *shape), whose changes come later."""
        return self.take(positions)

    def _sample(self, position: int) -> tuple[bytes, NDArray[Any]]:
        """Return a sample's bytes as they came in, and what the tower takes."""
        data = images.read(self.items[position][1])
        if len(self.shape) == 3:
            found = self.frame.subjects(data)
            if not found:
                raise NoSubject("There is no face in the picture.")
            return data, np.asarray(found[0].taken, np.uint8)
        vector = unpack(data).astype(np.float32)
        if vector.shape != self.shape:
            raise Unreadable(f"The vector has {len(vector)} numbers.", f"The others have {self.shape[0]}.")
        return data, vector

    def _read_all(self, on_progress: OnProgress) -> None:
        """Read every sample once: hash it, keep it while there is room, leave out what cannot be read."""

        def chunk(start: int) -> list[tuple[int, str]]:
            failed = []
            for i in range(start, min(start + CHUNK, len(self))):
                try:
                    data, sample = self._sample(i)
                except SiameseIndexError as error:
                    failed.append((i, _told(self.items[i], error)))
                    continue
                self.digests[i] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
                if i < len(self._cache):
                    self._cache[i] = sample
            return failed

        for done, failed in enumerate(self._threads.map(chunk, range(0, len(self), CHUNK)), 1):
            for i, told in failed:
                self.whose[i] = UNKNOWN
                self.left_out.append(told)
                self.unreadable.add(i)
            if done % 16 == 0:
                on_progress({"stage": "decode", "done": min(done * CHUNK, len(self)), "of": len(self)})

    def _refuse_nothing(self) -> None:
        if self.left_out and len(np.unique(self.whose[self.whose >= 0])) < 2:
            raise Unreadable(f"{len(self.left_out)} of {len(self)} samples cannot be used.", self.left_out[0])

    def _leave_out_doubles(self, duplicates: Duplicates) -> None:
        good = np.flatnonzero(self.whose >= 0)
        keys = self.digests[good].view("V32")[:, 0]
        order = good[np.argsort(keys, kind="stable")]
        keys = self.digests[order].view("V32")[:, 0]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(order) else np.zeros(0, int)
        sizes = np.diff(np.append(starts, len(order)))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            same = order[start : start + size]
            if len(set(self.whose[same].tolist())) > 1:
                said = " and ".join(_where(self.items[i]) for i in same.tolist())
                if duplicates == "refuse":
                    raise BadInput(
                        f"The same picture under two names: {said}.",
                        "A tower cannot learn to tell them apart.",
                        "Keep it in one of the two.",
                    )
                self.left_out.append(f"the same picture under two names: {said}")
                self.whose[same] = UNKNOWN
            self.whose[same[1:]] = UNKNOWN  # once is enough

    def digest(self) -> str:
        """Return the SHA-256 over all samples that are used, whatever their order."""
        used = self.digests[self.whose >= 0]
        return hashlib.sha256(np.sort(used.view("V32"), axis=0).tobytes()).hexdigest()


def _told(item: Item, error: SiameseIndexError) -> str:
    """Return one line on what was left out."""
    return str(images.named(_where(item), error)).replace("\n", " ")


def _where(item: Item) -> str:
    return f"a sample of {item[0]!r}" if isinstance(item[1], bytes) else str(item[1])


def _is_gallery(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _tfds(name: str) -> Items:
    """Return a data set of tensorflow-datasets that was prepared on this machine, encoded as it is stored."""
    try:
        import tensorflow_datasets as tfds  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise NotInstalled("tfds: names need TensorFlow Datasets.", remedy="pip install tensorflow-datasets") from None
    try:
        builder = tfds.builder(name)
        read = builder.as_dataset(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    except Exception as error:  # noqa: BLE001  # its errors share no base class
        raise Missing(
            f"tfds:{name} cannot be read.",
            str(error).strip().splitlines()[0],
            f'Nothing is fetched unless asked: python -c "import tensorflow_datasets as t; t.load({name!r})"',
        ) from None
    return spooled(_tfds_rows(read, name))


def _tfds_rows(read: Any, name: str) -> Iterator[Item]:
    for row in read.as_numpy_iterator():
        if "image" not in row or "label" not in row:
            raise BadInput(f"tfds:{name}: no image with a label.", f"Found {', '.join(row)}.")
        yield str(row["label"]), bytes(row["image"])


def framed(
    shape: tuple[int, ...], wanted: str | None, usual: str, detector: bytes | None
) -> tuple[Frame, tuple[int, ...]]:
    """Return how pictures are cut, and to which shape: faces are square. `usual` is the recipe's frame.

    Raises BadInput, or Damaged for a detector that is none.
    """
    name = "face" if detector is not None else wanted or usual
    refuse_frame(name, detector is not None)
    if len(shape) == 1:
        if wanted or detector:
            raise BadInput("Vectors have no frame.", "These data are not pictures.")
        return Frame("whole", 1, 1, 1), shape
    height, width, channels = shape
    if detector is None:
        return Frame(name, height, width, channels), shape
    side = max(height, width)
    return Frame(name, side, side, channels, FaceFinder(detector), template(side, side)), (side, side, channels)
