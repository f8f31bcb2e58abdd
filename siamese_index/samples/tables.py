"""Tables of samples: paths with labels, pairs of paths, names, or vectors, as .csv and .parquet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Missing, NotInstalled, SiameseIndexError
from siamese_index.files import refused

from . import images
from .faces import Box
from .framing import around
from .images import NamedSample, Unusable
from .items import Items, of_vectors

_NAMES = ("label", "name", "identity")  # columns that say whose a vector is
_BOXES = (  # how tables name boxes: left, top, then width and height, or right and bottom
    ("left", "top", "right", "bottom"), ("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"),
    ("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"),
)  # fmt: skip
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Pairs:
    """Ready-made pairs of pictures (m, 2), as positions in `items`, and their labels (m,), from 0 to 1."""

    items: Items  # the identity is the name of the first picture of those joined by genuine pairs
    positions: NDArray[np.int64]
    labels: NDArray[np.float32]  # 1: the same, 0: not; between: how alike they are

    @property
    def genuine(self) -> NDArray[np.bool_]:
        """Which pairs (m,) are of the same."""
        return np.asarray(self.labels == 1)

    @property
    def graded(self) -> bool:
        """Whether some label is neither 0 nor 1."""
        return bool(np.any((self.labels > 0) & (self.labels < 1)))


def is_pairs(data: str | Path) -> bool:
    """Whether `data` is a table of ready-made pairs: path_a, path_b, label."""
    path = Path(data)
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    try:
        header, _ = _opened(path)
    except (BadInput, Missing):
        return False
    return {"path_a", "path_b"} <= set(header)


def read(path: Path) -> Items:
    """Return the rows of a .csv with columns path and label, or label (or name) and numbers. Raises BadInput."""
    header, lines = _opened(path)
    if {"path_a", "path_b"} <= set(header):
        raise BadInput(f"{path}: a table of pairs names no identities.", remedy="It can be learned from: sidx train")
    whose = next((column for column in _NAMES if column in header), None)
    if "path" not in header and whose is not None and len(header) > 2:
        return _vectors(path, header, lines, whose)
    named = {column.lower(): column for column in header}
    boxes = next((b for b in _BOXES if set(b) <= set(named)), None)
    if "bbox" in named and boxes is None:
        raise BadInput(f"{path}: its boxes are in one column.", remedy="Make four columns of it: x, y, w and h.")
    columns = [named[name] for name in boxes or ()]
    whom, files, tags, found = [], [], [], []
    for number, row in _rows(path, header, lines, ("path", "label")):
        whom.append(row["label"])
        files.append(row["path"])
        tags.append({k: v for k, v in row.items() if k not in ("path", "label", *columns) and v})
        found.append(_box(path, number, [row[column] for column in columns], boxes) if boxes else None)

    def sample(i: int) -> Path | bytes:
        file, box = path.parent / files[i], found[i]
        if box is None:
            return file
        where = f"{file} at {','.join(map(str, box))}"
        try:
            return NamedSample(around(images.read(file), box, 0.0), where)
        except SiameseIndexError as error:  # of one row among many
            return Unusable(b"", where, error)

    return Items(whom, sample, tags, boxed=boxes is not None)


def _box(path: Path, number: int, cells: list[str], names: tuple[str, ...]) -> Box | None:
    """Return the box of a row; None for one without."""
    if not any(cell.strip() for cell in cells):
        return None
    try:
        x, y, a, b = (round(float(cell)) for cell in cells)
    except (ValueError, OverflowError):
        raise BadInput(f"{path}: line {number}: no box: {', '.join(cells)}.", "Expected four numbers.") from None
    if names[2] not in ("w", "width"):
        a, b = a - x, b - y
    if x < 0 or y < 0 or a < 1 or b < 1:
        raise BadInput(f"{path}: line {number}: the box {', '.join(cells)} is empty or outside.", f"In {names}.")
    return x, y, a, b


def pairs(path: str | Path) -> Pairs:
    """Return the pairs of a .csv with columns path_a, path_b and label: 1 for genuine, 0 for impostor, or graded.

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
    for number, row in _rows(path, *_opened(path), ("path_a", "path_b", "label")):
        label = _label(path, number, row["label"])
        a, b = (index.setdefault(row[c], len(index)) for c in ("path_a", "path_b"))
        joined += range(len(joined), len(index))
        if a == b:
            raise BadInput(f"{path}: line {number} pairs a picture with itself.", "Nothing can be learned from that.")
        listed.append((a, b, label, number))
        if label == 1:
            joined[max(root(a), root(b))] = min(root(a), root(b))
    for a, b, label, number in listed:
        if label == 0 and root(a) == root(b):
            raise BadInput(
                f"{path}: line {number} says that two pictures differ.",
                "Other lines join them, directly or through further pictures.",
                "Correct one of these lines.",
            )
    files = list(index)
    return Pairs(
        Items([files[root(i)] for i in range(len(files))], lambda i: path.parent / files[i]),
        np.array([(a, b) for a, b, _, _ in listed], np.int64),
        np.array([label for _, _, label, _ in listed], np.float32),
    )


