"""Many samples to vectors: decoded by threads ahead of the tower, which embeds them in batches."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, SeveralSubjects, SiameseIndexError, Unreadable
from siamese_index.samples import quality
from siamese_index.samples.faces import Box, overlap
from siamese_index.samples.framing import Subject, around

from .device import cores
from .tower import BATCH, Taken, Tower, nobody
from .vector_embedder import VectorEmbedder

if TYPE_CHECKING:
    from concurrent.futures import Future


T = TypeVar("T")
R = TypeVar("R")
Embedder = Tower | VectorEmbedder
Embedded = tuple[bytes | None, NDArray[np.float32]]  # a sample as a gallery keeps it, and its vector (dimension,)
Embed = Callable[[Iterable[bytes], Mapping[str, float]], Iterator[Embedded | SiameseIndexError]]
SAME_FACE = 0.3  # overlap of the box that is asked for and the one that is found
_AHEAD = 2 * BATCH  # decoded samples that wait at most


def local(embedder: Embedder) -> Embed:
    """Return what embeds samples here, in order; the error of each that cannot be read, or is below the floor."""

    def embed(samples: Iterable[bytes], floor: Mapping[str, float]) -> Iterator[Embedded | SiameseIndexError]:
        ready = ahead(lambda sample: prepared(embedder, sample, floor), samples)
        while batch := list(itertools.islice(ready, BATCH)):
            yield from embedded(embedder, batch)

    return embed


def subjects(embedder: Embedder, sample: bytes) -> list[Subject]:
    """Return what is in a sample that comes in, the largest first, as the tower takes it.

    Raises Unreadable, or NoSubject if it shows nothing.
    """
    found = embedder.subjects(sample)
    if not found:
        raise nobody()
    if not embedder.finds:
        embedder.refuse_blank(found[0].taken)
    return found


def one(embedder: Embedder, sample: bytes) -> Taken:
    """Return the only subject of a sample. Raises Unreadable, NoSubject, or SeveralSubjects with their boxes."""
    found = subjects(embedder, sample)
    if len(found) > 1:
        boxes = "; ".join(",".join(map(str, subject.box or ())) for subject in found[:9])
        raise SeveralSubjects(
            f"There are {len(found)} faces in the picture, where one is needed.",
            f"Their boxes (x,y,width,height), the largest first: {boxes}.",
            "Cut the picture; enroll can be told which: --box X,Y,W,H",
        )
    return found[0].taken


def within(embedder: Embedder, sample: bytes, box: Box) -> bytes:
    """Return the part of a picture that a box names: exactly it, or what shows the face there and no other.

    Raises Unreadable, or BadInput where there is no such part or face.
    """
    if embedder.takes_numbers:
        raise BadInput("A box is of a picture, and this gallery holds vectors.")
    if not embedder.finds:
        return around(sample, box, 0.0)
    found = [subject.box for subject in subjects(embedder, sample) if subject.box]
    nearest = max(found, key=lambda each: overlap(each, box))
    if overlap(nearest, box) < SAME_FACE:
        listed = "; ".join(",".join(map(str, each)) for each in found[:9])
        raise BadInput(f"There is no face at {','.join(map(str, box))}.", f"Those that there are: {listed}.")
    for margin in (0.5, 0.25, 0.1):
        part = around(sample, nearest, margin)
        if len(embedder.subjects(part)) == 1:
            return part
    raise Unreadable("The face cannot be cut out of the picture without another one.", remedy="Cut it out by hand.")


def prepared(
    embedder: Embedder, sample: bytes, floor: Mapping[str, float]
) -> tuple[bytes | None, Taken] | SiameseIndexError:
    """Return a sample as it is kept, and as the tower takes it; or why it is not fit to be enrolled."""
    try:
        found = one(embedder, sample) if embedder.finds else None
        kept = embedder.kept(sample)
        whole = sample if kept is None else kept  # of what is kept, so that embedding it again gives the same
        if floor:
            quality.refuse_below(floor, whole)
        return kept, subjects(embedder, whole)[0].taken if found is None or whole is not sample else found
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

    with ThreadPoolExecutor(cores()) as threads:
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
