"""The cached base: a file of templates that can be deleted at any time, memory-mapped and never trusted.

It holds, one after the other: the vectors (float32, by template id), ids and owners (int32 if they fit), of many
templates also their coarse image, the positions it keeps aside and a digest of every page of vectors;
then a stamp (JSON), its length, a magic number, and a digest of all after the vectors.
"""

from __future__ import annotations

import json
import mmap
import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from siamese_index.files import read_at, replacing, to_read
from siamese_index.vectors import Vectors

from . import scan

if TYPE_CHECKING:
    from .coarse import Coarse


_MAGIC = b"SIDXBAS4"
_DIGEST = 16  # bytes of XXH3-128
_PAGE = 4096
_MANY = 50  # once a fiftieth of the pages have been looked at, the rest is checked at once
Rows = tuple[NDArray[np.int64], NDArray[np.int64], Vectors]  # template ids, identity ids, vectors


class Torn(Exception):
    """The file is not what was written. It never leaves the index."""


@dataclass(frozen=True)
class Stamp:
    """What a base was made from, and where its parts end."""

    tower: str
    revision: int
    token: str
    dimension: int
    count: int
    last: int  # highest template id
    vectors: str  # digest of all vectors
    id_bytes: int  # of each id and owner
    centroids: int = 0  # numbers that the image's codes stand for
    coarse_bytes: int = 0  # of its codes; 0: scanned exactly, without an image
    error: float = 0.0  # of the image
    aside: int = 0
    page: int = 0  # bytes of vectors per digest


