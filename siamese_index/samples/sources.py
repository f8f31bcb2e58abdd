"""Where samples with their identities come from: folders, tables, arrays, lists of pairs."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Missing, SiameseIndexError, Unreadable
from siamese_index.files import path_of
from siamese_index.samples.images import NamedSample
from siamese_index.vectors import pack

from . import images

Item = tuple[str, Path | bytes]  # identity; a file, or the bytes of one: a picture, or a vector as .npy


class Items(Sequence[Item]):
    """(identity, sample) items that are made as they are asked for: a million take a hundred bytes each."""

    def __init__(
        self,
        names: Sequence[str],
        sample: Callable[[int], Path | bytes],
        tags: Sequence[dict[str, str]] | None = None,
        vectors: NDArray[np.generic] | None = None,
    ) -> None:
        self.names = names
        self.tags = tags  # of each sample: what else its table says of it
        self.vectors = vectors  # (n, d): all samples, where they are the rows of one array
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
        return Items([*self.names, *other.names], lambda i: self._sample(i) if i < first else other._sample(i - first))


@dataclass(frozen=True)
class Pairs:
    """Ready-made pairs of pictures (m, 2), as positions in `items`, and which are genuine (m,)."""

    items: Items  # the identity is the name of the first picture of those joined by genuine pairs
    positions: NDArray[np.int64]
    genuine: NDArray[np.bool_]


def items(data: str | Path, names: str | Path | None = None, *, each_its_own: bool = False) -> Items:
    """Return all (identity, sample) items of `data`, in a stable order.

    `data` is a folder with a folder per identity (nested: the relative path is the identity), a
    .csv with columns path and label (paths relative to it), an .npz with x_train and y_train, x and
    y, or vectors and names, an .npy whose first two axes are identity and sample, or keras:NAME in
    Keras' own cache. Arrays are uint8 pictures (n, height, width[, 3]) or vectors of floats (n, d).
    `names` is a file that says whose each row of an .npy (n, d) is, as for `vectors`; without it, and if
    `each_its_own`, each row is an identity by itself. Raises Missing, or BadInput saying what was found.
    """
    text = str(data)
    if text.startswith("keras:"):
        return _keras(text.removeprefix("keras:"))
    path = path_of(data)
    if names is not None and path.suffix.lower() not in (".npy", ".npz"):
        raise BadInput("--names is for vectors in an .npy.", "These samples have their names already.")
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise Missing(f"{path}: no such file or folder.")
    if names is not None:
        return _vectors(path, names, each_its_own)
    if path.suffix.lower() == ".csv":
        return _table(path)
    if path.suffix.lower() == ".npz":
        return _arrays(path)
    if path.suffix.lower() == ".npy":
        return _array(path, each_its_own)
    raise BadInput(f"{path}: cannot be read as data.", "Expected a folder, a .csv, an .npz, an .npy, or keras:NAME.")


def is_pairs(data: str | Path) -> bool:
    """Whether `data` is a table of ready-made pairs: path_a, path_b, label."""
    import csv

    path = Path(data)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return {"path_a", "path_b"} <= set(next(csv.reader(file), []))


def pairs(path: str | Path) -> Pairs:
    """Return the pairs of a .csv with columns path_a, path_b and label: 1 for genuine, 0 for impostor.

    Pictures joined by genuine pairs are one identity. Raises BadInput for an impostor pair within
    one, naming the line.
    """
    path = Path(path)
    index: dict[str, int] = {}
    joined: list[int] = []  # a forest: each picture's parent

    def root(i: int) -> int:
        while joined[i] != i:
            joined[i] = joined[joined[i]]
            i = joined[i]
        return i

    listed = []
    for number, row in _rows(path, ("path_a", "path_b", "label")):
        if row["label"] not in ("0", "1"):
            raise BadInput(f"{path}: line {number} has the label {row['label']!r}.", "Expected 1 (same) or 0 (not).")
        a, b = (index.setdefault(row[c], len(index)) for c in ("path_a", "path_b"))
        joined += range(len(joined), len(index))
        if a == b:
            raise BadInput(f"{path}: line {number} pairs a picture with itself.", "Nothing can be learned from that.")
        listed.append((a, b, row["label"] == "1", number))
        if row["label"] == "1":
            joined[max(root(a), root(b))] = min(root(a), root(b))
    for a, b, genuine, number in listed:
        if not genuine and root(a) == root(b):
            raise BadInput(
                f"{path}: line {number} says that two pictures differ.",
                "Other lines join them, directly or through further pictures.",
                "Correct one of these lines.",
            )
    files = list(index)
    names = [files[root(i)] for i in range(len(files))]
    return Pairs(
        Items(names, lambda i: path.parent / files[i]),
        np.array([(a, b) for a, b, _, _ in listed], np.int64),
        np.array([genuine for _, _, genuine, _ in listed], np.bool_),
    )


def samples(paths: Iterable[str | Path]) -> list[Path | bytes]:
    """Return the files among `paths`, all pictures below the folders, and the rows of .npy and .npz as vectors."""
    found: list[Path | bytes] = []
    given = [path_of(path) for path in paths]
    for path in given:
        if path.suffix.lower() in (".npy", ".npz") and path.is_file():
            found += _rows_of(path)
        elif path.is_dir():
            try:
                for file in images.listing(path):
                    found += _rows_of(file) if file.suffix.lower() == ".npy" else [file]
            except BadInput:
                if len(given) == 1:
                    raise
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


def piped(data: bytes) -> list[Path | bytes]:
    """Return the samples in what came through a pipe: a picture, or the rows of an .npy. Raises Unreadable."""
    name = "standard input"
    if not data:
        raise Unreadable("Standard input is empty.", remedy="Send a picture: sidx identify - < picture.png")
    if data[:6] != b"\x93NUMPY":
        return [NamedSample(data, name)]
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        return _each_row(array, name) if _are_rows(array) else [NamedSample(data, name)]
    except (ValueError, EOFError, MemoryError) as error:
        raise Unreadable(f"{name}: this is not an .npy of numbers.", str(error)) from None


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

    given = _names(Path(names)) if names is not None else None
    try:
        # Mapped: its header is held against the size of the file before memory is taken for what it says.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return given, loaded
        with loaded:
            return given or [str(n) for n in loaded["names"].tolist()], loaded["vectors"]
    except OSError as error:
        raise Missing(f"{path}: cannot be read.", f"{error.strerror or error}.") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise BadInput(
            f"{path}: these are not vectors.", str(error), "Expected .npy (n, d), or .npz with vectors and names."
        ) from None


def _names(path: Path) -> list[str]:
    import csv

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() != ".csv":
                return [line.rstrip("\r\n") for line in file]
            rows = csv.DictReader(file)
            column = next((c for c in ("name", "label") if c in (rows.fieldnames or ())), None)
            if column is None:
                raise BadInput(
                    f"{path}: has no column name.", f"Found {', '.join(rows.fieldnames or ()) or 'nothing'}."
                )
            return [row[column] or "" for row in rows]
    except OSError as error:
        raise Missing(f"{path}: cannot be read.", f"{error.strerror or error}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: this is not a table of names.", f"{error}.") from None


def _folder(folder: Path) -> Items:
    # Text, not Path objects: a million of those take a gigabyte.
    names: list[str] = []
    files: list[str] = []
    for suffixes in (images.SUFFIXES, {".npy"}):  # vectors where there is not a single picture
        for name, file in () if files else _walk(str(folder), "", suffixes):
            names.append(name)
            files.append(file)
    if not files:
        images.listing(folder)  # raises when there is not a single picture
        raise BadInput(
            f"{folder}: no identities.", "All its pictures lie in the folder itself.", "Make a folder per identity."
        )
    return Items(names, lambda i: folder / names[i] / files[i])


def _walk(folder: str, name: str, suffixes: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (identity, file name) of all files below `folder` that end so, sorted."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):  # a link could lead in a circle
            yield from _walk(entry.path, f"{name}/{entry.name}" if name else entry.name, suffixes)
        elif name and os.path.splitext(entry.name)[1].lower() in suffixes and entry.is_file():  # noqa: PTH122
            yield name, entry.name


def _table(path: Path) -> Items:
    if is_pairs(path):
        raise BadInput(f"{path}: a table of pairs names no identities.", remedy="It can be learned from: sidx train")
    names, files, tags = [], [], []
    for _, row in _rows(path, ("path", "label")):
        names.append(row["label"])
        files.append(row["path"])
        tags.append({k: v for k, v in row.items() if k not in ("path", "label") and isinstance(v, str) and v})
    return Items(names, lambda i: path.parent / files[i], tags)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, row) of a table. Raises BadInput without one of the columns, or for an empty cell."""
    import csv

    number = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            found = rows.fieldnames or []
            missing = [c for c in columns if c not in found]
            if missing:
                raise BadInput(
                    f"{path}: no column {missing[0]!r}.",
                    f"Found: {', '.join(found) or 'none'}.",
                    f"The first line names them: {','.join(columns)}",
                )
            for number, row in enumerate(rows, 2):
                for column in columns:
                    if not row[column]:
                        raise BadInput(f"{path}: line {number} has no {column}.")
                yield number, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a table of text.", str(error)) from None
    if number == 1:
        raise BadInput(f"{path}: the table has no rows.")


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
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: not an .npz of plain arrays.", str(error)) from None
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
    return Items(whose, lambda i: NamedSample(pack(rows[i]), f"row {i}"), vectors=rows)


def _array(path: Path, each_its_own: bool) -> Items:
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadInput(f"{path}: not an .npy of plain numbers.", str(error)) from None
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
        return Items(names, lambda i: NamedSample(pack(x[i]), f"row {i}"), vectors=x)
    grey = x.ndim == 3
    return Items(
        names, lambda i: NamedSample(images.encode(np.asarray(x[i][..., None] if grey else x[i], np.uint8)), f"row {i}")
    )
