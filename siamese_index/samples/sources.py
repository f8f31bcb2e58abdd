"""Where samples with their identities come from: folders, tables, arrays."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Missing, SiameseIndexError, Unreadable
from siamese_index.files import path_of, refused
from siamese_index.samples.images import NamedSample
from siamese_index.vectors import pack

from . import detections, folders, headers, images, tables
from .items import Items, of_vectors


def items(
    data: str | Path,
    names: str | Path | None = None,
    *,
    each_its_own: bool = False,
    by_file_name: bool = False,
    splits_apart: bool = False,
) -> Items:
    """Return all (identity, sample) items of `data`, in a stable order; `Items.left_out` says what was not taken.

    `data` is a folder with a folder per identity (nested: the relative path is the identity, without train/ and val/
    at the top unless `splits_apart`; `by_file_name`: bob-1.png is bob's), a .csv with columns path and label (paths
    relative to it) or label and numbers, MegaDetector's .json (the folder of a picture is the identity), an .npz with
    x_train and y_train, x and y, or vectors and names, an .npy whose first two axes are identity and sample, a .parquet
    of vectors, or keras:NAME in Keras' own cache. Arrays are uint8 pictures (n, height, width[, 3]) or vectors of
    floats (n, d). `names` is a file that says whose each row of an .npy (n, d) is, as for `vectors`. Without it, and if
    `each_its_own`, each row is an identity by itself, and each picture of a folder without folders. Raises Missing, or
    BadInput saying what was found.
    """
    text = str(data)
    if text.startswith("keras:"):
        return _keras(text.removeprefix("keras:"))
    path = path_of(data)
    if names is not None and path.suffix.lower() not in (".npy", ".npz"):
        raise BadInput("--names is for vectors in an .npy.", "These samples have their names already.")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise Missing(f"{path}: no such file or folder.") from None
    except OSError as error:
        raise refused(path, error) from None
    if stat.S_ISDIR(mode):
        return _folder(path, each_its_own, by_file_name, splits_apart)
    if names is not None:
        return _vectors(path, names, each_its_own)
    if path.suffix.lower() == ".csv":
        return tables.read(path)
    if detections.is_detections(path):
        return detections.items(path)
    if path.suffix.lower() == ".parquet":
        return tables.parquet(path)
    if path.suffix.lower() == ".npz":
        return _arrays(path)
    if path.suffix.lower() == ".npy":
        return _array(path, each_its_own)
    raise BadInput(
        f"{path}: cannot be read as data.", "Expected a folder, a .csv, .npz, .npy, .parquet or .json, or keras:NAME."
    )


class Samples(list[Path | bytes]):
    """Samples without names."""

    left_out: tuple[str, ...] = ()  # what was not taken and why, a sentence each
    boxed = False  # whether all were cut out by boxes


def samples(paths: Iterable[str | Path]) -> Samples:
    """Return the files among `paths`, all pictures below the folders, and the rows of .npy and .npz as vectors."""
    found = Samples()
    given = [path_of(path) for path in paths]
    for path in given:
        is_folder = os.path.isdir(path)  # noqa: PTH112  # where one may not look there is none
        if path.suffix.lower() in (".npy", ".npz") and os.path.isfile(path):  # noqa: PTH113
            found += _rows_of(path)
        elif detections.is_detections(path):
            cut, said = detections.samples(path)
            found += cut
            found.left_out += said
            found.boxed = len(given) == 1
        elif is_folder:
            files = folders.pictures(path)
            found.left_out += files.left_out.sentences()
            if not len(files) and len(given) == 1:
                raise _nothing(path, files, found.left_out)
            for file in map(files.path, range(len(files))):
                found += _rows_of(file) if file.suffix.lower() == ".npy" else [file]
            if not len(files):
                found.append(path)  # among several, one that holds nothing is told like one that cannot be read
        else:
            found.append(path)
    return found


def _rows_of(path: Path) -> list[Path | bytes]:
    """Return the rows of a file of vectors, or the file itself if it holds none: whoever reads it says why."""
    try:
        array = vectors(path)[1]
    except SiameseIndexError:
        return [path]
    return _each_row(array, str(path)) if _are_rows(array) else [path]


def _are_rows(array: NDArray[np.generic]) -> bool:
    return array.dtype.kind in "fiu" and array.ndim in (1, 2) and array.size > 0


def piped(data: bytes, name: str = "standard input") -> list[Path | bytes]:
    """Return the samples in what came through a pipe: pictures, or the rows of an .npy. Raises Unreadable."""
    if not data:
        raise Unreadable("Standard input is empty.", remedy="Send a picture: sidx identify - < picture.png")
    if data[:6] != b"\x93NUMPY":
        pictures = headers.in_a_row(data)
        return [NamedSample(p, name if len(pictures) == 1 else f"{name} {i}") for i, p in enumerate(pictures, 1)]
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        return _each_row(array, name) if _are_rows(array) else [NamedSample(data, name)]
    except (ValueError, EOFError, MemoryError) as error:
        raise Unreadable(f"{name}: this is not an .npy of numbers.", _why(error)) from None


def _why(error: Exception) -> str:
    """Return what numpy says of a file; not its advice on how to run the code in one."""
    return "It holds Python objects, which are never read." if "object" in str(error).lower() else str(error)


def _each_row(array: NDArray[np.generic], name: str) -> list[Path | bytes]:
    rows = np.atleast_2d(array)
    if len(rows) == 1:
        return [NamedSample(pack(rows[0]), name)]
    return [NamedSample(pack(row), f"{name} row {i}") for i, row in enumerate(rows)]


def vectors(path: str | Path, names: str | Path | None = None) -> tuple[list[str] | None, NDArray[np.generic]]:
    """Read vectors (n, d): an .npy, memory-mapped, or an .npz with `vectors` and `names`; with whose they are.

    `names` is a file with a name for each: a .csv with a column `name` (or `label`), or a text with one a
    line. Raises Missing or BadInput.
    """
    import zipfile

    given = tables.names(Path(names)) if names is not None else None
    try:
        # Mapped: its header is held against the size of the file before memory is taken for what it says.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return given, loaded
        with loaded:
            return given or [str(n) for n in loaded["names"].tolist()], loaded["vectors"]
    except OSError as error:
        raise refused(path, error) from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise BadInput(
            f"{path}: these are not vectors.", _why(error), "Expected .npy (n, d), or .npz with vectors and names."
        ) from None


def _folder(folder: Path, each_its_own: bool, by_file_name: bool, splits_apart: bool) -> Items:
    files = folders.pictures(folder)
    taken, names, said = folders.identities(files, by_file_name, splits_apart)
    if not taken and each_its_own:
        taken, names = list(range(len(files))), files.names
    left_out = (*((said,) if said else ()), *files.left_out.sentences())
    if not taken:
        raise _nothing(folder, files, left_out)
    return Items(names, lambda i: files.path(taken[i]), left_out=left_out)


def _nothing(folder: Path, files: folders.Files, left_out: tuple[str, ...]) -> BadInput:
    """Return why a folder has no samples."""
    why = " ".join(left_out)
    if not len(files):
        return BadInput(f"{folder}: no pictures in this folder.", why or f"Looked for {headers.FORMATS}.")
    return BadInput(
        f"{folder}: no identities.",
        "All its pictures lie in the folder itself.",
        "Make a folder per identity, or take their names, without a number at the end: --by-file-name",
    )


def _keras(name: str) -> Items:
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets"
    path = home / f"{name}.npz"
    if name.isidentifier() and path.is_file():
        return _arrays(path)
    idx = home / name.replace("_", "-")  # as Keras itself keeps fashion_mnist
    if name.isidentifier() and (idx / "train-images-idx3-ubyte.gz").is_file():
        x, y = (_idx(idx / f"train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
        return _labelled(idx, x, y)
    # Some data sets of Keras are pickles, which are never read here: arrays of plain numbers are.
    raise Missing(
        f"keras:{name}: {path} is not there.",
        "Nothing is fetched from a network unless asked.",
        f'Make it: python -c "import keras, numpy; (x, y), _ = keras.datasets.{name}.load_data();'
        f" numpy.savez('{path}', x_train=x, y_train=y)\"",
    )


def _idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes: two zero bytes, 8, the number of axes, their lengths, the data."""
    import gzip

    try:
        with gzip.open(path) as file:
            data = file.read()
        axes = data[3]
        shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
        if data[:3] != b"\0\0\x08":
            raise ValueError("the first bytes are not those of an IDX file of bytes")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, struct.error) as error:
        raise BadInput(f"{path}: not an IDX file.", str(error)) from None


