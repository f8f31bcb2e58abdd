"""What an index must do for searches. Imported for its types alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from siamese_index.vectors import Vectors

from .result import Radius, SearchResult


class TemplateIndex(Protocol):
    """What finds the nearest templates of one tower in one gallery."""

    @property
    def coarse(self) -> bool:
        """Whether a search that is not told to be exact may miss something beyond its reach."""

    def __len__(self) -> int: ...

    def refresh(self, revision: tuple[int, bytes]) -> None:
        """Catch up with the gallery's `revision`. Call it inside the transaction that found it."""

    def add(
        self,
        before: tuple[int, bytes],
        revision: tuple[int, bytes],
        ids: NDArray[np.int64],
        owners: NDArray[np.int64],
        vectors: Vectors,
    ) -> None:
        """Take in what makes `revision` of the gallery at `before`: it need not be read back."""

    def rebuild_if_stale(self) -> None:
        """Put the index in order if it is time. Call it inside `store.reading()`, never before a commit."""

    def search(
        self,
        probes: Vectors,
        k: int,
        *,
        exact: bool = True,
        radius: Radius = None,
        only: NDArray[np.int64] | None = None,
    ) -> SearchResult:
        """Return the k nearest templates of each probe; k at most `len(self)`."""

    def rebuild(self, progress: Callable[[int], None] | None = None) -> None:
        """Make the index anew, inside `store.reading()`. Raises Missing when it cannot be written."""

    def problem(self) -> str | None:
        """Return what is wrong with it, so that searches do without; or None."""

    def described(self) -> tuple[str, str]:
        """Return how the nearest are found, and why so."""

    def sizes(self) -> tuple[int, int, int, int]:
        """Return templates in the index and beside it, and bytes of its file and of what a search looks at."""

    def close(self) -> None: ...
