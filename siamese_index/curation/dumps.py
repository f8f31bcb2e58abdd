"""Dumps of other programs' PostgreSQL databases, as pg_dump writes them in plain text: CompreFace's and DeepFace's.

Only the rows of COPY blocks are read; no statement of a dump is run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput

from .records import Content, Record

_COPY = re.compile(rb'COPY (?:(?:\w+|"[^"]*")\.)?"?(\w+)"? \(([^)]*)\) FROM stdin;\s*$')
_ESCAPES = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_COMPREFACE = {"subject": "subject_name", "embedding": "subject_id"}  # tables, and a column of each
_DEEPFACE = {"img_name", "embedding", "model_name"}
Row = dict[str, bytes | None]


def read(path: Path) -> Content | None:
    """Return what a dump holds; None for a file that is none. Raises BadInput for one of something else."""
    if not path.is_file() or path.suffix.lower() not in (".sql", ".dump", ".txt", ".backup"):
        return None
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(b"PGDMP"):
        raise BadInput(f"{path}: this dump is packed.", remedy=f"Unpack it: pg_restore -f plain.sql {path.name}")
    if b"PostgreSQL database dump" not in head:
        return None
    tables: dict[str, list[Row]] = {}
    for name, rows in _tables(path):
        tables.setdefault(name, []).extend(rows)
    known = all({column} <= set(row) for table, column in _COMPREFACE.items() for row in tables.get(table, [])[:1])
    if set(_COMPREFACE) <= set(tables) and known:
        return _compreface(tables)
    if any(set(rows[0]) >= _DEEPFACE for rows in tables.values() if rows):
        return _deepface(next(rows for rows in tables.values() if rows and set(rows[0]) >= _DEEPFACE))
    raise BadInput(
        f"{path}: this is a dump of neither CompreFace nor DeepFace, or it has no COPY blocks.",
        f"Its tables: {', '.join(tables) or 'none'}.",
        "Dump it with pg_dump, without --inserts.",
    )


def _tables(path: Path) -> Iterator[tuple[str, list[Row]]]:
    """Yield the rows of the tables that are looked at, by the names of their columns."""
    with path.open("rb") as file:
        for line in file:
            head = _COPY.match(line)
            if not head:
                continue
            name, columns = (
                head[1].decode(),
                [column.strip(b' "').decode(errors="replace") for column in head[2].split(b",")],
            )
            wanted = name in ("subject", "embedding", "img", "embeddings")
            rows: list[Row] = []
            for row in file:
                if row.rstrip(b"\r\n") == b"\\.":
                    break
                if wanted:
                    values = [_value(value) for value in row.rstrip(b"\r\n").split(b"\t")]
                    if len(values) != len(columns):
                        raise BadInput(f"{path}: a row of {name} has {len(values)} values, not {len(columns)}.")
                    rows.append(dict(zip(columns, values, strict=True)))
            else:
                raise BadInput(f"{path}: it is cut short, in the rows of {name}.", remedy="Dump it again.")
            yield name, rows


def _value(text: bytes) -> bytes | None:
    if text == b"\\N":
        return None
    return re.sub(rb"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text) if b"\\" in text else text


def _numbers(text: bytes | None) -> NDArray[np.float32] | None:
    """Return an array of numbers, {0.1,0.2} or [0.1,0.2]. Raises BadInput."""
    if text is None:
        return None
    try:
        return np.array([float(x) for x in text.strip(b"{}[] ").split(b",")], np.float32)
    except ValueError:
        raise BadInput("A vector of the dump is not one of numbers.", f"{text[:60]!r}") from None


def _bytes(text: bytes | None) -> bytes | None:
    """Return a bytea, as \\x and hexadecimal digits."""
    if text is None or not text.startswith(b"\\x"):
        return None
    try:
        return bytes.fromhex(text[2:].decode("ascii"))
    except ValueError:
        return None


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def _compreface(tables: dict[str, list[Row]]) -> Content:
    names = {row.get("id"): _text(row.get("subject_name")) for row in tables["subject"]}
    pictures = {row.get("id"): row.get("content") for row in tables.get("img", [])}
    rows = [row for row in tables["embedding"] if row.get("subject_id") in names]
    vectors: list[NDArray[np.float32] | None] = [_numbers(row.get("embedding")) for row in rows]
    kinds = sorted({_text(row.get("calculator")) for row in rows})
    if len(kinds) > 1 and not any(pictures.values()):
        raise BadInput(f"Its vectors are of {len(kinds)} embedders: {', '.join(kinds)}.", "They cannot be compared.")
    if len(kinds) > 1:  # only the pictures say something
        vectors = [None] * len(rows)
    left_out = []
    if lost := len(tables["embedding"]) - len(rows):
        left_out.append(f"{lost} vectors were left out: their subjects are not in the dump.")
    twice = len(names) - len(set(names.values()))
    if twice:
        left_out.append(f"{twice} subjects have the name of another one, of another service perhaps: they are joined.")

    def made() -> Iterator[Record]:
        for row, vector in zip(rows, vectors, strict=True):
            picture = _bytes(pictures.get(row.get("img_id")))
            source = f"CompreFace {_text(row.get('id'))}"
            yield Record("identity", names[row.get("subject_id")], source, None, picture, vector)

    return Content(made(), None, _dimension(vectors), network=False, left_out=tuple(left_out))


def _deepface(rows: list[Row]) -> Content:
    kinds = sorted({_text(row.get("model_name")) for row in rows})
    if len(kinds) > 1:
        raise BadInput(f"Its vectors are of {len(kinds)} embedders: {', '.join(kinds)}.", "They cannot be compared.")
    vectors = [_numbers(row.get("embedding")) for row in rows]

    def made() -> Iterator[Record]:
        for row, vector in zip(rows, vectors, strict=True):
            source = _text(row.get("img_name"))
            yield Record("identity", _whose(source), source, None, None, vector)

    return Content(made(), None, _dimension(vectors), network=False)


def _whose(path: str) -> str:
    """Return whose a picture is, by its folder, or where it has none by its file's name without a number at the end."""
    folder, _, name = path.replace("\\", "/").rstrip("/").rpartition("/")
    stem = os.path.splitext(name)[0]  # noqa: PTH122  # a name from another system
    return folder.rpartition("/")[2] or re.sub(r"[-_ ]?\d+$", "", stem) or stem


def _dimension(vectors: list[NDArray[np.float32] | None]) -> int | None:
    lengths = {len(vector) for vector in vectors if vector is not None}
    if len(lengths) > 1:
        raise BadInput(f"Its vectors have {', '.join(map(str, sorted(lengths)))} numbers.", "Expected one length.")
    return next(iter(lengths), None)