_KEYS = (("x_train", "y_train"), ("x", "y"), ("vectors", "names"))


def _arrays(path: Path) -> Items:
    import zipfile

    try:
        with np.load(path, allow_pickle=False) as arrays:
            keys = next((k for k in _KEYS if set(k) <= set(arrays)), None)
            if keys is None:
                raise BadInput(
                    f"{path}: no samples with labels.", f"Found {', '.join(arrays)}; expected x_train, y_train."
                )
            x, y = (arrays[key] for key in keys)
    except OSError as error:
        raise refused(path, error) from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: not an .npz of plain arrays.", _why(error)) from None
    return _labelled(path, x, y)


def _vectors(path: Path, names: str | Path | None, each_its_own: bool) -> Items:
    whose, rows = vectors(path, names)
    if rows.ndim != 2:
        raise BadInput(f"{path}: these are not vectors: shape {rows.shape}.", "Expected shape (n, dimension).")
    if whose is None and each_its_own:
        whose = [f"{path} row {i}" for i in range(len(rows))]
    if whose is None:
        raise BadInput(f"{path}: vectors without names.", remedy="Add --names FILE.csv, or save both in an .npz.")
    if len(whose) != len(rows):
        raise BadInput(f"{len(whose):,} names for {len(rows):,} vectors.", "Each vector needs its name.")
    return of_vectors(whose, rows)