class Base:
    """An open base. Everything but the vectors has been checked; these are, as they are looked at."""

    def __init__(self, path: Path) -> None:
        """Raises Torn, or OSError."""
        try:
            self._descriptor = to_read(path)
            about = os.fstat(self._descriptor)
            self._as_opened = about.st_size, about.st_mtime_ns
            weakref.finalize(self, os.close, self._descriptor)
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
            content = np.frombuffer(self._map, np.uint8)
            end = len(content) - _DIGEST
            if content[end - 8 : end].tobytes() != _MAGIC:
                raise Torn
            length = int.from_bytes(content[end - 16 : end - 8].tobytes(), "little")
            self.stamp = stamp = Stamp(**json.loads(content[end - 16 - length : end - 16].tobytes()))
            start = _rounded_up(4 * stamp.count * stamp.dimension)
            each = {4: 4, 8: 8}[stamp.id_bytes] * stamp.count
            sizes = [each, each, 4 * stamp.centroids, stamp.coarse_bytes, 8 * stamp.aside]
            sizes.append(8 * self._pages)
            if start + sum(map(_rounded_up, sizes)) != end - 16 - length or stamp.count < 1:
                raise Torn
            if xxhash.xxh3_128(content[start:end].data).digest() != content[end:].tobytes():
                raise Torn
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise Torn from error
        parts = []
        for size in sizes:
            parts.append(content[start : start + size])
            start += _rounded_up(size)
        self.ids, self.owners = (part.view(f"<i{stamp.id_bytes}") for part in parts[:2])
        self._centroids, self._coarse = parts[2].view(np.float32), parts[3]
        self._aside, self._digests = parts[4].view(np.int64), parts[5].view(np.uint64)
        self._bytes = content[: 4 * stamp.count * stamp.dimension]
        self._rows: Vectors = self._bytes.view(np.float32).reshape(stamp.count, stamp.dimension)
        self._checked, self._whole = np.zeros(self._pages, bool), False
        self.size = len(content)

    @property
    def _pages(self) -> int:
        stamp = self.stamp
        return -(-4 * stamp.count * stamp.dimension // stamp.page) if stamp.page else 0

    def __len__(self) -> int:
        return self.stamp.count

    def check_untouched(self) -> None:
        """Raise Torn if the file was written to since it was opened.

        What was checked is not what is mapped any more; and to read what was cut off would end the process.
        """
        about = os.fstat(self._descriptor)
        if (about.st_size, about.st_mtime_ns) != self._as_opened:
            raise Torn

    @property
    def searched_bytes(self) -> int:
        """How much of the file a search looks at: the coarse image, or all vectors."""
        return len(self._coarse) or len(self._bytes)

    @cached_property
    def coarse(self) -> Coarse | None:
        """The coarse image, None where all vectors are scanned. Raises Torn."""
        if not self.stamp.coarse_bytes:
            return None
        from .coarse import Coarse, shape_of

        try:
            centroids = shape_of(self._centroids, self.stamp.dimension)
            image = Coarse.from_parts(centroids, self._coarse, len(self), self.stamp.error, self._aside)
        except ValueError as error:
            raise Torn from error
        self._forget(self._coarse)
        return image

    def _forget(self, part: NDArray[np.uint8]) -> None:
        """Give back the memory of a part of the file that has been copied."""
        start = part.__array_interface__["data"][0] - self._bytes.__array_interface__["data"][0]
        start, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, start + len(part)
        if hasattr(mmap, "MADV_DONTNEED") and start < end:
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)

    @cached_property
    def is_aside(self) -> NDArray[np.bool_]:
        """Which rows the coarse image leaves aside (count,)."""
        mask = np.zeros(len(self), bool)
        mask[self._aside] = True
        return mask

    @cached_property
    def kept_aside(self) -> Rows:
        """The rows that are aside. Raises Torn."""
        return self.ids[self._aside], self.owners[self._aside], self.rows_at(self._aside)

    @cached_property
    def rows(self) -> Vectors:
        """All vectors (count, dimension), checked as a whole when first asked for. Raises Torn."""
        self._check_all()
        return self._rows

    def _check_all(self) -> None:
        # Read, not mapped: what is only checked needs no memory of ours.
        digest, size = xxhash.xxh3_128(), 1 << 20
        for at in range(0, len(self._bytes), size):
            digest.update(read_at(self._descriptor, min(size, len(self._bytes) - at), at))
        if digest.hexdigest() != self.stamp.vectors:
            raise Torn
        self._whole = True

    def rows_at(self, at: NDArray[np.int64]) -> Vectors:
        """Return the vectors at these positions, having checked the pages that they lie on. Raises Torn."""
        if not self.stamp.page:
            return self.rows[at]
        if not self._whole and self._checked.sum() * _MANY > len(self._checked):
            self._check_all()  # page by page, the rest would take longer
        if self._whole:
            return self._rows[at]
        stride, page = 4 * self.stamp.dimension, self.stamp.page
        first = at * stride
        for pages in (first // page, (first + stride - 1) // page):
            if not self._checked[pages].all():
                self._check(pages[~self._checked[pages]])
        return self._rows[at]

    def _check(self, pages: NDArray[np.int64]) -> None:
        page = self.stamp.page
        for number in set(pages.tolist()):  # not np.unique, which loads a part of numpy that nothing else needs
            held = self._bytes[number * page : (number + 1) * page]
            if xxhash.xxh3_64_intdigest(held.data) != int(self._digests[number]):
                raise Torn
        self._checked[pages] = True


def write_base(
    path: Path,
    tower: str,
    revision: tuple[int, bytes],
    dimension: int,
    chunks: Iterable[Rows],
    progress: Callable[[int], None] | None = None,
    replace_when: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Replace the base durably by these templates, ascending by id; there is at least one.

    `replace_when` is entered while it takes the place of the old one. Raises Missing when it cannot be written.
    """
    every_id: list[NDArray[np.int64]] = []
    every_owner: list[NDArray[np.int64]] = []
    with ExitStack() as until, replacing(path) as temporary:
        with temporary.open("wb") as file:
            digest = xxhash.xxh3_128()
            for ids, owners, vectors in chunks:
                file.write(vectors.data)
                digest.update(vectors.data)
                every_id.append(ids)
                every_owner.append(owners)
                if progress:
                    progress(len(ids))
            count = sum(map(len, every_id))
            _pad(file, 4 * count * dimension)
        ids, owners = np.concatenate(every_id), np.concatenate(every_owner)
        last, size = int(ids[-1]), 4 if max(ids[-1], owners.max()) < 1 << 31 else 8
        ids, owners = ids.astype(f"<i{size}"), owners.astype(f"<i{size}")
        stamp = Stamp(tower, revision[0], revision[1].hex(), dimension, count, last, digest.hexdigest(), size)
        parts: list[NDArray[Any]] = [ids, owners]
        if 4 * count * dimension > scan.SCANNED:
            from .coarse import Coarse

            held = np.memmap(temporary, np.uint8, "r").view(np.ndarray)[: 4 * count * dimension]
            image = Coarse.made_of(held.view(np.float32).reshape(count, dimension))
            (centroids, codes), page = image.parts(), max(_PAGE, 1 << (4 * dimension - 1).bit_length())
            stamp = replace(
                stamp,
                centroids=centroids.size,
                coarse_bytes=len(codes),
                error=image.error,
                aside=len(image.aside),
                page=page,
            )
            parts += [centroids, codes, image.aside, _page_digests(held, page)]
        footer = json.dumps(asdict(stamp)).encode()
        with temporary.open("ab") as file:
            for part in parts:
                file.write(part.data)
                _pad(file, part.nbytes)
            file.write(footer + len(footer).to_bytes(8, "little") + _MAGIC)
        held = np.memmap(temporary, np.uint8, "r").view(np.ndarray)
        seal = xxhash.xxh3_128(held[_rounded_up(4 * count * dimension) :].data).digest()
        with temporary.open("ab") as file:
            file.write(seal)
        until.enter_context(replace_when())


def _page_digests(content: NDArray[np.uint8], page: int) -> NDArray[np.uint64]:
    starts = range(0, len(content), page)
    return np.array([xxhash.xxh3_64_intdigest(content[at : at + page].data) for at in starts], np.uint64)


def _rounded_up(size: int) -> int:
    """Every part begins where its numbers can be read in place."""
    return -(-size // 64) * 64


def _pad(file: BinaryIO, size: int) -> None:
    file.write(bytes(_rounded_up(size) - size))
