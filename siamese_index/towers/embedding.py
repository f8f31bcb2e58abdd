"""Many samples to vectors: decoded by threads ahead of the tower, which embeds them in batches."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import SiameseIndexError
from siamese_index.samples import quality

from .tower import BATCH, Taken, Tower
from .vector_embedder import VectorEmbedder

if TYPE_CHECKING:
    from concurrent.futures import Future


T = TypeVar("T")
R = TypeVar("R")
Embedder = Tower | VectorEmbedder
Embedded = tuple[bytes | None, NDArray[np.float32]]  # a sample as a gallery keeps it, and its vector (dimension,)
Embed = Callable[[Iterable[bytes], Mapping[str, float]], Iterator[Embedded | SiameseIndexError]]
_AHEAD = 2 * BATCH  # decoded samples that wait at most


def local(embedder: Embedder) -> Embed:
    """Return what embeds samples here, in order; the error of each that cannot be read, or is below the floor."""

    def embed(samples: Iterable[bytes], floor: Mapping[str, float]) -> Iterator[Embedded | SiameseIndexError]:
        ready = ahead(lambda sample: prepared(embedder, sample, floor), samples)
        while batch := list(itertools.islice(ready, BATCH)):
            yield from embedded(embedder, batch)

    return embed


def shown(embedder: Embedder, sample: bytes) -> Taken:
    """Return a sample that comes in, as the tower takes it. Raises Unreadable, or NoSubject if it shows nothing."""
    taken = embedder.prepare(sample)
    embedder.refuse_blank(taken)
    return taken


def prepared(
    embedder: Embedder, sample: bytes, floor: Mapping[str, float]
) -> tuple[bytes | None, Taken] | SiameseIndexError:
    """Return a sample as it is kept, and as the tower takes it; or why it is not fit to be enrolled."""
    try:
        kept = embedder.kept(sample)
        whole = sample if kept is None else kept  # of what is kept, so that embedding it again gives the same
        if floor:
            quality.refuse_below(floor, whole)
        return kept, shown(embedder, whole)
    except SiameseIndexError as error:
        return error


def embedded(
    embedder: Embedder, batch: list[tuple[bytes | None, Taken] | SiameseIndexError]
) -> Iterator[Embedded | SiameseIndexError]:
    """Yield each of a batch that was `prepared` with its vector, errors as they are."""
    ready: list[Any] = [each[1] for each in batch if not isinstance(each, SiameseIndexError)]
    vectors = iter(embedder.embed(ready))
    for each in batch:
        yield each if isinstance(each, SiameseIndexError) else (each[0], next(vectors))


def ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `work(item)` in order, done by threads some items ahead of whoever takes them.

    `items` is drawn from in the caller's thread. One item alone is worked on right here.
    """
    waiting = iter(items)
    first = list(itertools.islice(waiting, 2))
    if len(first) < 2:
        yield from map(work, first)
        return
    from concurrent.futures import ThreadPoolExecutor  # one probe needs none

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        begun: deque[Future[R]] = deque()
        try:
            for item in itertools.chain(first, waiting):
                begun.append(threads.submit(work, item))
                if len(begun) >= _AHEAD:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for left in begun:
                left.cancel()