def _array(path: Path, each_its_own: bool) -> Items:
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise refused(path, error) from None
    except (ValueError, EOFError) as error:
        raise BadInput(f"{path}: not an .npy of plain numbers.", _why(error)) from None
    if x.ndim < 3 and x.dtype.kind in "fiu":
        return _vectors(path, None, each_its_own)
    if x.ndim < 3 or (x.dtype == np.uint8 and x.ndim < 4):
        raise BadInput(
            f"{path}: shape {x.shape} names no identities.",
            "The first two axes are identity and sample: (identities, samples, d), or of pictures"
            " (identities, samples, height, width[, 3]).",
            "Or give an .npz with x and y.",
        )
    return _labelled(path, x.reshape(-1, *x.shape[2:]), np.repeat(np.arange(x.shape[0]), x.shape[1]))


def _labelled(path: Path, x: NDArray[np.generic], y: NDArray[np.generic]) -> Items:
    """Return arrays as items: pictures as PNG, vectors as .npy, so that they are samples like any other."""
    pictures_ = x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3)))
    if not pictures_ and not (x.dtype.kind == "f" and x.ndim == 2 and x.shape[1] > 0):
        raise BadInput(
            f"{path}: shape {x.shape} of {x.dtype} is neither pictures nor vectors.",
            "Expected uint8 (n, height, width[, 3]) or floats (n, d).",
        )
    labels = y.reshape(len(y), -1)
    if len(x) != len(y) or labels.shape[1] != 1:
        raise BadInput(f"{path}: {len(x)} samples, labels of shape {y.shape}.", "Each sample needs one label.")
    names = [str(label) for label in labels[:, 0].tolist()]
    if not pictures_:
        return of_vectors(names, x)
    grey = x.ndim == 3
    return Items(
        names, lambda i: NamedSample(images.encode(np.asarray(x[i][..., None] if grey else x[i], np.uint8)), f"row {i}")
    )