def _label(path: Path, number: int, cell: str) -> float:
    """Return the label of a pair, from 0 to 1."""
    try:
        label = float(cell)
    except ValueError:
        label = -1.0
    if not 0 <= label <= 1:  # not a number is neither
        raise BadInput(
            f"{path}: line {number} has the label {cell!r}.",
            "Expected 1 (the same), 0 (not), or a number between: how alike.",
        )
    return label


def names(path: Path) -> list[str]:
    """Return one name per line: of a .csv its column name, label or identity, else the lines of a text."""
    if path.suffix.lower() != ".csv":
        return _text(path).splitlines()
    header, lines = _opened(path)
    column = next((c for c in ("name", "label", "identity") if c in header), None)
    if column is None:
        raise BadInput(f"{path}: has no column name.", f"Found {', '.join(header) or 'nothing'}.")
    return [row[column] for _, row in _rows(path, header, lines, ())]


def parquet(path: Path) -> Items:
    """Return the vectors of a .parquet (n, d) with whose they are.

    It has a column label or name, and one of lists or many of numbers. Raises NotInstalled without pyarrow, BadInput,
    or Missing.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError:
        raise NotInstalled(f"{path}: .parquet needs pyarrow.", remedy="pip install pyarrow") from None
    try:
        table = arrow.parquet.read_table(path)
    except OSError as error:
        raise Missing(f"{path}: cannot be read.", f"{str(error).splitlines()[0]}.") from None
    except arrow.ArrowException as error:
        raise BadInput(f"{path}: not a .parquet.", str(error).splitlines()[0]) from None
    whose = next((column for column in _NAMES if column in table.column_names), None)
    if whose is None:
        raise BadInput(f"{path}: no column label or name.", f"Found: {', '.join(table.column_names)}.")
    columns = [column for column in table.column_names if column != whose]
    values: list[Any] = [table[column].to_pylist() for column in columns]
    try:
        vectors = np.array(values[0] if len(columns) == 1 else list(zip(*values, strict=True)), np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path}: the columns beside {whose} are not numbers.", str(error)) from None
    if vectors.ndim != 2:
        raise BadInput(f"{path}: the vectors have different lengths.")
    return of_vectors([str(name) for name in table[whose].to_pylist()], vectors)


def _vectors(path: Path, header: Sequence[str], lines: Iterator[list[str]], whose: str) -> Items:
    found: list[str] = []
    numbers: list[list[float]] = []
    for number, row in _rows(path, header, lines, (whose,)):
        found.append(row.pop(whose))
        try:
            numbers.append([float(value) for value in row.values()])
        except ValueError as error:
            raise BadInput(
                f"{path}: line {number} is neither a path nor a vector: {error}.",
                f"Found the columns {', '.join(header[:6])}{' …' if len(header) > 6 else ''}.",
                "Expected path and label, or label and numbers.",
            ) from None
    return of_vectors(found, np.array(numbers, np.float64))


def _opened(path: Path) -> tuple[list[str], Iterator[list[str]]]:
    """Return the columns of a .csv, and its lines below them: separated by commas, semicolons or tabs."""
    import csv

    text = _text(path)
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)  # the first of equals: the comma
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in next(lines, [])]
    except csv.Error as error:
        raise BadInput(f"{path}: not a table of text.", str(error)) from None
    twice = next((column for column in header if header.count(column) > 1), None)
    if twice is not None:
        raise BadInput(f"{path}: the column {twice!r} is there twice.", remedy="Keep one of the two.")
    return header, lines


def _text(path: Path) -> str:
    """Return a file's text: UTF-8, or UTF-16 as its first bytes say. Raises Missing, BadInput."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise refused(path, error) from None
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput(
            f"{path}: not a table of text in UTF-8: line {line}.",
            "Perhaps it was saved as Latin-1 or Windows-1252.",
            "Save it as CSV UTF-8, or: iconv -f latin1 -t utf-8 OLD.csv > NEW.csv",
        ) from None


def _rows(
    path: Path, header: Sequence[str], lines: Iterator[list[str]], columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, row) of a table. Raises BadInput without one of the columns, or for a cell too few or many."""
    import csv

    missing = [column for column in columns if column not in header]
    if missing:
        raise BadInput(
            f"{path}: no column {missing[0]!r}.",
            f"Found: {', '.join(header) or 'none'}.",
            f"The first line names them: {','.join(columns)}",
        )
    number, any_row = 1, False
    try:
        for number, cells in enumerate(lines, 2):
            if not cells or (len(cells) > 1 and not any(cell.strip() for cell in cells)):
                continue
            if len(cells) > len(header):
                raise BadInput(
                    f"{path}: line {number} has {len(cells)} cells, the first line {len(header)}.",
                    f"Found: {cells[: len(header) + 1]}",
                    'A comma within a cell wants quotes: "Smith, John"',
                )
            row = dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=True))
            for column in columns:
                if not row[column].strip():
                    raise BadInput(f"{path}: line {number} has no {column}.")
            any_row = True
            yield number, row
    except csv.Error as error:
        raise BadInput(f"{path}: not a table of text: line {number + 1}.", str(error)) from None
    if not any_row:
        raise BadInput(f"{path}: the table has no rows.")
