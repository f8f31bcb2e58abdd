"""Columns of rows that a database gave, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import Damaged
from siamese_index.vectors import Vectors


def ids(rows: Sequence[Any], column: int) -> NDArray[np.int64]:
    """Return a column of ids, -1 for none."""
    return np.array([-1 if row[column] is None else row[column] for row in rows], np.int64)


def numbers(rows: Sequence[Any], column: int, none: float) -> NDArray[np.float64]:
    """Return a column of numbers."""
    return np.array([none if row[column] is None else row[column] for row in rows], np.float64)


def matrix(blobs: Sequence[bytes], dimension: int, path: Path | str) -> Vectors:
    """Return vectors (n, dimension) of the gallery at `path`. Raises Damaged for one of another length."""
    if any(len(blob) != 4 * dimension for blob in blobs):
        raise Damaged(f"{path}: a template has the wrong length.", remedy="Run: sidx doctor")
    return np.frombuffer(b"".join(blobs), np.float32).reshape(-1, dimension)
