"""What the analysis asks of a gallery (`Gallery` keeps it), and how what it measures is all of one tower."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import Locked, Refusal
from siamese_index.samples.images import Picture
from siamese_index.session import State
from siamese_index.store.rows import IdentityRow, SampleRow, TowerRow
from siamese_index.thresholds.decision import Decision
from siamese_index.thresholds.learning import Threshold
from siamese_index.thresholds.question import Asked
from siamese_index.towers.embedding import Embedder
from siamese_index.towers.tower_file import TowerFile
from siamese_index.vectors import Vectors

P = ParamSpec("P")
T = TypeVar("T")


class OpenGallery(Protocol):
    """A gallery that is open. Each method is documented at `Gallery`."""

    @property
    def path(self) -> Path | str: ...

    def reading(self) -> AbstractContextManager[State]: ...

    def identities(self) -> list[IdentityRow]: ...

    def samples(self, name: str | None = None) -> list[SampleRow]: ...

    def embedder(self, tower: str | None = None) -> Embedder: ...

    def embed(self, pictures: Sequence[Picture]) -> tuple[Vectors, dict[int, Refusal]]: ...

    def identify(self, picture: Picture, **asked: Unpack[Asked]) -> Decision: ...

    def identify_vectors(self, vectors: Any, *, log: bool = True, **asked: Unpack[Asked]) -> list[Decision]: ...

    def threshold(self, fpir: float | None = None) -> Threshold: ...

    def verification_threshold(self, fmr: float | None = None) -> float | None: ...

    def distances(self, vectors: Vectors) -> tuple[list[str], NDArray[np.float32]]: ...

    def nearest_sample(self, vector: NDArray[np.float32], name: str) -> int: ...

    def template(self, sample: int) -> NDArray[np.float32]: ...

    def picture(self, sample: int) -> bytes | None: ...

    def tower_file(self, tower: str | None = None) -> TowerFile: ...

    def add_tower(self, tower: TowerFile | str | Path, report: Any = None, learned_at: int | None = None) -> str: ...

    def tower_record(self, tower: str | None = None) -> tuple[TowerRow, bool]: ...


def by_one_tower(measure: Callable[Concatenate[OpenGallery, P], T]) -> Callable[Concatenate[OpenGallery, P], T]:
    """Let a function of several steps measure by one tower: it raises Locked when another one is active at its end."""

    @functools.wraps(measure)
    def measured(gallery: OpenGallery, *args: P.args, **kwargs: P.kwargs) -> T:
        with gallery.reading() as state:
            before, database = state.active.sha256, state.store.database
        try:
            with database.understood():
                return measure(gallery, *args, **kwargs)
        finally:  # also what goes wrong may come of two towers
            with gallery.reading() as state:
                after = state.active.sha256
            if after != before:
                raise Locked(f"{gallery.path}: the tower was swapped meanwhile.", remedy="Run the same command again.")

    return measured  # type: ignore[return-value]  # it has a name for its first argument, too
