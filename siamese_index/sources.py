"""Where pictures with their identities come from: folders, tables, arrays."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import images
from .errors import BadInput, Missing

Item = tuple[str, Path | bytes]  # identity, picture


def items(data: str | Path) -> list[Item]:
    """Return all (identity, picture) items of `data`, in a stable order.

    `data` is a folder with a folder per identity (nested: the relative path is the identity), a
    .csv with columns path and label (paths relative to it), an .npz with pictures and labels
    (Keras' x_train and y_train, or x and y; uint8 (n, height, width[, 3])), or keras:NAME, which is
    NAME.npz in Keras' own cache. Raises Missing, or BadInput saying what was found.
    """
    text = str(data)
    if text.startswith("keras:"):
        return _keras(text.removeprefix("keras:"))
    path = Path(data)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise Missing(f"{path}: no such file or folder.")
    if path.suffix.lower() == ".csv":
        return _table(path)
    if path.suffix.lower() == ".npz":
        return _arrays(path)
    raise BadInput(f"{path}: cannot be read as data.", "Expected a folder, a .csv, an .npz, or keras:NAME.")


def pictures(paths: Iterable[str | Path]) -> list[Path]:
    """Return the files among `paths` and all pictures below the folders among them."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += images.listing(path) if path.is_dir() else [path]
    return found


def vectors(path: str | Path) -> tuple[list[str] | None, NDArray[np.generic]]:
    """Read vectors (n, d): an .npy, or an .npz with `vectors` and `names`. Raises Missing or BadInput."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return None, loaded
        with loaded:
            return [str(n) for n in loaded["names"].tolist()], loaded["vectors"]
    except OSError as error:
        raise Missing(f"{path}: cannot be read.", f"{error.strerror or error}.") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"{path}: these are not vectors.", str(error), "Expected .npy (n, d), or .npz with vectors and names."
        ) from None


def _folder(folder: Path) -> list[Item]:
    found: list[Item] = []
    for path in images.listing(folder):
        name = path.parent.relative_to(folder).as_posix()
        if name != ".":
            found.append((name, path))
    if not found:
        raise BadInput(
            f"{folder}: no identities.", "All its pictures lie in the folder itself.", "Make a folder per identity."
        )
    return found


def _table(path: Path) -> list[Item]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            missing = [c for c in ("path", "label") if c not in columns]
            if missing:
                found = ", ".join(columns) or "none"
                raise BadInput(
                    f"{path}: no column {missing[0]!r}.", f"Found: {found}.", "The first line names them: path,label"
                )
            listed = [(row["label"], row["path"], number) for number, row in enumerate(rows, 2)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not a table of text.", str(error)) from None
    for label, name, number in listed:
        if not label or not name:
            raise BadInput(f"{path}: line {number} has no {'label' if name else 'path'}.")
    if not listed:
        raise BadInput(f"{path}: the table has no rows.")
    return [(label, path.parent / name) for label, name, _ in listed]


def _keras(name: str) -> list[Item]:
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    path = home / "datasets" / f"{name}.npz"
    if not name.isidentifier() or not path.is_file():
        raise Missing(
            f"keras:{name}: {path} is not there.",
            "Nothing is fetched from a network unless asked.",
            f'Fetch it: python -c "import keras; keras.datasets.{name}.load_data()"',
        )
    return _arrays(path)


def _arrays(path: Path) -> list[Item]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            keys = next((k for k in (("x_train", "y_train"), ("x", "y")) if set(k) <= set(arrays)), None)
            if keys is None:
                raise BadInput(
                    f"{path}: no pictures with labels.", f"Found {', '.join(arrays)}; expected x_train, y_train."
                )
            x, y = (arrays[key] for key in keys)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: not an .npz of plain arrays.", str(error)) from None
    if x.ndim not in (3, 4) or x.dtype != np.uint8 or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise BadInput(
            f"{path}: shape {x.shape} of {x.dtype} is no pictures.", "Expected uint8 (n, height, width[, 3])."
        )
    labels = y.reshape(len(y), -1)
    if len(x) != len(y) or labels.shape[1] != 1:
        raise BadInput(f"{path}: {len(x)} pictures, labels of shape {y.shape}.", "Each picture needs one label.")
    if x.ndim == 3:
        x = x[..., None]
    # A PNG each: from here on an array is a picture like any other.
    return [(str(label), images.encode(picture)) for label, picture in zip(labels[:, 0].tolist(), x, strict=True)]
