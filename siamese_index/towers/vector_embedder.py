"""The embedder of a gallery of vectors: what comes in is what comes out, of unit length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Unreadable
from siamese_index.samples.framing import Subject
from siamese_index.vectors import Vectors, unit, unpack


class VectorEmbedder:
    """Takes samples that are vectors of somebody else's embedder, as the bytes of .npy files of one row each.

    It stands where a `Tower` does; `dimension` is the length of its vectors.
    """

    takes_numbers = True
    finds = False
    frame = "whole"

    def __init__(self, tower_id: str, dimension: int) -> None:
        self.id, self.dimension, self.shape = tower_id, dimension, (dimension,)

    def digest(self, sample: bytes) -> bytes:
        """Return what tells samples apart: SHA-256 of the unit vector. Raises Unreadable."""
        return hashlib.sha256(self.prepare(sample).tobytes()).digest()

    def kept(self, sample: bytes) -> bytes | None:  # noqa: ARG002
        """Return a sample as a gallery keeps it beside its vector: not at all."""
        return None

    def prepare(self, sample: bytes) -> NDArray[np.float32]:
        """Return the unit vector (dimension,). Raises Unreadable."""
        try:
            vector: NDArray[np.float32] = unit(unpack(sample), self.dimension)[0]
        except BadInput as error:  # of one sample among many
            raise Unreadable(error.what, error.why, error.remedy) from None
        return vector

    def subjects(self, sample: bytes) -> list[Subject]:
        """Return the one that is in a sample. Raises Unreadable."""
        return [Subject(self.prepare(sample))]

    def refuse_blank(self, taken: NDArray[Any]) -> None:
        """A vector that can be prepared says something."""

    def embed(self, samples: Sequence[NDArray[np.float32]]) -> Vectors:
        """Return prepared samples as float32 (n, dimension)."""
        return np.array(samples, np.float32).reshape(-1, self.dimension)

    def embed_samples(self, samples: Iterable[bytes]) -> Vectors:
        """Return float32 (n, dimension) unit vectors of samples as they came in."""
        return self.embed([self.prepare(sample) for sample in samples])
