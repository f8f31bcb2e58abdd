"""What a template is: a finite float32 vector of unit length, and the distance between two of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BadInput, Unreadable

Vectors = NDArray[np.float32]  # (n, d), C-contiguous; rows of unit length unless said otherwise


def unit(vectors: Any, dimension: int | None = None, first: int = 0) -> Vectors:
    """Return `vectors` as float32 (n, d) rows of unit length; `first` is the number of the first, for errors.

    Raises BadInput for a wrong shape or dimension, for non-numbers, NaN, infinity and zero vectors.
    """
    array, lengths = with_lengths(vectors, dimension, first)
    out: Vectors = np.empty(array.shape, np.float32)
    np.divide(array, lengths[:, None], out=out, dtype=np.float64, casting="same_kind")
    return out


def with_lengths(
    vectors: Any, dimension: int | None = None, first: int = 0
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return `vectors` as an array (n, d), and the length of each (n,). Raises BadInput as `unit` does."""
    try:
        array = np.asarray(vectors)
    except ValueError as error:  # rows of different lengths
        raise BadInput("These are not vectors.", f"{error}.", "Expected numbers of shape (n, dimension).") from None
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.dtype.kind not in "fiu" or array.shape[1] == 0:
        raise BadInput(
            f"These are not vectors: shape {array.shape}, dtype {array.dtype}.",
            "Expected numbers of shape (n, dimension).",
        )
    if dimension is not None and array.shape[1] != dimension:
        raise BadInput(
            f"The vectors have {array.shape[1]} dimensions; this gallery's templates have {dimension}.",
            "Vectors of two embedders cannot be compared.",
            "Use the embedder that the gallery was filled with, or start another gallery.",
        )
    lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64, casting="unsafe"))
    for i in np.flatnonzero(np.isinf(lengths)).tolist():  # squares beyond float64, of numbers that are not
        largest = float(np.abs(array[i]).max())
        lengths[i] = largest * float(np.linalg.norm(array[i] / largest)) if np.isfinite(largest) else np.inf
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 1e-12)))
    if bad.size:
        row, length = array[bad[0]].astype(np.float64), lengths[bad[0]]
        holds = "all zero" if not row.any() else "shorter than 1e-12" if length <= 1e-12 else "NaN or infinity"
        if np.isfinite(row).all() and not np.isfinite(length):
            holds = "longer than a number can say"
        raise BadInput(
            f"{bad.size} of {len(array)} vectors have no direction (first: row {first + bad[0]}, which is {holds}).",
            remedy="Leave these rows out.",
        )
    return array, lengths


def distances(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Euclidean distance along the last axis, 0..2, by direct subtraction.

    `|a|^2 + |b|^2 - 2ab` loses all digits near zero and depends on the batch; an answer at the
    threshold must not.
    """
    difference = a - b
    squared = np.einsum("...i,...i->...", difference, difference, dtype=np.float64)
    return np.asarray(np.sqrt(squared), np.float64)


def pack(vector: Any) -> bytes:
    """Return one vector (d,) as the bytes of an .npy file, as precise as it is: a sample like a picture file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(vector), allow_pickle=False)
    return buffer.getvalue()


def unpack(data: bytes) -> NDArray[Any]:
    """Return the vector (d,) of finite numbers in an .npy file of shape (d,) or (1, d). Raises Unreadable."""
    try:
        if data[:6] != b"\x93NUMPY":
            raise ValueError("it does not begin as one")
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        # From the header, before memory is taken for what it says.
        row = shape[1:] if len(shape) == 2 and shape[0] == 1 else shape
        if len(row) != 1 or dtype.kind not in "fiu" or row[0] * dtype.itemsize != len(data) - file.tell():
            raise ValueError(f"it holds shape {shape} of {dtype}")
        vector: NDArray[Any] = np.frombuffer(data, dtype, offset=file.tell())
    except (ValueError, TypeError, EOFError) as error:
        raise Unreadable("This is not a vector.", f"{error}.", "Expected an .npy of numbers, shape (d,).") from None
    if not np.isfinite(vector).all():
        raise Unreadable("The vector contains NaN or infinity.", remedy="Leave it out.")
    return vector
