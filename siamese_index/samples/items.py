"""Samples with whose they are, made as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import pack

from .images import NamedSample
from .names import cleaned

Item = tuple[str, Path | bytes]  # identity; a file, or the bytes of one: a picture, or a vector as .npy


class Items(Sequence[Item]):
    """(identity, sample) items that are made as they are asked for: a million take a hundred bytes each."""

    def __init__(
        self,
        names: Sequence[str],
        sample: Callable[[int], Path | bytes],
        tags: Sequence[dict[str, str]] | None = None,
        vectors: NDArray[np.generic] | None = None,
        left_out: tuple[str, ...] = (),
        boxed: bool = False,
    ) -> None:
        self.names = cleaned(names)
        self.left_out = left_out  # what was not taken and why, and how the data were read: a sentence each
        self.tags = tags  # of each sample: what else its table says of it
        self.vectors = vectors  # (n, d): all samples, where they are the rows of one array
        self.boxed = boxed  # whether they were cut out of pictures by boxes that came with them
        self._sample = sample

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name = self.names[index]  # also ends iteration, by its IndexError
        return name, self._sample(index)

    def __add__(self, other: Items) -> Items:
        """Return these items and then the other's."""
        first = len(self)
        return Items(
            [*self.names, *other.names],
            lambda i: self._sample(i) if i < first else other._sample(i - first),
            left_out=(*self.left_out, *other.left_out),
            boxed=self.boxed and other.boxed,
        )


def of_vectors(names: Sequence[str], rows: NDArray[np.generic]) -> Items:
    """Return the rows of an array (n, d) as items."""
    return Items(names, lambda i: NamedSample(pack(rows[i]), f"row {i}"), vectors=rows)
